package redisstore_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/tests/harness"
)

// state returns all data that is derived from the registry: queues, indexes, lists and marks.
func (s *site) state(t *testing.T) map[string]any {
	t.Helper()
	ctx, state := t.Context(), map[string]any{}
	keys, err := s.rdb.Keys(ctx, s.prefix+"*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		name := strings.TrimPrefix(key, s.prefix)
		kind, _, _ := strings.Cut(name, ":")
		switch kind {
		case "settling":
			state[name] = s.rdb.ZRangeWithScores(ctx, key, 0, -1).Val()
		case "hosts", "vhost", "service":
			state[name] = s.rdb.HGetAll(ctx, key).Val()
		case "services", "dead":
			state[name] = s.rdb.SMembersMap(ctx, key).Val()
		case "frontend":
			state[name] = s.rdb.LRange(ctx, key, 0, -1).Val()
		}
	}
	return state
}

func TestReconcileRepairsDerivedData(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		broken   string // commands; Rollcall's keys begin with ~
		repaired app.Repairs
		differs  string // a part of the state that may differ afterwards
	}{
		{name: "a list is missing", broken: "DEL frontend:b.test", repaired: app.Repairs{Lists: 1}},
		{name: "the dead set is missing", broken: "DEL dead:a.test"},
		{name: "a slot is missing", broken: "LREM frontend:b.test 1 http://10.0.0.2:80", repaired: app.Repairs{Lists: 1}},
		{name: "a mark is missing", broken: "SREM dead:a.test 0"},
		{name: "a mark too many, of nobody", broken: "SADD dead:b.test 9"},
		{name: "a backend is missing", broken: "HDEL ~vhost:b.test http://10.0.0.2:80", repaired: app.Repairs{Instances: []string{"i2"}}},
		{name: "a backend is wrong", broken: "HSET ~vhost:b.test http://10.0.0.2:80 7_1_0_i2", repaired: app.Repairs{Instances: []string{"i2"}}},
		{name: "a backend is junk", broken: "HSET ~vhost:b.test http://10.0.0.2:80 junk", repaired: app.Repairs{Instances: []string{"i2"}}},
		{name: "a backend's name is junk", broken: "HSET ~vhost:b.test junk junk", repaired: app.Repairs{Orphans: []string{""}}},
		{name: "the index of vhosts is missing", broken: "HDEL ~hosts b.test", repaired: app.Repairs{Instances: []string{"i2"}}},
		{
			name: "a backend of an unregistered instance", broken: "HSET ~vhost:b.test http://10.0.0.9:80 1_1_0_i9 | RPUSH frontend:b.test http://10.0.0.9:80",
			repaired: app.Repairs{Orphans: []string{"i9"}}, differs: "frontend:b.test vhost:b.test settling dead:b.test",
		},
		{
			name: "a backend of an instance that is elsewhere", broken: "HSET ~vhost:b.test http://10.0.0.9:80 0_1_0_i1",
			repaired: app.Repairs{Orphans: []string{"i1"}},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			s.up(t, 2, hosts("a.test", "b.test"))
			s.up(t, 3)
			s.register(t, saying(4, hosts("c.test")))
			s.drain(t, 3)
			s.check(t, "i1", "--")
			until := s.clock.Now().Add(time.Hour)
			if _, _, err := s.verbs.Override(t.Context(), "i2", app.Override{Weight: 2, Until: until}); err != nil {
				t.Fatal(err)
			}
			s.wantList(t, "a.test", "web 1! 2 3! 2")
			before := s.state(t)

			for command := range strings.SplitSeq(c.broken, " | ") {
				s.do(t, command)
			}
			repairs, err := s.Reconcile(t.Context(), app.Everything)
			slices.Sort(repairs.Instances)
			if diff := cmp.Diff(c.repaired, repairs); diff != "" || err != nil {
				t.Errorf("repaired (-want +got), %v:\n%s", err, diff)
			}
			after := s.state(t)
			for name := range strings.FieldsSeq(c.differs) {
				delete(before, name)
				delete(after, name)
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("not as it was (-before +after):\n%s", diff)
			}
			if repairs, err := s.Reconcile(t.Context(), app.Everything); !repairs.None() || err != nil {
				t.Errorf("repaired %+v, %v when done again, want nothing", repairs, err)
			}
		})
	}
}

// Reconciliation must not take an instance that is registered meanwhile for an orphan.
func TestReconcileRunsBesideRegistrations(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var writers, reconciler sync.WaitGroup
	done := make(chan struct{})
	runs := 0
	reconciler.Go(func() {
		for {
			repairs, err := s.Reconcile(t.Context(), app.Everything)
			if err != nil || !repairs.None() {
				t.Errorf("repaired %+v, %v, want nothing", repairs, err)
			}
			runs++
			select {
			case <-done:
				return
			default:
			}
		}
	})
	for w := range 3 {
		writers.Go(func() {
			for round := range 60 {
				n := w*60 + round + 1
				s.register(t, saying(n, func(r *app.Registration) { r.Health = "none" }))
				if round%3 == 2 {
					s.deregister(t, n-1)
				}
				if round%3 == 1 { // and one moves
					s.register(t, saying(n, func(r *app.Registration) { r.Health = "none"; r.Port = 81 }))
				}
			}
		})
	}
	writers.Wait()
	close(done)
	reconciler.Wait()
	if runs < 5 {
		t.Errorf("only %d runs beside the writes", runs)
	}
	before := s.state(t)
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("repaired %+v, %v, want nothing", repairs, err)
	}
	if diff := cmp.Diff(before, s.state(t)); diff != "" {
		t.Errorf("reconciling changed (-before +after):\n%s", diff)
	}
}

func TestAnUnreadableInstanceBlocksNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 3 {
		s.up(t, n+1)
	}
	s.do(t, "SET ~instance:i2 garbage")
	instances, err := s.All(t.Context())
	if err != nil || len(instances) != 2 {
		t.Errorf("all are %v, %v, want the two that can be read", instances, err)
	}
	s.do(t, "DEL frontend:a.test")
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || repairs.Lists != 1 {
		t.Errorf("repaired %+v, %v, want the list", repairs, err)
	}
	s.wantList(t, "a.test", "web 1 2 3")
	rep := s.follow(t)
	harness.Await(t, "the replica has the two", func() bool { return len(rep.Instances("")) == 2 })
}
