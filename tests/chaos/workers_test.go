package chaos

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/probe"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/jobs"
	"rollcall/jobs/schedule"
	"rollcall/tests/harness"
)

// startWorker starts a worker in this process, with a clock of its own. leave ends it as SIGTERM does.
func (w *world) startWorker(rdb redis.UniversalClient, now func() time.Time) (leave func()) {
	w.t.Helper()
	store := redisstore.New(rdb, redisstore.Options{Settle: 2 * time.Second, Now: now})
	if err := store.SyncClock(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	verbs := registry.New(store, nil, store.Now, 500*time.Millisecond, func(context.Context, app.Step) {})
	rep := replica.New()
	worker := jobs.NewWorker(jobs.WorkerOptions{
		ID: jobs.WorkerID(), Shares: store, Peers: store, Prober: probe.New(probe.Options{Now: store.Now}), Registry: verbs, Replica: rep,
		Vhosts: store.Vhosts(), SettleTime: 2 * time.Second, Now: store.Now, Log: log, Changed: func(context.Context, app.EventKind, string) {},
	})
	runner := schedule.NewRunner(log, worker.Jobs()...)
	ctx, cancel := context.WithCancel(w.t.Context())
	var parts sync.WaitGroup
	parts.Go(func() { store.Follow(ctx, rep) })
	parts.Go(func() { runner.Run(ctx) })
	parts.Go(func() { worker.Work(ctx) })
	parts.Go(func() {
		store.Answer(ctx, redisstore.Asked{
			Shares: func() { _ = worker.Tick(ctx) }, Flush: worker.Asked, Probe: func(id string) { worker.ProbeNow(id, true) },
			Question: worker.Question, Opinion: worker.Opinion,
		})
	})
	return func() {
		cancel()
		parts.Wait()
	}
}

// clockStepped adds a worker whose clock steps after a while. The worker runs in this process: a test
// cannot change the clock of another process.
func clockStepped(by time.Duration) func(*world) {
	return func(w *world) {
		var step atomic.Int64
		w.drain = w.startWorker(w.Server.Client(w.t), func() time.Time { return time.Now().Add(time.Duration(step.Load())) })
		time.Sleep(2 * time.Second)
		step.Store(int64(by))
	}
}

// workers reads the ids of the workers, with their counters.
func (w *world) workers() map[string]string {
	w.t.Helper()
	workers, err := w.Redis.HGetAll(w.t.Context(), "rollcall:workers").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	return workers
}

// sharedBy reports an error unless n workers own all shards, and none of them more than its share.
func (w *world) sharedBy(n int) error {
	ctx := w.t.Context()
	workers, err := w.Redis.HGetAll(ctx, "rollcall:workers").Result()
	if err != nil {
		return err
	}
	shards, err := w.Redis.HGetAll(ctx, "rollcall:shards").Result()
	if err != nil {
		return err
	}
	delete(shards, "version")
	owned := map[string]int{}
	for _, term := range shards {
		owned[ownership.Term(term).Worker()]++
	}
	for id, count := range owned {
		if _, lives := workers[id]; !lives || count > ownership.Share(n) {
			err = errors.Join(err, fmt.Errorf("%s owns %d shards, alive: %t", id, count, lives))
		}
	}
	if len(workers) != n || len(shards) != ownership.Shards {
		err = errors.Join(err, fmt.Errorf("%d workers and %d owned shards, want %d and %d", len(workers), len(shards), n, ownership.Shards))
	}
	return err
}

// workerFrozenWithVerdicts freezes a worker while it has probed two failing backends once, and heals the backends
// before the worker continues: its next verdict would be wrong.
func workerFrozenWithVerdicts(w *world) {
	before := w.workers()
	w.hosts["shop.chaos"][0].becomes(harness.Hangs)
	w.hosts["news.chaos"][0].becomes(harness.Hangs)
	sleep(w.ctx, interval+timeout/2) // a probe of each is in progress or has failed
	w.crons[0].Signal(syscall.SIGSTOP)
	sleep(w.ctx, 6*time.Second)
	heal(w)
	w.frozen = maps.Clone(before)
	for id := range w.workers() {
		delete(w.frozen, id)
	}
}

// workerFenced continues the frozen worker. The other one owns all shards until the frozen one joins again.
func workerFenced(w *world) {
	if len(w.frozen) != 1 {
		w.t.Errorf("%d workers were dropped while one was frozen", len(w.frozen))
	}
	if err := w.sharedBy(1); err != nil {
		w.t.Errorf("while one worker is frozen: %v", err)
	}
	w.crons[0].Signal(syscall.SIGCONT)
	harness.Eventually(w.t, func() error { return w.sharedBy(2) })
}

// primaryKilledAmidHandOver has a third worker join, and kills the primary as soon as one shard is the third
// worker's: the first two workers are giving their shards back.
func primaryKilledAmidHandOver(w *world) {
	before := w.workers()
	w.mu.Lock()
	w.crons = append(w.crons, w.Process("cron"))
	w.mu.Unlock()
	harness.Eventually(w.t, func() error {
		for id := range w.workers() {
			if _, old := before[id]; !old {
				return nil
			}
		}
		return errors.New("the third worker has not joined")
	})
	w.Server.Kill()
}

func threeWorkersShare(w *world) {
	harness.Eventually(w.t, func() error { return w.sharedBy(3) })
}

// workersComeAndGo starts twenty workers for one to four seconds each. Every fourth one dies without a goodbye: its
// connections to Redis break first.
func workersComeAndGo(w *world) {
	r := rand.New(rand.NewPCG(20, 4))
	var all sync.WaitGroup
	for n := range 20 {
		client := redis.NewClient(&redis.Options{Addr: w.Server.Addr()})
		leave := w.startWorker(client, time.Now)
		lives := time.Second + time.Duration(r.Int64N(int64(3*time.Second)))
		all.Go(func() {
			sleep(w.ctx, lives)
			if n%4 == 3 {
				_ = client.Close()
			}
			leave()
			_ = client.Close()
		})
		sleep(w.ctx, 400*time.Millisecond)
	}
	all.Wait()
}

func twoWorkersLeft(w *world) {
	harness.Eventually(w.t, func() error { return w.sharedBy(2) })
}

// threeOfTwelveKilled has ten further workers join, and kills three of the twelve when each has its share.
func threeOfTwelveKilled(w *world) {
	for range 10 {
		p := w.Process("cron")
		w.mu.Lock()
		w.crons = append(w.crons, p)
		w.mu.Unlock()
	}
	harness.Eventually(w.t, func() error { return w.sharedBy(12) })
	sicken(harness.Hangs, 1)(w)
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, p := range w.crons[:3] {
		p.Kill()
	}
	w.crons = w.crons[3:]
}

// endedWhileStarting ends a process of each kind 0 to 200 ms after its start. Before its signal handler is in place, a
// process dies from SIGTERM.
func endedWhileStarting(w *world) {
	for lived := time.Duration(0); lived <= 200*time.Millisecond; lived += 20 * time.Millisecond {
		var all sync.WaitGroup
		for _, name := range []string{"web", "cron", "edge"} {
			p := w.Process(name)
			all.Go(func() {
				sleep(w.ctx, lived)
				if code := p.End(); code > 0 {
					w.t.Errorf("%s ended with %d, %s after its start", name, code, lived)
				}
			})
		}
		all.Wait()
	}
}
