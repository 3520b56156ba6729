package main

import (
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/app/replica"
	"rollcall/jobs"
)

// worked is what a worker did whose probes cost nothing.
type worked struct {
	Probes int
	CPU    float64 // seconds
	Late   float64 // ms, p99
}

// clockwork is a prober that answers at once, from no network.
type clockwork struct {
	now    func() time.Time
	probes atomic.Int64
}

func (c *clockwork) Probe(context.Context, app.Instance) app.Result {
	c.probes.Add(1)
	return app.Result{At: c.now(), Passed: true, Code: app.OK}
}

// lateness counts how late probes began, in ms.
type lateness struct{ counts [1000]atomic.Int64 }

func (l *lateness) note(d time.Duration) {
	l.counts[min(max(d.Milliseconds(), 0), int64(len(l.counts)-1))].Add(1)
}

// quantile is the lateness in ms that all but a part of the probes kept.
func (l *lateness) quantile(q float64) float64 {
	total, seen := int64(0), int64(0)
	for n := range l.counts {
		total += l.counts[n].Load()
	}
	for n := range l.counts {
		if seen += l.counts[n].Load(); float64(seen) >= q*float64(total) {
			return float64(n)
		}
	}
	return float64(len(l.counts))
}

// measured is how long a worker is measured, once it owns everything and every instance has
// been probed at its phase.
const measured = 10 * time.Second

// runWorker is the process of a worker with such a prober.
func runWorker(ctx context.Context, addr string) error {
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true})
	defer rdb.Close()
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	store := redisstore.New(rdb, redisstore.Options{Log: log})
	if err := store.SyncClock(ctx); err != nil {
		return err
	}
	prober, late, rep := &clockwork{now: store.Now}, atomic.Pointer[lateness]{}, replica.New()
	late.Store(&lateness{})
	worker := jobs.NewWorker(jobs.WorkerOptions{
		ID: jobs.WorkerID(), Shares: store, Peers: store, Prober: prober, Replica: rep, Now: store.Now, Log: log,
		Registry: app.NewRegistry(store, nil, store.Now, time.Second, func(context.Context, app.Step) {}),
		Changed:  func(context.Context, app.EventKind, string) {},
		Late:     func(d time.Duration) { late.Load().note(d) },
	})
	ctx, cancel := context.WithCancel(ctx)
	var parts sync.WaitGroup
	parts.Go(func() { store.Follow(ctx, rep) })
	parts.Go(func() { worker.Work(ctx) })
	parts.Go(func() { jobs.NewRunner(log, worker.Jobs()...).Run(ctx) })
	defer parts.Wait()
	defer cancel()
	for worker.Stats().Instances == 0 || worker.Stats().Shards < ownership.Shards {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		time.Sleep(100 * time.Millisecond)
	}
	time.Sleep(5 * time.Second)
	late.Store(&lateness{})
	began, used := prober.probes.Load(), ownCPU()
	time.Sleep(measured)
	w := worked{Probes: int(prober.probes.Load() - began), CPU: ownCPU() - used, Late: late.Load().quantile(.99)}
	if w.Probes == 0 {
		return fmt.Errorf("nothing was due")
	}
	return json.NewEncoder(os.Stdout).Encode(w)
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
