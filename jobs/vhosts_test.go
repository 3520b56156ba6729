package jobs_test

import (
	"context"
	"maps"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
)

const settleTime = 5 * time.Second

// vhosts keeps the departures of a registry by the same rules as the real store.
type vhosts struct {
	g *memoryStore

	mu       sync.Mutex
	leaving  map[string]map[string]int64
	removed  map[string]time.Time // by vhost
	refused  int
	compared map[string]map[string]bool // by vhost: the terms under which workers compared it
	searched int
}

func newVhosts(g *memoryStore) *vhosts {
	v := &vhosts{g: g, leaving: map[string]map[string]int64{}, removed: map[string]time.Time{}, compared: map[string]map[string]bool{}}
	g.vhosts = v
	return v
}

// forgetCompared forgets the terms under which workers have compared vhosts.
func (v *vhosts) forgetCompared() {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, terms := range v.compared {
		clear(terms)
	}
}

// depart marks a backend of a vhost.
func (v *vhosts) depart(host string) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.leaving[host] = map[string]int64{"http://10.0.0.1:80": v.g.now().Add(settleTime).UnixMilli()}
}

// present reports whether a fence names the present owner.
func (v *vhosts) present(f app.Fence) bool {
	v.g.mu.Lock()
	defer v.g.mu.Unlock()
	return string(v.g.table.Shards[f.Shard]) == f.Term
}

func (v *vhosts) Departures(_ context.Context, owns app.Owner) (int64, map[string]map[string]int64, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	mine := map[string]map[string]int64{}
	for host, leaving := range v.leaving {
		if _, is := owns(host); is {
			mine[host] = maps.Clone(leaving)
		}
	}
	return v.g.now().UnixMilli(), mine, nil
}

func (v *vhosts) RemoveSettled(_ context.Context, settled []app.Settled) (wrote int, refused []string, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for _, s := range settled {
		if !v.present(s.Fence) {
			v.refused++
			refused = append(refused, s.Host)
			continue
		}
		if maps.Equal(v.leaving[s.Host], s.Departures) {
			delete(v.leaving, s.Host)
			v.removed[s.Host] = time.Now()
			wrote++
		}
	}
	return wrote, refused, nil
}

func (v *vhosts) Compare(_ context.Context, owns app.Owner, _ int) (found app.Comparison, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	for host := range v.compared {
		if f, is := owns(host); is && !v.present(f) {
			found.Refused = append(found.Refused, host)
		} else if is {
			v.compared[host][f.Term] = true
		}
	}
	return found, nil
}

func (v *vhosts) FindMarks(context.Context, app.Owner) error {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.searched++
	return nil
}

func (v *vhosts) Reconcile(context.Context, app.Owner) (app.Repairs, error) {
	return app.Repairs{}, nil
}

// wait waits until the backends of all vhosts have been removed, and returns the time of each removal.
func (v *vhosts) wait(t *testing.T, want int) map[string]time.Time {
	t.Helper()
	for range 600 {
		v.mu.Lock()
		removed := maps.Clone(v.removed)
		v.mu.Unlock()
		if len(removed) == want {
			return removed
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Fatalf("only %d of %d backends were removed in a minute", len(v.removed), want)
	return nil
}

var hosts = []string{"a.test", "b.test", "c.test", "d.test", "e.test", "f.test", "g.test", "h.test"}

func TestASettleTimePassesOnTheOwnersClock(t *testing.T) {
	t.Parallel()
	for _, step := range []time.Duration{0, time.Hour, -time.Hour, 20 * time.Second, -20 * time.Second} {
		for _, after := range []time.Duration{50 * time.Millisecond, time.Second, 2500 * time.Millisecond} {
			t.Run(step.String()+" after "+after.String(), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					g := newMemoryStore()
					v := newVhosts(g)
					w := g.start(t, &prober{})
					time.Sleep(3700 * time.Millisecond)
					began := time.Now()
					v.depart("a.test")
					time.Sleep(after)
					g.ahead.Add(int64(step))
					took := v.wait(t, 1)["a.test"].Sub(began)
					if took < settleTime || took > settleTime+2*time.Second {
						t.Errorf("the backend was removed after %v, want %v", took, settleTime)
					}
					w.stop()
				})
			})
		}
	}
}

func TestAHandOverDoesNotShortenASettleTime(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*worker){
		"the owner stops":      (*worker).stop,
		"another worker joins": func(*worker) {},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := newMemoryStore()
				v := newVhosts(g)
				first := g.start(t, &prober{})
				time.Sleep(3 * time.Second)
				began := time.Now()
				for _, host := range hosts {
					v.depart(host)
				}
				time.Sleep(3500 * time.Millisecond)
				g.ahead.Add(int64(time.Hour))
				second := g.start(t, &prober{})
				leave(first)
				for host, at := range v.wait(t, len(hosts)) {
					// A removal may also wait for the next tick of each owner, and for the hand-over.
					if took := at.Sub(began); took < settleTime || took > settleTime+2500*time.Millisecond {
						t.Errorf("the backend of %s was removed after %v, want %v", host, took, settleTime)
					}
				}
				first.stop()
				second.stop()
			})
		})
	}
}

// TestOnlyTheOwnerWorksOnAVhost has two workers share the vhosts. One of them freezes, and later continues with the
// shards that it owned.
func TestOnlyTheOwnerWorksOnAVhost(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := newMemoryStore()
		v := newVhosts(g)
		for _, host := range hosts {
			v.compared[host] = map[string]bool{}
		}
		one, two := g.start(t, &prober{}), g.start(t, &prober{})
		time.Sleep(10 * time.Second)
		owned := map[bool]int{}
		for _, host := range hosts {
			_, first := one.Owns(host)
			_, second := two.Owns(host)
			if first == second {
				t.Errorf("%s is owned by both or none", host)
			}
			owned[first]++
		}
		if owned[true] == 0 || owned[false] == 0 {
			t.Fatalf("one worker owns all of them: %v", owned)
		}
		v.forgetCompared()
		for _, host := range hosts {
			v.depart(host)
		}
		v.wait(t, len(hosts))
		v.mu.Lock()
		for host, terms := range v.compared {
			if len(terms) != 1 {
				t.Errorf("%s was compared under the terms %v, want that of its owner", host, slices.Collect(maps.Keys(terms)))
			}
		}
		if v.refused > 0 || v.searched < 2 {
			t.Errorf("%d writes refused, %d searches for marks; want none and one of each worker", v.refused, v.searched)
		}
		v.mu.Unlock()

		// Another worker owns all shards. The store refuses the writes of the two workers, which still hold the old terms.
		g.mu.Lock()
		for shard := range g.table.Shards {
			g.table.Shards[shard] = "third 1"
		}
		g.mu.Unlock()
		v.forgetCompared()
		_ = one.Compare(t.Context())
		v.mu.Lock()
		for host, terms := range v.compared {
			if len(terms) > 0 {
				t.Errorf("a former owner has compared %s", host)
			}
		}
		v.mu.Unlock()
		one.stop()
		two.stop()
	})
}
