package jobs_test

import (
	"maps"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
)

// silent returns the network of a worker: the instances of the set do not answer, all others pass.
func silent(ids ...string) func(string) app.Code {
	return func(id string) app.Code { return map[bool]app.Code{true: app.TimedOut}[slices.Contains(ids, id)] }
}

// owner returns the worker that owns an instance.
func (g *memoryStore) owner(id string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.table.Shards[ownership.ShardOf(id)].Worker()
}

// owns counts the shards of a worker.
func (g *memoryStore) owns(id string) (n int) {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, term := range g.table.Shards {
		if term.Worker() == id {
			n++
		}
	}
	return n
}

// pair starts two workers, each with its own network. The first worker that it returns owns the
// instance.
func pair(t *testing.T, g *memoryStore, id string) (owner, peer *worker, ownerNet, peerNet *network) {
	t.Helper()
	ownerNet, peerNet = &network{}, &network{}
	owner, peer = g.start(t, ownerNet), g.start(t, peerNet)
	time.Sleep(10 * time.Second)
	if g.owner(id) != owner.ID {
		owner, peer, ownerNet, peerNet = peer, owner, peerNet, ownerNet
	}
	return owner, peer, ownerNet, peerNet
}

func TestAnInstanceThatAnotherWorkerReachesIsNotRemovedAndMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fleet(40)
		owner, peer, cut, _ := pair(t, g, "i7")
		cut.is(silent("i7"))
		time.Sleep(20 * time.Second)
		if got, want := g.happened(), []string{"worker-disputed"}; !slices.Equal(got, want) || owner.Stats().Disputed != 1 {
			t.Errorf("after 20 s: %v, want %v; %d are disputed", got, want, owner.Stats().Disputed)
		}
		if g.owner("i7") != owner.ID {
			t.Error("its shard has moved already")
		}
		time.Sleep(20 * time.Second)
		if g.owner("i7") != peer.ID || owner.Stats().Disputed != 0 {
			t.Errorf("after 40 s it is owned by %s, want %s; %d are disputed", g.owner("i7"), peer.ID, owner.Stats().Disputed)
		}
		if a, b := g.owns(owner.ID), g.owns(peer.ID); a != 128 || b != 128 {
			t.Errorf("the workers own %d and %d shards", a, b)
		}
		time.Sleep(5 * time.Minute)
		owner.stop()
		peer.stop()
		if got, want := g.happened(), []string{"worker-disputed"}; !slices.Equal(got, want) || g.refused > 0 {
			t.Errorf("five minutes later: %v, want %v; %d writes were refused", got, want, g.refused)
		}
	})
}

// A given shard does not move back when the receiver no longer reaches the instance.
func TestAShardMovesOnlyOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fleet(40)
		owner, peer, first, second := pair(t, g, "i7")
		first.is(silent("i7"))
		time.Sleep(40 * time.Second)
		first.is(silent())
		second.is(silent("i7"))
		time.Sleep(5 * time.Minute)
		if g.owner("i7") != peer.ID || g.state("i7") != app.Healthy {
			t.Errorf("it is owned by %s, want %s, and %s", g.owner("i7"), peer.ID, g.state("i7"))
		}
		owner.stop()
		peer.stop()
	})
}

// The other worker confirms the failure, does not answer, or has no opinion because it is cut off. The workers remove
// the instance as fast as a single worker does.
func TestADeathIsFoundAsFastWithSecondOpinions(t *testing.T) {
	t.Parallel()
	for name, peerIs := range map[string]func(g *memoryStore, net *network){
		"confirms": func(_ *memoryStore, net *network) { net.is(silent("i7")) },
		"hears no question": func(g *memoryStore, _ *network) {
			g.mu.Lock()
			defer g.mu.Unlock()
			g.workers = nil
		},
		"is cut off": func(_ *memoryStore, net *network) { net.is(everybody(app.TimedOut)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := fleet(40)
				owner, peer, ownerNet, peerNet := pair(t, g, "i7")
				peerIs(g, peerNet)
				ownerNet.is(silent("i7"))
				began := time.Now()
				for g.state("i7") == app.Healthy && time.Since(began) < time.Minute {
					time.Sleep(10 * time.Millisecond)
				}
				// An interval, two timeouts, 200 ms and a slot.
				if took := time.Since(began); took > 2*time.Second+2*time.Second+400*time.Millisecond {
					t.Errorf("it was removed after %s", took)
				}
				owner.stop()
				peer.stop()
			})
		})
	}
}

// One of two workers does not reach a third of the instances.
func TestAPartialPartitionRemovesNoInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fleet(300)
		owner, peer, cut, whole := pair(t, g, "i7")
		var third []string
		for n, id := range g.ids() {
			if n%3 == 0 {
				third = append(third, id)
			}
		}
		cut.is(silent(third...))
		time.Sleep(20 * time.Second)
		if got, want := g.happened(), []string{"worker-disputed"}; !slices.Equal(got, want) {
			t.Errorf("after 20 s: %v, want %v", got, want)
		}
		// Meanwhile an instance dies: neither worker reaches it.
		victim := third[slices.IndexFunc(third, func(id string) bool { return g.owner(id) == owner.ID })]
		whole.is(silent(victim))
		time.Sleep(8 * time.Second)
		if g.state(victim) != app.Unhealthy {
			t.Errorf("8 s after its death %s is %s", victim, g.state(victim))
		}
		time.Sleep(time.Minute)
		if n := g.owns(owner.ID); n != 0 {
			t.Errorf("the worker that does not reach a third owns %d shards", n)
		}
		cut.is(silent(victim))
		time.Sleep(20 * time.Second)
		if n := g.owns(owner.ID); n != 128 {
			t.Errorf("after the partition it owns %d shards", n)
		}
		owner.stop()
		peer.stop()
		if got, want := g.happened(), []string{victim + " unhealthy", "worker-disputed"}; !slices.Equal(got, want) || g.refused > 0 {
			t.Errorf("in the end: %v, want %v; %d writes were refused", got, want, g.refused)
		}
	})
}

// A lost answer does not remove a disputed instance. After 10 s without an answer its own results decide.
func TestADisputeOutlivesALostAnswer(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fleet(40)
		owner, peer, cut, _ := pair(t, g, "i7")
		cut.is(silent("i7"))
		time.Sleep(8 * time.Second)
		g.mu.Lock()
		hearers := g.workers
		g.workers = nil
		g.mu.Unlock()
		time.Sleep(4 * time.Second)
		g.mu.Lock()
		g.workers = hearers
		g.mu.Unlock()
		time.Sleep(4 * time.Second)
		if got := g.state("i7"); got != app.Healthy {
			t.Errorf("without answers for 4 s it is %s", got)
		}
		g.mu.Lock()
		g.workers = nil
		g.mu.Unlock()
		time.Sleep(14 * time.Second)
		if got := g.state("i7"); got != app.Unhealthy {
			t.Errorf("without answers for 14 s it is %s", got)
		}
		owner.stop()
		peer.stop()
	})
}

// With a fall of 1 the first failure is the only one, so the removal waits for the answer.
func TestAFallOfOneWaitsForTheOtherWorker(t *testing.T) {
	t.Parallel()
	for name, reached := range map[string]bool{"which reaches the instance": true, "which does not": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := fleet(12)
				for id, i := range g.instances {
					i.Check.Fall = 1
					g.instances[id] = i
				}
				owner, peer, here, there := pair(t, g, "i7")
				want := []string{"worker-disputed"}
				if here.is(silent("i7")); !reached {
					there.is(silent("i7"))
					want = []string{"i7 unhealthy"}
				}
				time.Sleep(20 * time.Second)
				if got := g.happened(); !slices.Equal(got, want) {
					t.Errorf("%v, want %v", got, want)
				}
				owner.stop()
				peer.stop()
			})
		})
	}
}

// All workers are cut off. They remove no instance, neither meanwhile nor afterwards. No shard moves
// after all workers have noticed.
func TestWorkersKeepTheirShardsWhenAllAreCutOff(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := fleet(60)
		owner, peer, here, there := pair(t, g, "i7")
		here.is(everybody(app.TimedOut))
		there.is(everybody(app.TimedOut))
		time.Sleep(30 * time.Second) // the first worker to notice gives its shards to the other one, which returns half of them
		g.mu.Lock()
		before := maps.Clone(g.table.Shards)
		g.mu.Unlock()
		time.Sleep(2 * time.Minute)
		if got, want := g.happened(), []string{"worker-benched", "worker-benched"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
		g.mu.Lock()
		if !maps.Equal(g.table.Shards, before) {
			t.Error("shards still move")
		}
		g.mu.Unlock()
		here.is(everybody(app.OK))
		there.is(everybody(app.OK))
		time.Sleep(10 * time.Second)
		if got, want := g.happened(), []string{"worker-back", "worker-back", "worker-benched", "worker-benched"}; !slices.Equal(got, want) {
			t.Errorf("afterwards: %v, want %v", got, want)
		}
		owner.stop()
		peer.stop()
	})
}

// Two processes have the same id, such as copies of a virtual machine. One of them takes another id.
func TestTwoWorkersWithOneIDShareTheInstances(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g, p := newMemoryStore(many(40)...), passing()
		first := g.startAs(t, "copy", p)
		time.Sleep(3 * time.Second)
		second := g.startAs(t, "copy", p)
		time.Sleep(5 * time.Second)
		g.mu.Lock()
		n := len(g.table.Workers)
		g.mu.Unlock()
		if n != 2 {
			t.Errorf("%d workers, want 2", n)
		}
		p.forget()
		time.Sleep(20 * time.Second)
		first.stop()
		second.stop()
		for id, times := range p.all() {
			if n := len(times); n < 9 || n > 11 {
				t.Errorf("%s was probed %d times in 20 s, want once in 2 s", id, n)
			}
		}
		if n := len(p.all()); n != 40 || g.refused > 0 {
			t.Errorf("%d instances were probed, and %d commits refused", n, g.refused)
		}
	})
}
