package jobs_test

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/jobs"
)

// olderView is the queue as a worker sees it that is older than every instance's document.
type olderView struct{ *queue }

func (q olderView) Claim(ctx context.Context, horizon time.Time, limit int) ([]app.Claim, error) {
	claims, err := q.queue.Claim(ctx, horizon, limit)
	for n := range claims {
		claims[n].Instance.Unknown = `{"check":{"zone":"a"}}`
	}
	return claims, err
}

func TestAnOlderWorkerLeavesNewerInstancesToANewerWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var instances []app.Instance
		for n := range 250 { // more than a worker claims at once
			instances = append(instances, instanceAt("i"+strconv.Itoa(n), time.Now()))
		}
		q := newQueue(instances...)
		passes := func(string, int) (bool, time.Duration) { return true, time.Millisecond }
		older, newer := &prober{answer: passes}, &prober{answer: passes}
		log := slog.New(slog.DiscardHandler)
		registry := app.NewRegistry(store{q}, time.Now, time.Second, func(context.Context, app.Step) {})
		ctx, cancel := context.WithCancel(t.Context())
		var running sync.WaitGroup
		for _, w := range []*jobs.Probe{
			jobs.NewProbe(olderView{q}, older, registry, time.Now, log, q.worker),
			jobs.NewProbe(q, newer, registry, time.Now, log, q.worker),
		} {
			running.Go(func() { w.Work(ctx) })
			running.Go(func() { jobs.NewRunner(log, w.Job()).Run(ctx) })
		}
		time.Sleep(21 * time.Second)
		cancel()
		running.Wait()
		if len(older.asked) > 0 {
			t.Errorf("the older worker probed %d instances, want none", len(older.asked))
		}
		for id := range q.instances {
			asked := newer.asked[id]
			if len(asked) < 9 {
				t.Errorf("the newer worker probed %s %d times in 21s, want 9 or more", id, len(asked))
			}
			for n := 2; n < len(asked); n++ {
				if gap := asked[n].Sub(asked[n-1]); gap > 3200*time.Millisecond {
					t.Errorf("%s was probed %s after the probe before, want an interval of 2s and a tick at most", id, gap)
				}
			}
		}
		for id, i := range q.instances {
			if i.State != app.Healthy || i.Rev != 1 {
				t.Errorf("%s is %s at revision %d, want it untouched", id, i.State, i.Rev)
			}
		}
	})
}

func TestNothingOfANewerInstanceEndsInAnOlderWorker(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := instanceAt("i", time.Now())
		i.State = app.Unhealthy
		q := newQueue(i)
		registry := app.NewRegistry(store{q}, time.Now, time.Second, func(context.Context, app.Step) {})
		tick := func(context.Context) (time.Duration, error) { return 0, nil }
		endings := []jobs.Ending{{Queue: olderView{q}, End: registry.Expire}, {Queue: olderView{q}, End: registry.Restore}}
		if err := jobs.Expire(endings, time.Now, tick, slog.New(slog.DiscardHandler)).Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := q.instances["i"]; got.State != app.Unhealthy || got.Rev != 1 {
			t.Errorf("the instance is %s at revision %d, want it untouched", got.State, got.Rev)
		}
		if due := time.Until(q.due["i"]); q.held["i"] || due <= 0 || due > 2*time.Second {
			t.Errorf("its entry is held: %v, and due in %s; want it put back for a newer worker", q.held["i"], due)
		}
	})
}
