package jobs_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/jobs"
)

// queue is an app.Queue and app.Store of the instances it is given, by the same rules
// as the real one, on the bubble's clock.
type queue struct {
	mu        sync.Mutex
	instances map[string]app.Instance
	due       map[string]time.Time
	held      map[string]bool // due is the end of a claim: nobody takes it ahead of that
	claims    int
	events    []string

	writing time.Duration // how long a commit takes
	lost    int           // commits whose claim was not good any more
}

func newQueue(instances ...app.Instance) *queue {
	q := &queue{instances: map[string]app.Instance{}, due: map[string]time.Time{}, held: map[string]bool{}}
	for _, i := range instances {
		q.instances[i.ID], q.due[i.ID] = i, i.Due
	}
	return q
}

func token(t time.Time) string { return strconv.FormatInt(t.UnixNano(), 10) }

func (q *queue) Claim(_ context.Context, horizon time.Time, limit int) ([]app.Claim, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var claims []app.Claim
	for id, due := range q.due {
		if !due.After(horizon) && (!q.held[id] || !due.After(time.Now())) && len(claims) < limit {
			i := q.instances[id]
			i.Due, q.held[id] = due, true
			q.due[id] = time.Now().Add(app.ClaimLease)
			claims = append(claims, app.Claim{Queue: "due", Instance: i, Due: due, Token: token(q.due[id])})
		}
	}
	slices.SortFunc(claims, func(a, b app.Claim) int { return a.Due.Compare(b.Due) })
	q.claims += len(claims)
	return claims, nil
}

func (q *queue) Renew(_ context.Context, claims []app.Claim) ([]app.Claim, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	var kept []app.Claim
	for _, c := range claims {
		if token(q.due[c.Instance.ID]) == c.Token {
			q.due[c.Instance.ID] = time.Now().Add(app.ClaimLease)
			c.Token = token(q.due[c.Instance.ID])
			kept = append(kept, c)
		}
	}
	return kept, nil
}

func (q *queue) Any(_ context.Context, n int) (some []app.Instance, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, i := range q.instances { // in no order
		if len(some) < n {
			some = append(some, i)
		}
	}
	return some, nil
}

func (q *queue) Settle(_ context.Context, settled []app.Settlement) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range settled {
		if token(q.due[s.Claim.Instance.ID]) == s.Claim.Token {
			q.due[s.Claim.Instance.ID], q.held[s.Claim.Instance.ID] = s.Due, false
		}
	}
	return nil
}

func (q *queue) Get(_ context.Context, id string) (app.Instance, error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.instances[id], nil
}

func (q *queue) Commit(_ context.Context, c app.Change) (app.Revision, error) {
	time.Sleep(q.writing)
	q.mu.Lock()
	defer q.mu.Unlock()
	for _, s := range c.Steps {
		if s.Claim != nil && token(q.due[s.Is.ID]) != s.Claim.Token {
			q.lost++
			return "", app.ErrClaimLost
		}
		s.Is.Rev++
		q.instances[s.Is.ID], q.due[s.Is.ID], q.held[s.Is.ID] = s.Is, s.Is.Due, false
		if s.Event != nil {
			q.events = append(q.events, s.Is.ID+" "+string(s.Event.Kind))
		}
	}
	return "1-1", nil
}

func (q *queue) worker(_ context.Context, kind app.EventKind, _ string) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.events = append(q.events, string(kind))
}

func (q *queue) Renewed(context.Context, app.Instance, time.Time, *app.Result) error { return nil }

func (q *queue) CanSpare(context.Context, app.Instance) (bool, error) { return true, nil }

// store is the queue as an app.Store: two methods of the same name differ.
type store struct{ *queue }

func (s store) Renew(ctx context.Context, i app.Instance, d time.Time, r *app.Result) error {
	return s.Renewed(ctx, i, d, r)
}

func (store) Serving(context.Context, string) ([]app.Instance, error) { return nil, nil }
func (store) ProbeNow(context.Context, string) error                  { return nil }

// prober answers by the instance's id, after a while, and notes when it was asked.
type prober struct {
	mu     sync.Mutex
	asked  map[string][]time.Time
	answer func(id string, n int) (passed bool, after time.Duration)
}

func (p *prober) Probe(ctx context.Context, i app.Instance) app.Result {
	p.mu.Lock()
	if p.asked == nil {
		p.asked = map[string][]time.Time{}
	}
	p.asked[i.ID] = append(p.asked[i.ID], time.Now())
	passed, after := p.answer(i.ID, len(p.asked[i.ID]))
	p.mu.Unlock()
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return app.Result{Code: app.Inconclusive}
	}
	if !passed {
		return app.Result{At: time.Now(), Code: app.Refused}
	}
	return app.Result{At: time.Now(), Passed: true}
}

func instanceAt(id string, due time.Time) app.Instance {
	return app.Instance{
		Rev: 1, ID: id, Service: "web", Address: "10.0.0.1:80", Check: app.DefaultCheck(app.TCP), State: app.Healthy, Due: due,
	}
}

// work runs a worker with its tick until the returned function is called.
func work(t *testing.T, q *queue, p app.Prober) (stop func()) {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	registry := app.NewRegistry(store{q}, time.Now, time.Second, func(context.Context, app.Step) {})
	worker := jobs.NewProbe(q, p, registry, time.Now, log, q.worker)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { worker.Work(ctx) })
	running.Go(func() { jobs.NewRunner(log, worker.Job()).Run(ctx) })
	return func() { cancel(); running.Wait() }
}

func TestEveryInstanceIsProbedOnceAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var instances []app.Instance
		for n := range 50 {
			instances = append(instances, instanceAt("i"+strconv.Itoa(n), time.Now()))
		}
		p := &prober{answer: func(string, int) (bool, time.Duration) { return true, 30 * time.Millisecond }}
		stop := work(t, newQueue(instances...), p)
		time.Sleep(21 * time.Second)
		stop()
		for id, asked := range p.asked {
			for n := 2; n < len(asked); n++ { // the first one finds its phase
				if gap := asked[n].Sub(asked[n-1]); gap < 1900*time.Millisecond || gap > 2100*time.Millisecond {
					t.Errorf("%s was probed %s after the probe before, want an interval of 2s, give or take a slot", id, gap)
				}
			}
			if len(asked) < 10 {
				t.Errorf("%s was probed %d times in 21s, want 10 or more", id, len(asked))
			}
		}
	})
}

func TestAFailureIsConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := newQueue(instanceAt("i", time.Now()))
		p := &prober{answer: func(string, int) (bool, time.Duration) { return false, time.Millisecond }}
		stop := work(t, q, p)
		time.Sleep(time.Second)
		stop()
		if got := q.instances["i"].State; got != app.Unhealthy {
			t.Errorf("the instance is %s a second after its first failure, want unhealthy", got)
		}
		if want := []string{"i unhealthy"}; !slices.Equal(q.events, want) {
			t.Errorf("events %v, want %v", q.events, want)
		}
		if gap := p.asked["i"][1].Sub(p.asked["i"][0]); gap > 350*time.Millisecond {
			t.Errorf("the second probe came %s after the first, want 200ms and a slot at most", gap)
		}
	})
}

// TestAFirstPassIsConfirmedAtOnce begins at moments all over the worker's tick: a probe
// that is due in 200 ms must not wait for the next one.
func TestAFirstPassIsConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	for _, state := range []app.State{app.Starting, app.Unhealthy, app.Failed} {
		for _, rise := range []int{1, 2, 3, 5} {
			for after := time.Duration(0); after < time.Second; after += 50 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					i := instanceAt("i", time.Now().Add(2*time.Second+after))
					i.State, i.Check.Rise, i.Check.Interval = state, rise, time.Hour
					q := newQueue(i)
					p := &prober{answer: func(string, int) (bool, time.Duration) { return true, time.Millisecond }}
					stop := work(t, q, p)
					time.Sleep(2*time.Second + after + 100*time.Millisecond + time.Duration(rise-1)*300*time.Millisecond)
					stop()
					if got := q.instances["i"].State; got != app.Healthy {
						t.Errorf("%s with a rise of %d, first probed %s after a tick: %s after %d passes at %v, want healthy 300 ms a pass later",
							state, rise, after, got, len(p.asked["i"]), p.asked["i"])
					}
				})
			}
		}
	}
}

func TestASlowTargetHoldsUpNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		instances := []app.Instance{instanceAt("quick", time.Now())}
		for n := range 500 {
			instances = append(instances, instanceAt("slow"+strconv.Itoa(n), time.Now()))
		}
		p := &prober{answer: func(id string, _ int) (bool, time.Duration) {
			if id == "quick" {
				return true, time.Millisecond
			}
			return false, 10 * time.Second
		}}
		stop := work(t, newQueue(instances...), p)
		time.Sleep(20 * time.Second)
		stop()
		for n := 2; n < len(p.asked["quick"]); n++ {
			if gap := p.asked["quick"][n].Sub(p.asked["quick"][n-1]); gap > 2100*time.Millisecond {
				t.Errorf("the quick one was probed %s after the probe before, while 500 slow ones hung", gap)
			}
		}
		for id, asked := range p.asked {
			for n := 1; n < len(asked); n++ {
				if gap := asked[n].Sub(asked[n-1]); id != "quick" && gap < 10*time.Second {
					t.Errorf("%s was probed again after %s, while its probe of 10s was under way", id, gap)
				}
			}
		}
	})
}

func TestAClaimLastsUntilItsChangeIsWritten(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		const many = 1500 // written 32 at once they take longer than a claim lasts
		var instances []app.Instance
		for n := range many {
			i := instanceAt("i"+strconv.Itoa(n), time.Now())
			i.State, i.Check.Rise = app.Starting, 1
			instances = append(instances, i)
		}
		q := newQueue(instances...)
		q.writing = 100 * time.Millisecond
		stop := work(t, q, &prober{answer: func(string, int) (bool, time.Duration) { return true, time.Millisecond }})
		time.Sleep(8 * time.Second)
		stop()
		if len(q.events) != many || q.lost > 0 {
			t.Errorf("%d of %d became healthy, and %d were probed in vain", len(q.events), many, q.lost)
		}
	})
}

func TestAWorkerThatStopsPutsBackWhatItHolds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		due := time.Now().Add(900 * time.Millisecond)
		hanging := time.Now()
		q := newQueue(instanceAt("waiting", due), instanceAt("hanging", hanging))
		p := &prober{answer: func(string, int) (bool, time.Duration) { return true, time.Hour }}
		stop := work(t, q, p)
		time.Sleep(100 * time.Millisecond)
		stop()
		if q.claims != 2 {
			t.Fatalf("%d checks were claimed, want both", q.claims)
		}
		if !q.due["waiting"].Equal(due) || !q.due["hanging"].Equal(hanging) {
			t.Errorf("put back as due at %s and %s, want when they were: %s and %s", q.due["waiting"], q.due["hanging"], due, hanging)
		}
		if len(q.events) != 0 || q.instances["hanging"].Streak != 0 {
			t.Errorf("a probe that was cut short counted: %v, streak %d", q.events, q.instances["hanging"].Streak)
		}
	})
}
