package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/redisstore/storetest"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/jobs"
)

// memoryStore is a store of instances and shards by the same rules as the real one, on the
// bubble's clock. Its replicas receive each change at once.
type memoryStore struct {
	mu        sync.Mutex
	table     *storetest.Table
	instances map[string]app.Instance
	records   map[int][]byte
	beats     map[string]int64
	replicas  []*replica.Replica
	workers   []*jobs.Worker
	events    []string
	revision  int
	asked     int           // the most records that one call read
	refused   int           // commits under another term than the present one
	writing   time.Duration // the duration of a commit
	away      bool          // every call fails
	failing   int           // the next commits fail
	hangs     bool          // the registry carries out calls and loses their answers
	ahead     atomic.Int64  // of its clock, ns
	vhosts    *vhosts       // nil: none

	statistics *statistics // nil: none
}

func newMemoryStore(instances ...app.Instance) *memoryStore {
	g := &memoryStore{table: storetest.NewTable(), instances: map[string]app.Instance{}, records: map[int][]byte{}, beats: map[string]int64{}}
	for _, i := range instances {
		g.instances[i.ID] = i
	}
	return g
}

func (g *memoryStore) now() time.Time { return time.Now().Add(time.Duration(g.ahead.Load())) }

func (g *memoryStore) failure() error {
	if g.away || g.hangs {
		return app.ErrUnavailable
	}
	return nil
}

func (g *memoryStore) Own(_ context.Context, c ownership.Call) (ownership.Reply, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.away {
		return ownership.Reply{}, app.ErrUnavailable
	}
	r, _ := g.table.Call(c)
	r.Now, r.Last = g.now().UnixMilli(), string(g.last())
	return r, g.failure()
}

func (g *memoryStore) last() app.Revision { return app.Revision(strconv.Itoa(g.revision) + "-0") }

func (g *memoryStore) Flush(_ context.Context, flushes []ownership.Flush) (refused []int, err error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if err := g.failure(); err != nil {
		return nil, err
	}
	for _, f := range flushes {
		if g.table.Shards[f.Shard] != f.Term {
			refused = append(refused, f.Shard)
			continue
		}
		g.records[f.Shard] = f.Record
	}
	return refused, nil
}

func (g *memoryStore) Flushed(_ context.Context, shards []int) ([][]byte, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	records := make([][]byte, len(shards))
	g.asked = max(g.asked, len(shards))
	for n, s := range shards {
		records[n] = g.records[s]
	}
	return records, g.failure()
}

func (g *memoryStore) Beats(_ context.Context, ids []string) (int64, []int64, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	beats := make([]int64, len(ids))
	for n, id := range ids {
		beats[n] = g.beats[id]
	}
	return g.now().UnixMilli(), beats, g.failure()
}

// SendQuestion and SendOpinion reach the other workers at once, unless the registry is away.
func (g *memoryStore) SendQuestion(_ context.Context, q ownership.Question) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		go w.Question(q)
	}
	return g.failure()
}

func (g *memoryStore) SendOpinion(_ context.Context, o ownership.Opinion) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, w := range g.workers {
		go w.Opinion(o)
	}
	return g.failure()
}

func (g *memoryStore) Get(_ context.Context, id string) (app.Instance, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	i, known := g.instances[id]
	if !known {
		return app.Instance{}, app.ErrNotFound
	}
	return i, g.failure()
}

func (g *memoryStore) Commit(_ context.Context, c app.Change) (app.Revision, error) {
	time.Sleep(g.writing)
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.failing > 0 {
		g.failing--
		return "", app.ErrUnavailable
	}
	if err := g.failure(); err != nil {
		return "", err
	}
	if c.Fence.Term != "" && string(g.table.Shards[c.Fence.Shard]) != c.Fence.Term {
		g.refused++
		return "", app.ErrNotOwner
	}
	for _, s := range c.Steps {
		if g.instances[s.Is.ID].Rev != s.Was.Rev {
			return "", app.ErrConflict
		}
		if s.Beat != nil && g.beats[s.Is.ID] != *s.Beat {
			return "", app.ErrNotOwner
		}
	}
	for n, s := range c.Steps {
		s.Is.Rev = app.NextRevision(s.Was.Rev)
		c.Steps[n].Is.Rev = s.Is.Rev
		if s.Is.State == app.Gone {
			delete(g.instances, s.Is.ID)
		} else {
			g.instances[s.Is.ID] = s.Is
		}
		if s.Event == nil {
			continue
		}
		g.events = append(g.events, s.Is.ID+" "+string(s.Event.Kind))
		g.revision++
		entry := app.Entry{Event: *s.Event, Instance: s.Is}
		if entry.Event.Revision = g.last(); s.Is.State == app.Gone {
			entry.Instance = app.Instance{}
		}
		for _, r := range g.replicas {
			r.Apply([]app.Entry{entry})
		}
	}
	return g.last(), nil
}

func (g *memoryStore) Assert(_ context.Context, i app.Instance, _ *app.Result) error {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.beats[i.ID] = g.now().UnixMilli()
	return g.failure()
}

func (g *memoryStore) Passed(context.Context, app.Instance, app.Fence) error { return nil }

func (g *memoryStore) ProbeNow(context.Context, string) error { return nil }

func (g *memoryStore) CanSpare(context.Context, app.Instance) (bool, error) { return true, nil }

func (g *memoryStore) Serving(context.Context, string) ([]app.Instance, error) { return nil, nil }

// change writes an instance as a web process does.
func (g *memoryStore) change(t *testing.T, id string, to func(app.Instance) app.Instance, kind app.EventKind) {
	t.Helper()
	g.mu.Lock()
	was := g.instances[id]
	g.mu.Unlock()
	is := to(was)
	is.ID = id
	event := &app.Event{Kind: kind, Instance: id, Service: is.Service}
	if _, err := g.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: was, Is: is, Event: event}}}); err != nil {
		t.Fatal(err)
	}
}

func (g *memoryStore) ids() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(maps.Keys(g.instances))
}

func (g *memoryStore) happened() []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return slices.Sorted(slices.Values(g.events))
}

func (g *memoryStore) state(id string) app.State {
	g.mu.Lock()
	defer g.mu.Unlock()
	if i, known := g.instances[id]; known {
		return i.State
	}
	return app.Gone
}

func (g *memoryStore) changed(_ context.Context, kind app.EventKind, _ string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.events = append(g.events, string(kind))
}

// worker is a worker with its jobs, as cron runs them.
type worker struct {
	*jobs.Worker
	cancel context.CancelFunc
	ended  sync.WaitGroup
}

var workers atomic.Int64 // for new ids

// start runs a worker until stop or kill.
func (g *memoryStore) start(t testing.TB, p app.Prober) *worker {
	t.Helper()
	return g.startAs(t, fmt.Sprint("w", workers.Add(1)), p)
}

func (g *memoryStore) startAs(t testing.TB, id string, p app.Prober) *worker {
	t.Helper()
	rep := replica.New()
	g.mu.Lock()
	rep.Reset(slices.Collect(maps.Values(g.instances)), g.last())
	g.replicas = append(g.replicas, rep)
	g.mu.Unlock()
	o := jobs.WorkerOptions{
		ID: id, Shares: g, Peers: g, Prober: p, Replica: rep, Now: g.now, Log: slog.New(slog.DiscardHandler), Changed: g.changed,
		Registry: registry.New(g, nil, g.now, time.Second, func(context.Context, app.Step) {}), SettleTime: settleTime,
	}
	if g.vhosts != nil {
		o.Vhosts = g.vhosts
	}
	if g.statistics != nil {
		o.Statistics, o.Scale = g.statistics, history.Default
	}
	w := &worker{Worker: jobs.NewWorker(o)}
	g.mu.Lock()
	g.workers = append(g.workers, w.Worker)
	g.mu.Unlock()
	ctx, cancel := context.WithCancel(t.Context())
	w.cancel = cancel
	w.ended.Go(func() { w.Work(ctx) })
	w.ended.Go(func() {
		for ctx.Err() == nil {
			g.mu.Lock()
			if !g.away && !g.hangs {
				rep.SetCurrent(time.Now())
			}
			g.mu.Unlock()
			_ = w.Tick(ctx)
			_ = w.End(ctx)
			_ = w.Flush(ctx)
			_ = w.Settle(ctx)
			_ = w.Compare(ctx)
			_ = w.Contribute(ctx)
			select {
			case <-time.After(time.Second):
			case <-ctx.Done():
			}
		}
	})
	return w
}

func (w *worker) stop() {
	w.cancel()
	w.ended.Wait()
}

// prober answers by the instance's id, after a delay, and records the time of each probe.
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
	at := time.Now()
	p.asked[i.ID] = append(p.asked[i.ID], at)
	passed, after := p.answer(i.ID, len(p.asked[i.ID]))
	p.mu.Unlock()
	select {
	case <-time.After(after):
	case <-ctx.Done():
		return app.Result{Code: app.Inconclusive}
	}
	if !passed {
		return app.Result{At: at, Latency: after, Code: app.Refused}
	}
	return app.Result{At: at, Latency: after, Passed: true}
}

func (p *prober) count(id string) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked[id])
}

// all returns the times of each instance's probes.
func (p *prober) all() map[string][]time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return maps.Clone(p.asked)
}

func (p *prober) forget() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.asked = nil
}

func passing() *prober {
	return &prober{answer: func(string, int) (bool, time.Duration) { return true, 10 * time.Millisecond }}
}

func healthy(id string) app.Instance {
	return app.Instance{
		Rev: 1, ID: id, Service: "web", Address: "10.0.0.1:80", Check: app.DefaultCheck(app.TCP), State: app.Healthy,
		RegisteredAt: time.Unix(1, 0), ChangedAt: time.Unix(1, 0),
	}
}

func many(n int) (all []app.Instance) {
	for k := range n {
		all = append(all, healthy("i"+strconv.Itoa(k)))
	}
	return all
}

func TestEveryInstanceIsProbedOnceAnInterval(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		p := passing()
		w := newMemoryStore(many(50)...).start(t, p)
		time.Sleep(21 * time.Second)
		w.stop()
		for id, asked := range p.all() {
			for n := 1; n < len(asked); n++ {
				if gap := asked[n].Sub(asked[n-1]); gap < 1890*time.Millisecond || gap > 2110*time.Millisecond {
					t.Errorf("%s was probed %s after the probe before, want an interval of 2s, give or take a slot", id, gap)
				}
			}
			if len(asked) < 9 {
				t.Errorf("%s was probed %d times in 21s, want 9 or more", id, len(asked))
			}
		}
		if len(p.all()) != 50 {
			t.Errorf("%d instances were probed, want 50", len(p.all()))
		}
	})
}

func TestANewInstanceIsProbedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p := newMemoryStore(), passing()
		w := g.start(t, p)
		time.Sleep(1234 * time.Millisecond)
		registered := time.Now()
		g.change(t, "new", func(app.Instance) app.Instance {
			i := healthy("new")
			i.Rev = 0
			return i.Begin(time.Now())
		}, app.EventRegistered)
		time.Sleep(time.Second)
		w.stop()
		if asked := p.all()["new"]; len(asked) == 0 || asked[0].Sub(registered) > 50*time.Millisecond {
			t.Errorf("probed at %v, registered at %s: want the first probe at once", asked, registered)
		}
		if s := g.state("new"); s != app.Healthy {
			t.Errorf("it is %s a second after it was registered, want healthy", s)
		}
	})
}

func TestAFailureIsConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore(healthy("i"))
		p := &prober{answer: func(string, int) (bool, time.Duration) { return false, time.Millisecond }}
		w := g.start(t, p)
		time.Sleep(2500 * time.Millisecond)
		w.stop()
		if s := g.state("i"); s != app.Unhealthy {
			t.Errorf("the instance is %s after its first failure, want unhealthy", s)
		}
		if want := []string{"i unhealthy"}; !slices.Equal(g.events, want) {
			t.Errorf("events %v, want %v", g.events, want)
		}
		if gap := p.all()["i"][1].Sub(p.all()["i"][0]); gap > 350*time.Millisecond {
			t.Errorf("the second probe came %s after the first, want 200ms and a slot at most", gap)
		}
	})
}

// A check that could not be made says nothing about the instance, so the next one does not wait for the interval.
func TestACheckThatCouldNotBeMadeIsMadeAgainSoon(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := healthy("i")
		i.Check.Interval = time.Hour
		g := newMemoryStore(i)
		var made atomic.Int32
		w := g.start(t, proberFunc(func(context.Context, app.Instance) app.Result {
			if made.Add(1) == 1 {
				return app.Result{At: time.Now(), Code: app.Inconclusive}
			}
			return app.Result{At: time.Now(), Passed: true}
		}))
		time.Sleep(i.Check.Interval) // the first check is due
		time.Sleep(10 * time.Second)
		w.stop()
		if n := made.Load(); n != 2 {
			t.Errorf("the check was made %d times in its interval and 10 s, want again after the one that could not be made", n)
		}
	})
}

// The passes begin at moments all over the worker's tick: a probe that is due in 200 ms must not
// wait for the next tick.
func TestEveryPassOfAnInstanceThatIsNotHealthyIsConfirmedAtOnce(t *testing.T) {
	t.Parallel()
	for _, state := range []app.State{app.Starting, app.Unhealthy, app.Failed} {
		for _, rise := range []int{1, 2, 3, 5} {
			for after := time.Duration(0); after < time.Second; after += 130 * time.Millisecond {
				synctest.Test(t, func(t *testing.T) {
					g, p := newMemoryStore(), passing()
					w := g.start(t, p)
					time.Sleep(2*time.Second + after)
					g.change(t, "i", func(app.Instance) app.Instance {
						i := healthy("i")
						i.Rev, i.State, i.Check.Rise, i.Check.Interval = 0, state, rise, time.Second
						return i
					}, app.EventRegistered)
					time.Sleep(1200*time.Millisecond + time.Duration(rise-1)*320*time.Millisecond)
					if s := g.state("i"); s != app.Healthy {
						t.Errorf("%s with a rise of %d: %s after %d passes at %v", state, rise, s, len(p.all()["i"]), p.all()["i"])
					}
					w.stop()
				})
			}
		}
	}
}

// A slow backend that is announced repeatedly gets its result, and one more probe.
func TestAnInstanceThatIsAnnouncedIsProbedAtOnceAndOnceMoreLater(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := healthy("i")
		i.Check.Interval, i.Check.Timeout = time.Minute, 2*time.Second
		g := newMemoryStore(i)
		p := &prober{answer: func(string, int) (bool, time.Duration) { return true, 700 * time.Millisecond }}
		w := g.start(t, p)
		time.Sleep(90 * time.Second)
		before := p.count("i")
		began := time.Now()
		if !w.ProbeNow("i", true) {
			t.Error("the first announcement brings no probe forward")
		}
		for range 8 {
			time.Sleep(100 * time.Millisecond)
			if w.ProbeNow("i", true) {
				t.Error("an announcement during the early probe begins another one")
			}
		}
		time.Sleep(5 * time.Second)
		w.stop()
		asked := p.all()["i"][before:]
		if len(asked) != 2 || asked[0].Sub(began) > 50*time.Millisecond || asked[1].Sub(began) > 1200*time.Millisecond {
			t.Errorf("probed at %v, announced at %s", asked, began)
		}
		if w.ProbeNow("another", true) {
			t.Error("an instance that is not there is probed")
		}
	})
}

func TestASlowTargetHoldsUpNoOther(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		instances := []app.Instance{healthy("quick")}
		for n := range 1500 {
			instances = append(instances, healthy("slow"+strconv.Itoa(n)))
		}
		p := &prober{answer: func(id string, _ int) (bool, time.Duration) {
			if id == "quick" {
				return true, time.Millisecond
			}
			return false, 10 * time.Second
		}}
		w := newMemoryStore(instances...).start(t, p)
		time.Sleep(25 * time.Second)
		w.stop()
		if n := len(p.all()["quick"]); n < 11 {
			t.Errorf("the quick one was probed %d times in 25s", n)
		}
		for n := 2; n < len(p.all()["quick"]); n++ {
			if gap := p.all()["quick"][n].Sub(p.all()["quick"][n-1]); gap > 2600*time.Millisecond {
				t.Errorf("the quick one was probed %s after the probe before, while 1500 slow ones hung", gap)
			}
		}
		for id, asked := range p.all() {
			for n := 1; n < len(asked); n++ {
				if gap := asked[n].Sub(asked[n-1]); id != "quick" && gap < 10*time.Second {
					t.Errorf("%s was probed again after %s, while its probe of 10s was under way", id, gap)
				}
			}
		}
	})
}

func TestWorkersShareTheInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore(many(400)...)
		var probers []*prober
		var all []*worker
		for range 4 {
			probers = append(probers, passing())
			all = append(all, g.start(t, probers[len(probers)-1]))
		}
		time.Sleep(5 * time.Second)
		g.mu.Lock()
		if g.asked > 32 {
			t.Errorf("the records of %d shards were read at once, want a bounded number", g.asked)
		}
		g.mu.Unlock()
		for _, w := range all {
			if s := w.Stats(); s.Shards != 64 || s.Workers != 4 {
				t.Errorf("a worker owns %d shards of 256 with %d workers, want 64 with 4", s.Shards, s.Workers)
			}
		}
		for _, p := range probers {
			p.forget()
		}
		time.Sleep(10 * time.Second)
		for _, id := range g.ids() {
			by := 0
			for _, p := range probers {
				if n := p.count(id); n > 0 {
					by++
					if n < 4 || n > 6 {
						t.Errorf("%s was probed %d times in 10s", id, n)
					}
				}
			}
			if by != 1 {
				t.Errorf("%s was probed by %d workers, want one", id, by)
			}
		}
		for _, w := range all {
			w.stop()
		}
	})
}

// gap returns the longest time between two probes of an instance by any of the probers.
func gap(id string, until time.Time, probers ...*prober) (longest time.Duration) {
	var all []time.Time
	for _, p := range probers {
		all = append(all, p.all()[id]...)
	}
	all = append(all, until)
	slices.SortFunc(all, time.Time.Compare)
	for n := 1; n < len(all); n++ {
		longest = max(longest, all[n].Sub(all[n-1]))
	}
	return longest
}

func TestTheSharesOfAWorkerThatStopsAreTakenAtOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, a, b := newMemoryStore(many(100)...), passing(), passing()
		first := g.start(t, a)
		second := g.start(t, b)
		time.Sleep(10 * time.Second)
		first.stop()
		time.Sleep(10 * time.Second)
		for _, id := range g.ids() {
			if d := gap(id, time.Now(), a, b); d > 3200*time.Millisecond+200*time.Millisecond {
				t.Errorf("%s was not probed for %s, want an interval and a tick at most", id, d)
			}
		}
		second.stop()
	})
}

func TestTheSharesOfAWorkerThatDiesAreTakenAfterALease(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, b := newMemoryStore(many(100)...), passing()
		second := g.start(t, b)
		// It dies after its first calls and leaves only its entries.
		dead := ownership.NewMember("dead")
		for range 5 {
			now := time.Now()
			r, err := g.Own(t.Context(), dead.Next(now, dead.Surplus(false)))
			if err != nil {
				t.Fatal(err)
			}
			dead.Apply(now, r)
			time.Sleep(time.Second)
		}
		if s := second.Stats(); s.Shards != 128 {
			t.Fatalf("the other worker owns %d shards, want 128", s.Shards)
		}
		time.Sleep(5 * time.Second)
		if s := second.Stats(); s.Shards != 256 || s.Workers != 1 {
			t.Errorf("5s after a worker died the other one owns %d shards with %d workers", s.Shards, s.Workers)
		}
		time.Sleep(2200 * time.Millisecond)
		for _, id := range g.ids() {
			asked := b.all()[id]
			if len(asked) == 0 || time.Since(asked[len(asked)-1]) > 2200*time.Millisecond {
				t.Errorf("%s is not probed an interval after its shard was taken", id)
			}
		}
		second.stop()
	})
}

func TestAWorkerStopsProbingWithoutRedisAndResumesAfterwards(t *testing.T) {
	t.Parallel()
	for _, hangs := range []bool{false, true} {
		t.Run(fmt.Sprintf("hangs %t", hangs), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g, p := newMemoryStore(many(40)...), passing()
				w := g.start(t, p)
				time.Sleep(6 * time.Second)
				g.mu.Lock()
				g.away, g.hangs = !hangs, hangs
				g.mu.Unlock()
				time.Sleep(4 * time.Second)
				before := p.count("i1")
				time.Sleep(20 * time.Second)
				if n := p.count("i1"); n != before {
					t.Errorf("probed %d times while its lease was over", n-before)
				}
				g.mu.Lock()
				g.away, g.hangs = false, false
				g.mu.Unlock()
				back := time.Now()
				time.Sleep(3300 * time.Millisecond)
				for id, asked := range p.all() {
					if last := asked[len(asked)-1]; last.Before(back) {
						t.Errorf("%s was not probed within an interval and a tick of Redis's return", id)
					}
				}
				w.stop()
				if len(g.events) > 0 || g.refused > 0 {
					t.Errorf("events %v, %d writes refused: want none", g.events, g.refused)
				}
			})
		})
	}
}

// A worker that was frozen must not write about an instance that another worker owns meanwhile.
func TestAFrozenWorkersResultIsRefused(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore(healthy("i"))
		was := g.instances["i"]
		r, _ := g.table.Call(ownership.Call{Worker: "frozen", Count: 1})
		shard := ownership.ShardOf("i")
		fence := app.Fence{Shard: shard, Term: string(r.Owned[shard])}
		other := g.start(t, passing())
		time.Sleep(8 * time.Second)
		verbs := registry.New(g, nil, time.Now, time.Second, func(context.Context, app.Step) {})
		was.Check.Fall = 1
		_, err := verbs.ApplyResult(t.Context(), registry.Outcome{Was: was, Result: app.Result{At: time.Now(), Code: app.Refused}, Fence: fence})
		if !errors.Is(err, app.ErrNotOwner) {
			t.Errorf("judging under %q while %s owns the shard: %v, want ErrNotOwner", fence.Term, g.table.Shards[shard], err)
		}
		other.stop()
		if s := g.state("i"); s != app.Healthy || len(g.events) > 0 {
			t.Errorf("the instance is %s, events %v", s, g.events)
		}
	})
}

func TestStatesEndOnTheWorkersClock(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		i    app.Instance
		ends time.Duration
		to   app.State
	}{
		"grace":  {app.Instance{State: app.Starting, Check: app.DefaultCheck(app.TCP)}, time.Minute, app.Failed},
		"forget": {app.Instance{State: app.Unhealthy, Check: app.DefaultCheck(app.TCP)}, 10 * time.Minute, app.Gone},
		"drain":  {app.Instance{State: app.Draining, DrainPeriod: 7 * time.Second, Check: app.DefaultCheck(app.TCP)}, 7 * time.Second, app.Gone},
		"lease":  {app.Instance{State: app.Healthy, Check: app.DefaultCheck(app.Heartbeat)}, app.DefaultCheck(app.Heartbeat).Lease(), app.Unhealthy},
	} {
		for _, step := range []time.Duration{0, -time.Hour, time.Hour, 20 * time.Second, -20 * time.Second} {
			t.Run(fmt.Sprintf("%s, clock set by %s", name, step), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					g := newMemoryStore()
					w := g.start(t, &prober{answer: func(string, int) (bool, time.Duration) { return false, time.Millisecond }})
					time.Sleep(2500 * time.Millisecond)
					g.change(t, "i", func(app.Instance) app.Instance {
						i := c.i
						i.ID, i.Service, i.Address, i.ChangedAt, i.RegisteredAt = "i", "web", "10.0.0.1:80", g.now(), g.now()
						return i
					}, app.EventRegistered)
					time.Sleep(c.ends / 2)
					g.ahead.Store(int64(step))
					time.Sleep(c.ends/2 - 2*time.Second)
					if s := g.state("i"); s != c.i.State {
						t.Errorf("it is %s 2s too early", s)
					}
					time.Sleep(4500 * time.Millisecond)
					if s := g.state("i"); s != c.to {
						t.Errorf("it is %s 2.5s after its time, want %s", s, c.to)
					}
					w.stop()
				})
			})
		}
	}
}

// The first commit fails, as on a busy Redis. Every state ends all the same.
func TestAFailedWriteLosesNoEndOfAState(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore()
		for n := range 10 {
			i := healthy(fmt.Sprint("i", n))
			i.State = app.Starting
			g.instances[i.ID] = i
		}
		w := g.start(t, proberFunc(func(context.Context, app.Instance) app.Result {
			return app.Result{At: time.Now(), Code: app.Refused}
		}))
		defer w.stop()
		time.Sleep(app.DefaultCheck(app.TCP).Grace - 5*time.Second)
		g.mu.Lock()
		g.failing = 3
		g.mu.Unlock()
		time.Sleep(20 * time.Second)
		for n := range 10 {
			if is := g.state(fmt.Sprint("i", n)); is != app.Failed {
				t.Errorf("i%d is %s after its grace, want failed", n, is)
			}
		}
	})
}

func TestNoPeriodRunsOutWhileTheCheckCannotBeMade(t *testing.T) {
	t.Parallel()
	for state, to := range map[app.State]app.State{app.Starting: app.Failed, app.Unhealthy: app.Gone, app.Failed: app.Gone} {
		for _, code := range []app.Code{app.NameServerFailed, app.Inconclusive} {
			t.Run(fmt.Sprintf("%s, %s", state, code), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					i := healthy("i")
					i.State, i.ChangedAt = state, time.Now()
					g := newMemoryStore(i)
					var now atomic.Uint32
					now.Store(uint32(code))
					w := g.start(t, proberFunc(func(context.Context, app.Instance) app.Result {
						return app.Result{At: time.Now(), Code: app.Code(now.Load())}
					}))
					time.Sleep(time.Hour)
					if s := g.state("i"); s != state {
						t.Errorf("after an hour it is %s, want %s", s, state)
					}
					now.Store(uint32(app.Refused))
					time.Sleep(i.Check.Forget + 5*time.Second)
					if s := g.state("i"); s != to && s != app.Gone {
						t.Errorf("when the check can be made it is %s, want %s", s, to)
					}
					w.stop()
				})
			})
		}
	}
}

func TestALeaseThatIsRenewedDoesNotEnd(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{0, -time.Hour, time.Hour, 3 * time.Second} {
		t.Run(fmt.Sprintf("clock set by %s", step), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				i := healthy("i")
				i.Check = app.DefaultCheck(app.Heartbeat)
				lease := i.Check.Lease()
				g := newMemoryStore(i)
				w := g.start(t, passing())
				for n := range 12 {
					time.Sleep(lease / 3)
					if n == 5 {
						g.ahead.Store(int64(step))
					}
					if err := g.Assert(t.Context(), i, nil); err != nil {
						t.Fatal(err)
					}
					if s := g.state("i"); s != app.Healthy {
						t.Fatalf("it is %s although it reports every %s", s, lease/3)
					}
				}
				time.Sleep(2*lease + 3*time.Second) // a step of the clock costs one lease at most
				if s := g.state("i"); s != app.Unhealthy {
					t.Errorf("it is %s two leases after its last report", s)
				}
				w.stop()
			})
		})
	}
}

func TestAHandOverShortensNoTimeAndCostsAFlushAtMost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := healthy("i")
		i.State = app.Unhealthy
		g := newMemoryStore(i)
		p := &prober{answer: func(string, int) (bool, time.Duration) { return false, time.Millisecond }}
		began := time.Now()
		var w *worker
		for range 5 {
			w = g.start(t, p)
			time.Sleep(time.Minute)
			w.stop()
		}
		w = g.start(t, p)
		time.Sleep(i.Check.Forget - time.Since(began) - time.Second)
		if s := g.state("i"); s != app.Unhealthy {
			t.Errorf("it is %s before its time", s)
		}
		time.Sleep(5*8*time.Second + 3*time.Second)
		if s := g.state("i"); s != app.Gone {
			t.Errorf("it is %s after five hand-overs and %s, want it gone after %s and a little", s, time.Since(began), i.Check.Forget)
		}
		w.stop()
	})
}

func TestAWorkerFlushesBeforeItStops(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p := newMemoryStore(many(30)...), passing()
		w := g.start(t, p)
		time.Sleep(19 * time.Second)
		w.stop()
		results := map[string]int{}
		for _, record := range g.records {
			_, entries, err := ownership.ReadRecord(record)
			if err != nil {
				t.Fatal(err)
			}
			for e := range entries {
				var h app.History
				h.Unpack(e.History)
				results[e.ID] = len(h.Results())
			}
		}
		for _, id := range g.ids() {
			if done := len(p.all()[id]); results[id] < done-1 || results[id] > done || done < 8 {
				t.Errorf("%s was probed %d times, and %d results are stored", id, done, results[id])
			}
		}
	})
}

func TestOneRunProbesDueInstancesAndLeaves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p := newMemoryStore(many(20)...), passing()
		run := func() {
			rep := replica.New()
			rep.Reset(slices.Collect(maps.Values(g.instances)), g.last())
			rep.SetCurrent(time.Now())
			w := jobs.NewWorker(jobs.WorkerOptions{
				ID: fmt.Sprint("once", workers.Add(1)), Shares: g, Peers: g, Prober: p, Replica: rep, Now: g.now, Log: slog.New(slog.DiscardHandler), Changed: g.changed,
				Registry: registry.New(g, nil, g.now, time.Second, func(context.Context, app.Step) {}),
			})
			if err := w.Once(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		for n := range 3 {
			time.Sleep(time.Minute)
			run()
			for _, id := range g.ids() {
				if got := p.count(id); got != n+1 {
					t.Errorf("%s was probed %d times by %d runs", id, got, n+1)
				}
			}
		}
		if len(g.table.Workers) > 0 || len(g.table.Shards) > 0 {
			t.Errorf("after the last run there are %d workers and %d owned shards", len(g.table.Workers), len(g.table.Shards))
		}
	})
}
