package ownership_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rollcall/app/ownership"
)

func TestShardsAreFNV1a(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]int{"": 0x25, "a": 0x8c, "foobar": 0xe8} { // the last byte of the published vectors
		if got := ownership.ShardOf(name); got != want {
			t.Errorf("ShardOf(%q) is %d, want %d", name, got, want)
		}
	}
}

func TestSharesCoverAllShards(t *testing.T) {
	t.Parallel()
	for workers, want := range map[int]int{0: 256, 1: 256, 2: 128, 3: 86, 255: 2, 256: 1, 300: 1} {
		if got := ownership.Share(workers); got != want {
			t.Errorf("Share(%d) is %d, want %d", workers, got, want)
		}
	}
}

// calls has a member call at the given seconds, with a peer that has the given counter.
func TestAWorkerIsGoneWhenItsCounterStandsStillThroughSuccessfulCalls(t *testing.T) {
	t.Parallel()
	const fails = -1
	for _, c := range []struct {
		name   string
		at     []float64 // seconds of the calls
		counts []int64   // of the peer, in the replies
		want   bool      // reported as gone with a call a second after the last
	}{
		{"silent for three seconds", []float64{0, 1, 2}, []int64{7, 7, 7}, true},
		{"silent for two", []float64{0, 1}, []int64{7, 7}, false},
		{"alive", []float64{0, 1, 2, 3}, []int64{7, 8, 9, 10}, false},
		{"lived a second ago", []float64{0, 1, 2, 3}, []int64{7, 7, 7, 8}, false},
		{"one of our calls failed", []float64{0, 1, 2}, []int64{7, fails, 7}, false},
		{"we were frozen", []float64{0, 10}, []int64{7, 7}, false},
		{"we were frozen, and it has been silent since", []float64{0, 10, 11, 12}, []int64{7, 7, 7, 7}, true},
		{"its counter went back in a failover", []float64{0, 1, 2, 3}, []int64{7, 7, 5, 5}, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			m, begin := ownership.NewMember("me"), time.Unix(1000, 0)
			var now time.Time
			for n, s := range c.at {
				now = begin.Add(time.Duration(s * float64(time.Second)))
				call := m.Next(now, nil)
				if c.counts[n] == fails {
					m.Failed()
					continue
				}
				m.Apply(now, ownership.Reply{Workers: []ownership.Peer{{Worker: "me", Count: call.Count}, {Worker: "peer", Count: c.counts[n]}}})
			}
			got := m.Next(now.Add(time.Second), nil).Gone
			if want := []ownership.Peer{{Worker: "peer", Count: c.counts[len(c.counts)-1]}}; c.want && !slices.Equal(got, want) || !c.want && len(got) > 0 {
				t.Errorf("reports %v as gone, want it reported: %t", got, c.want)
			}
		})
	}
}

func TestALeaseRunsFromWhenTheLastSuccessfulCallWasSent(t *testing.T) {
	t.Parallel()
	m, sent := ownership.NewMember("me"), time.Unix(1000, 0)
	if !m.Lost(sent) {
		t.Error("a worker has a lease before its first call")
	}
	m.Next(sent, nil)
	m.Apply(sent, ownership.Reply{})
	m.Next(sent.Add(time.Second), nil)
	m.Failed()
	if at := sent.Add(ownership.Lease - 1); m.Lost(at) {
		t.Error("the lease is over before 3s")
	}
	if at := sent.Add(ownership.Lease); !m.Lost(at) {
		t.Error("the lease lasts longer than 3s")
	}
}

func TestDueIsAStablePhaseWithinTheInterval(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	for range 10_000 {
		hash, now := r.Uint64(), r.Int64N(1<<42)
		interval := time.Duration(1+r.Int64N(100_000)) * time.Millisecond
		due := ownership.Due(hash, interval, ownership.Steady, now)
		if late := due - now; late <= 0 || late > interval.Milliseconds() {
			t.Fatalf("Due(%d, %s, Steady, %d) is %d ms later, want more than 0 and at most the interval", hash, interval, now, late)
		}
		if next := ownership.Due(hash, interval, ownership.Steady, due+r.Int64N(interval.Milliseconds())); next != due+interval.Milliseconds() {
			t.Fatalf("after %d the next is due at %d, want an interval of %s later", due, next, interval)
		}
		for pace, want := range map[ownership.Pace]time.Duration{ownership.Soon: time.Second, ownership.Now: 200 * time.Millisecond} {
			if got := ownership.Due(hash, interval, pace, now) - now; got != min(want, interval).Milliseconds() {
				t.Fatalf("pace %d with an interval of %s: due after %d ms", pace, interval, got)
			}
		}
	}
}

func TestPhasesAreSpread(t *testing.T) {
	t.Parallel()
	slots := make([]int, 20)
	for n := range 20_000 {
		due := ownership.Due(ownership.Hash(fmt.Sprintf("web-%d", n)), 2*time.Second, ownership.Steady, 0)
		slots[(due-1)/100]++
	}
	if least, most := slices.Min(slots), slices.Max(slots); least < 850 || most > 1150 {
		t.Errorf("20000 instances have %d to %d in a slot, want about 1000", least, most)
	}
}

// A wheel fires the same timers as a sorted list, in any order of sets, stops and repeated sets.
func TestAWheelFiresEveryTimerInItsSlot(t *testing.T) {
	t.Parallel()
	type timer = ownership.Timer[int]
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 3))
		now := r.Int64N(10_000)
		w := ownership.NewWheel[int](100, 16, now)
		timers := make([]timer, 200)
		values := make([]int, len(timers))
		due, setAt := map[int]int64{}, map[int]int64{}
		set := func(n int) {
			at := now + r.Int64N(5000) - 500
			w.Put(&timers[n], at)
			due[n], setAt[n] = at, now
		}
		for n := range timers {
			values[n] = n
			timers[n].Value = &values[n]
			set(n)
		}
		for range 200 {
			now += r.Int64N(400)
			if r.IntN(20) == 0 {
				now += r.Int64N(10_000)
			}
			w.Advance(now, func(n *int) {
				at, wanted := due[*n]
				if !wanted || at/100 > now/100 {
					t.Fatalf("history %d: timer %d fires at %d, set: %t, due at %d", seed, *n, now, wanted, at)
				}
				delete(due, *n)
				switch r.IntN(4) {
				case 0:
					set(*n)
				case 1: // another one, which may be in the slot that fires
					set(r.IntN(len(timers)))
				case 2:
					o := r.IntN(len(timers))
					w.Stop(&timers[o])
					delete(due, o)
				}
			})
			for n, at := range due {
				if max(at, setAt[n])/100 < now/100 {
					t.Fatalf("history %d: timer %d was due at %d and has not fired by %d", seed, n, at, now)
				}
			}
			if w.Len() != len(due) {
				t.Fatalf("history %d: the wheel holds %d timers, want %d", seed, w.Len(), len(due))
			}
		}
	}
}

func BenchmarkWheel(b *testing.B) {
	const n = 1_000_000
	w := ownership.NewWheel[int](100, 4096, 0)
	timers := make([]ownership.Timer[int], n)
	value := 0
	for k := range timers {
		timers[k].Value = &value
		w.Put(&timers[k], ownership.Due(uint64(k)*0x9e3779b97f4a7c15, 2*time.Second, ownership.Steady, 0))
	}
	now := int64(0)
	b.ResetTimer()
	for fired := 0; fired < b.N; {
		now += 100
		w.Advance(now, func(*int) { fired++ })
		if w.Len() < n/2 {
			for k := range timers {
				w.Put(&timers[k], now+int64(k%2000))
			}
		}
	}
}
