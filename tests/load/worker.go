package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/jobs"
)

// worked is what a worker did whose probes cost nothing.
type worked struct {
	Probes   int
	CPU      float64 // seconds, from claiming to settling
	Claiming float64 // seconds, of one
	Late     float64 // ms, p99
}

// clockwork is a prober that only notes how late it is.
type clockwork struct {
	now func() time.Time

	mu   sync.Mutex
	late []time.Duration
}

func (c *clockwork) Probe(_ context.Context, i app.Instance) app.Result {
	now := c.now()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.late = append(c.late, now.Sub(i.Due))
	return app.Result{At: now, Passed: true, Code: app.OK}
}

// runWorker is the process of a worker with such a prober, when a tenth of all is due each
// second.
func runWorker(ctx context.Context, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer rdb.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store := redisstore.New(rdb, redisstore.Options{Log: log})
	if err := store.SyncClock(ctx); err != nil {
		return err
	}
	prober := &clockwork{now: store.Now}
	claiming, err := allDue(ctx, store, rdb)
	if err != nil {
		return err
	}
	registry := app.NewRegistry(store, store.Now, time.Second, func(context.Context, app.Step) {})
	worker := jobs.NewProbe(store.Probes(), prober, registry, store.Now, log, func(context.Context, app.EventKind, string) {})
	ctx, cancel := context.WithTimeout(ctx, 9*time.Second)
	defer cancel()
	var parts sync.WaitGroup
	before := ownCPU()
	parts.Go(func() { worker.Work(ctx) })
	parts.Go(func() { jobs.NewRunner(log, worker.Job()).Run(ctx) })
	parts.Wait()
	used := ownCPU() - before
	if len(prober.late) == 0 {
		return fmt.Errorf("nothing was due")
	}
	slices.Sort(prober.late)
	return json.NewEncoder(os.Stdout).Encode(worked{Probes: len(prober.late), CPU: used, Claiming: claiming, Late: ms(prober.late[len(prober.late)*99/100])})
}

// allDue has all instances due within ten seconds from the next. It claims them twice
// before, as a worker has done that is not new, and returns the CPU of claiming one the
// second time.
func allDue(ctx context.Context, store *redisstore.Store, rdb *redis.Client) (claiming float64, err error) {
	ids, err := rdb.ZRange(ctx, "rollcall:due", 0, -1).Result()
	if err != nil {
		return 0, err
	}
	due := func(from time.Time, within time.Duration) error {
		p := rdb.Pipeline()
		for n, id := range ids {
			at := from.Add(time.Duration(n) * within / time.Duration(len(ids)))
			p.ZAddXX(ctx, "rollcall:due", redis.Z{Score: float64(at.UnixMilli()), Member: id})
			if p.Len() == 1000 || n == len(ids)-1 {
				if _, err := p.Exec(ctx); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for range 2 {
		if err := due(store.Now(), 0); err != nil {
			return 0, err
		}
		before, claimed := ownCPU(), 0
		for claimed < len(ids) {
			claims, err := store.Probes().Claim(ctx, store.Now(), 100)
			if err != nil {
				return 0, err
			}
			claimed += len(claims)
		}
		claiming = (ownCPU() - before) / float64(claimed)
	}
	return claiming, due(store.Now().Add(time.Second), 10*time.Second)
}

// ownCPU is the CPU time of this process in seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// output runs a program to its end and returns what it prints.
func (b *bench) output(program string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(b.ctx, program, args...)
	cmd.SysProcAttr = dieWithParent()
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", args[0], err)
	}
	return out, nil
}
