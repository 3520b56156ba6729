package jobs_test

import (
	"context"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/app/history"
	"rollcall/app/ownership"
)

// statistics adds batches by the same rules as the real store.
type statistics struct {
	g       *memoryStore
	mu      sync.Mutex
	last    map[string]int64
	total   map[string]*history.Record
	lost    int // replies still to lose
	resent  int // repeated batches
	compact map[string]int
}

func newStatistics(g *memoryStore) *statistics {
	s := &statistics{g: g, last: map[string]int64{}, total: map[string]*history.Record{}, compact: map[string]int{}}
	g.statistics = s
	return s
}

func (s *statistics) Contribute(_ context.Context, b history.Batch) (refused []int, err error) {
	s.g.mu.Lock()
	defer s.g.mu.Unlock()
	s.mu.Lock()
	defer s.mu.Unlock()
	if err := s.g.failure(); err != nil {
		return nil, err
	}
	if s.last[b.Worker] >= b.Number {
		s.resent++
		return nil, nil
	}
	for shard, term := range b.Terms {
		if s.g.table.Shards[shard] != ownership.Term(term) {
			refused = append(refused, shard)
		}
	}
	if len(refused) > 0 {
		return refused, nil
	}
	s.last[b.Worker] = b.Number
	for series, c := range b.Series {
		if s.total[series] == nil {
			s.total[series] = &history.Record{}
		}
		s.total[series].Merge(&c.Record)
	}
	if s.lost > 0 {
		s.lost--
		return nil, app.ErrUnavailable
	}
	return nil, nil
}

func (s *statistics) Compact(_ context.Context, f app.Fence, series string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.compact[series]++
	return nil
}

func (s *statistics) of(series string) history.Record {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.total[series] == nil {
		return history.Record{}
	}
	return *s.total[series]
}

func TestStatisticsCountEachCheckOnceAcrossHandOversAndLostReplies(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore(many(40)...)
		s := newStatistics(g)
		p := &prober{answer: func(_ string, n int) (bool, time.Duration) { return n%10 != 0, 0 }}
		began := time.Now()
		a := g.start(t, p)
		time.Sleep(70*time.Second + 30*time.Millisecond)
		b := g.start(t, p) // a gives half of its shards to b
		time.Sleep(20 * time.Second)
		s.mu.Lock()
		s.lost = 5
		s.mu.Unlock()
		time.Sleep(60 * time.Second)
		a.stop()
		time.Sleep(30 * time.Second)
		b.stop()
		lasted := time.Since(began)
		want := 0
		for _, asked := range p.all() {
			want += len(asked)
		}
		got := s.of("service:web")
		if int(got.Passed+got.Failed) != want || got.Failed == 0 {
			t.Errorf("%d checks passed and %d failed, want %d in all", got.Passed, got.Failed, want)
		}
		if s.resent == 0 {
			t.Error("no batch was sent again: the test shows nothing")
		}
		if got.Observed > lasted || got.Observed < lasted-5*time.Second || got.Up != got.Observed || got.Instances != 40 || got.Joined != 0 {
			t.Errorf("of %v, %v were observed, %v up; at most %d instances, %d joined", lasted, got.Observed, got.Up, got.Instances, got.Joined)
		}
	})
}

func TestAvailabilityIsTheTimeWithAHealthyInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		one := healthy("one")
		one.Hosts = []string{"shop.example.com"}
		g := newMemoryStore(one)
		s := newStatistics(g)
		w := g.start(t, passing())
		time.Sleep(10*time.Second + 300*time.Millisecond)
		become := func(o app.Override) {
			g.change(t, "one", func(i app.Instance) app.Instance { i.Override = o; return i }, app.EventUpdated)
		}
		become(app.Override{Maintenance: true, Until: time.Now().Add(time.Hour)})
		time.Sleep(20*time.Second + 400*time.Millisecond)
		become(app.Override{})
		time.Sleep(30 * time.Second)
		w.stop()
		for _, series := range []string{"service:web", "vhost:shop.example.com"} {
			got := s.of(series)
			if down := got.Observed - got.Up; (down-20400*time.Millisecond).Abs() > 20*time.Millisecond || got.Observed < 59*time.Second {
				t.Errorf("%s was down for %v of %v, want 20.4s of a minute", series, down, got.Observed)
			}
		}
	})
}

func TestTimeWithoutRedisIsUnknownAndAStepOfItsClockChangesNoSum(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore(many(5)...)
		s := newStatistics(g)
		p := &prober{answer: func(string, int) (bool, time.Duration) { return true, 0 }}
		began := time.Now()
		w := g.start(t, p)
		time.Sleep(30*time.Second + 30*time.Millisecond)
		g.ahead.Store(int64(24 * time.Hour))
		time.Sleep(30 * time.Second)
		g.ahead.Store(int64(-time.Hour))
		time.Sleep(30 * time.Second)
		set := func(away bool) { g.mu.Lock(); g.away = away; g.mu.Unlock() }
		set(true)
		time.Sleep(30 * time.Second)
		set(false)
		time.Sleep(30 * time.Second)
		w.stop()
		lasted, want := time.Since(began), 0
		for _, asked := range p.all() {
			want += len(asked)
		}
		got := s.of("service:web")
		if int(got.Passed) != want {
			t.Errorf("%d checks were counted, want %d", got.Passed, want)
		}
		if known := lasted - 30*time.Second; got.Observed > known+time.Second || got.Observed < known-5*time.Second {
			t.Errorf("%v were observed of %v with 30s without Redis", got.Observed, lasted)
		}
	})
}

func TestFlipsAndNewInstancesAreCounted(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		i := healthy("one")
		i.Check.Forget = time.Hour
		g := newMemoryStore(i, healthy("two"), healthy("three"))
		s := newStatistics(g)
		bad := func(id string, n int) (bool, time.Duration) { return id != "one" || n < 5 || n > 8, 0 }
		w := g.start(t, &prober{answer: bad})
		time.Sleep(100 * time.Second)
		g.mu.Lock()
		known := g.instances["one"].State
		g.mu.Unlock()
		w.stop()
		if got := s.of("service:web"); got.Flips != 2 || known != app.Healthy {
			t.Errorf("%d flips, and it is %s; want 2, healthy", got.Flips, known)
		}
	})
}
