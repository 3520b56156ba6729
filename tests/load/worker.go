package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/jobs"
	"rollcall/jobs/schedule"
)

// worked is the state of a worker on the simulated network, as it answers to GET /.
type worked struct {
	Probes    int64
	CPU       float64 // seconds since the process began
	Late      []int64 // how many probes began how many ms after they were due; the last counts all later ones
	Shards    int
	Instances int
}

// simulated is a network without cost: a prober that answers at once. Every second a number of instances begin to refuse
// connections, one after the other, each for downFor seconds. All workers of a registry see the same instances fail.
type simulated struct {
	now       func() time.Time
	instances int // with the ids sim-0, sim-1 ...
	failing   int // a second
	probes    atomic.Int64
}

const (
	simulatedID = "sim-"
	downFor     = 10 // seconds
)

func (s *simulated) Probe(_ context.Context, i app.Instance) app.Result {
	s.probes.Add(1)
	r := app.Result{At: s.now(), Passed: true, Code: app.OK, Latency: time.Millisecond}
	if s.failing > 0 && s.down(i.ID, int(r.At.Unix())) {
		r.Passed, r.Code = false, app.Refused
	}
	return r
}

// down reports whether an instance refuses connections in a second: the next failing instances begin with each.
func (s *simulated) down(id string, second int) bool {
	n := 0
	for at := len(simulatedID); at < len(id); at++ {
		n = 10*n + int(id[at]-'0')
	}
	after := (n - second*s.failing%s.instances + s.instances) % s.instances // how many instances begin in this second before it
	return after < s.failing || after >= s.instances-(downFor-1)*s.failing
}

// lateness counts how late probes began, in ms.
type lateness struct{ counts [1001]atomic.Int64 }

func (l *lateness) note(d time.Duration) {
	l.counts[min(max(d.Milliseconds(), 0), int64(len(l.counts)-1))].Add(1)
}

// lateBy is the lateness in ms that all but a part of the probes kept between two states of workers.
func lateBy(q float64, before, after []worked) float64 {
	counts := make([]int64, 1001)
	total := int64(0)
	for n := range after {
		for ms, count := range after[n].Late {
			counts[ms] += count - before[n].Late[ms]
			total += count - before[n].Late[ms]
		}
	}
	seen := int64(0)
	for ms, count := range counts {
		if seen += count; float64(seen) >= q*float64(total) {
			return float64(ms)
		}
	}
	return float64(len(counts))
}

// runWorker is the process of a worker on the simulated network, of n instances of which a number begins to fail each second.
func runWorker(ctx context.Context, addr, instances, failing string) error {
	n, _ := strconv.Atoi(instances)
	rate, _ := strconv.Atoi(failing)
	rdb := redis.NewClient(&redis.Options{Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, ReadTimeout: 2 * time.Second})
	defer rdb.Close()
	log := slog.New(slog.NewJSONHandler(os.Stderr, nil))
	store := redisstore.New(rdb, redisstore.Options{Log: log})
	if err := store.SyncClock(ctx); err != nil {
		return err
	}
	network, late, rep := &simulated{now: store.Now, instances: n, failing: rate}, &lateness{}, replica.New()
	worker := jobs.NewWorker(jobs.WorkerOptions{
		ID: jobs.WorkerID(), Shares: store, Peers: store, Prober: network, Replica: rep, Now: store.Now, Log: log,
		Registry: registry.New(store, nil, store.Now, time.Second, func(context.Context, app.Step) {}),
		Changed:  func(context.Context, app.EventKind, string) {},
		Late:     late.note,
	})
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	server := &http.Server{ReadHeaderTimeout: patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		s := worker.Stats()
		is := worked{Probes: network.probes.Load(), CPU: ownCPU(), Late: make([]int64, len(late.counts)), Shards: s.Shards, Instances: s.Instances}
		for ms := range late.counts {
			is.Late[ms] = late.counts[ms].Load()
		}
		_ = json.NewEncoder(w).Encode(is)
	})}
	var parts sync.WaitGroup
	defer parts.Wait()
	parts.Go(func() { store.Follow(ctx, rep) })
	parts.Go(func() { worker.Work(ctx) })
	parts.Go(func() { schedule.NewRunner(log, worker.Jobs()...).Run(ctx) })
	parts.Go(func() {
		store.Answer(ctx, redisstore.Asked{
			Shares: func() { _ = worker.Tick(ctx) },
			Flush:  worker.Asked,
			Probe:  func(id string) { worker.ProbeNow(id, false) },

			Question: worker.Question,
			Opinion:  worker.Opinion,
		})
	})
	context.AfterFunc(ctx, func() { _ = server.Close() })
	log.InfoContext(ctx, "worker is up", "addr", listener.Addr().String())
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

// ownCPU is the CPU time of this process in seconds.
func ownCPU() float64 {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}

// output runs a program to its end and returns its output.
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
