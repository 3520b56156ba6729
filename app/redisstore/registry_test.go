package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/registry"
)

// events returns all events since the beginning, as "registered i1, ...".
func (s *site) events(t *testing.T) string {
	t.Helper()
	events, err := s.Events(t.Context(), "0", 1000)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range events {
		out = append(out, string(e.Kind)+" "+e.Instance)
	}
	return strings.Join(out, ", ")
}

// expire ends the states whose period is over, as the owners of the instances do.
func (s *site) expire(t *testing.T) {
	t.Helper()
	all, err := s.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		i = s.get(t, i.ID)
		deadline, beat := i.Deadline(), int64(0)
		if !i.AssertedAt.IsZero() {
			beat = i.AssertedAt.UnixMilli()
		}
		if deadline.IsZero() || deadline.After(s.clock.Now()) {
			continue
		}
		if _, err := s.verbs.Expire(t.Context(), i, app.Fence{}, beat); err != nil && !errors.Is(err, app.ErrLastBackend) {
			t.Fatal(err)
		}
	}
}

func TestRegisteringAgainRepairsEveryFieldAndKeepsTheState(t *testing.T) {
	t.Parallel()
	ptr := func(d time.Duration) *time.Duration { return &d }
	n, never := 3, false
	base := func(r *app.Registration) {
		r.Health, r.Boot, r.Hosts = "/health", "boot-1", []string{"a.test", "b.test"}
		r.Tags, r.Meta = []string{"x"}, map[string]string{"k": "v"}
	}
	for _, c := range []struct {
		name string
		edit func(*app.Registration)
		is   app.State
		told app.EventKind // of the second registration; empty: no write
	}{
		{"the same", func(*app.Registration) {}, app.Healthy, ""},
		{"no boot", func(r *app.Registration) { r.Boot = "" }, app.Healthy, ""},
		{"other vhosts", func(r *app.Registration) { r.Hosts = []string{"b.test", "c.test"} }, app.Healthy, app.EventUpdated},
		{"another weight", weight(3), app.Healthy, app.EventUpdated},
		{"fail_open", func(r *app.Registration) { r.FailOpen = &never }, app.Healthy, app.EventUpdated},
		{"other tags", func(r *app.Registration) { r.Tags = nil }, app.Healthy, app.EventUpdated},
		{"other meta", func(r *app.Registration) { r.Meta = map[string]string{"k": "w"} }, app.Healthy, app.EventUpdated},
		{"replaces", func(r *app.Registration) { r.Replaces = "i7" }, app.Healthy, app.EventUpdated},
		{"another interval", func(r *app.Registration) { r.Interval = ptr(5 * time.Second) }, app.Healthy, app.EventUpdated},
		{"another timeout", func(r *app.Registration) { r.Timeout = ptr(2 * time.Second) }, app.Healthy, app.EventUpdated},
		{"other thresholds", func(r *app.Registration) { r.Rise, r.Fall = &n, &n }, app.Healthy, app.EventUpdated},
		{"another grace", func(r *app.Registration) { r.Grace, r.Forget = ptr(time.Hour), ptr(time.Hour) }, app.Healthy, app.EventUpdated},
		{"another path", func(r *app.Registration) { r.Health = "/other" }, app.Starting, app.EventRegistered},
		{"another port of the check", func(r *app.Registration) { r.Health = ":81/health" }, app.Starting, app.EventRegistered},
		{"another kind", func(r *app.Registration) { r.Health = "tcp" }, app.Starting, app.EventRegistered},
		{"another expectation", func(r *app.Registration) { r.Expect = []string{"204"} }, app.Starting, app.EventRegistered},
		{"another Host header", func(r *app.Registration) { r.HealthHost = "b.test" }, app.Starting, app.EventRegistered},
		{"another header", func(r *app.Registration) { r.HealthHeader = []string{"Authorization: Bearer new"} }, app.Healthy, app.EventUpdated},
		{"another method", func(r *app.Registration) { r.HealthMethod = "HEAD" }, app.Starting, app.EventRegistered},
		{"a gRPC service", func(r *app.Registration) { r.Health = "grpc:81/orders" }, app.Starting, app.EventRegistered},
		{"TLS", func(r *app.Registration) { r.Health = "https:81/health" }, app.Starting, app.EventRegistered},
		{"another address", func(r *app.Registration) { r.Address = "10.0.0.9" }, app.Starting, app.EventRegistered},
		{"another start", func(r *app.Registration) { r.Boot = "boot-2" }, app.Starting, app.EventRegistered},
		{"no check any more", func(r *app.Registration) { r.Health = "none" }, app.Healthy, app.EventRegistered},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, base)
			was := s.check(t, "i1", "-")
			s.clock.Pass(time.Second)

			reg := saying(1, base, c.edit)
			done := s.register(t, reg)
			is := s.get(t, "i1")
			if diff := cmp.Diff(done.Instance, is); diff != "" || done.New {
				t.Errorf("registered, new is %v (-said +stored):\n%s", done.New, diff)
			}
			want, _, err := reg.Instance()
			if err != nil {
				t.Fatal(err)
			}
			if want.Boot == "" {
				want.Boot = was.Boot
			}
			want.Rev, want.RegisteredAt = is.Rev, was.RegisteredAt
			want.ReplaceOver = want.Replaces != "" // there is no i7: the replacement is over
			want.State, want.Streak, want.StreakAt, want.Last, want.ChangedAt = was.State, was.Streak, was.StreakAt, was.Last, was.ChangedAt
			want.AssertedAt = was.AssertedAt
			switch c.told {
			case app.EventRegistered:
				if want.Boot != was.Boot {
					want.Claims.Rivals = []app.Rival{{Claimant: was.Boot, At: s.clock.Now()}}
				}
				if want.Address != was.Address {
					want.Claims.Moved = was.Address
				}
				want = want.Begin(s.clock.Now())
			case "":
				want.Rev = was.Rev
			default:
			}
			if diff := cmp.Diff(want, is); diff != "" || is.State != c.is {
				t.Errorf("it is %s, want %s (-want +got):\n%s", is.State, c.is, diff)
			}
			told := "registered i1, healthy i1"
			if c.told != "" {
				told += ", " + string(c.told) + " i1"
			}
			if got := s.events(t); got != told {
				t.Errorf("told %q, want %q", got, told)
			}
			if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
				t.Errorf("to reconcile: %+v, %v, want nothing", repairs, err)
			}
		})
	}
}

func TestAnAddressPassesToTheNextInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.up(t, 2)
	next := saying(3, func(r *app.Registration) { r.Address = "10.0.0.1" })
	s.register(t, next)
	s.wantList(t, "a.test", "web 1! 2") // the new instance has not passed yet
	if _, err := s.Get(t.Context(), "i1"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("i1: %v, want it gone", err)
	}
	want := "registered i1, healthy i1, registered i2, healthy i2, gone i1, registered i3"
	if got := s.events(t); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	s.check(t, "i3", "++")
	s.settle(t)
	s.wantList(t, "a.test", "web 1 2")

	// A registered instance also takes over an address. Other services are unaffected.
	s.register(t, saying(4, hosts("b.test"), func(r *app.Registration) { r.Service, r.Address = "api", "10.0.0.1" }))
	s.register(t, saying(2, func(r *app.Registration) { r.Address = "10.0.0.1" }))
	if _, err := s.Get(t.Context(), "i3"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("i3: %v, want it gone", err)
	}
	if got := s.get(t, "i4"); got.Service != "api" {
		t.Errorf("i4 is %+v, want it left alone", got)
	}
	s.check(t, "i2", "++")
	s.settle(t)
	s.wantList(t, "a.test", "web 1")
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("to reconcile: %+v, %v, want nothing", repairs, err)
	}
}

// An instance that has moved no longer writes to the backend at its former address, once another instance has it.
func TestAFormerAddressBelongsToItsNextInstance(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]func(*testing.T, *site){
		"the former instance leaves": func(t *testing.T, s *site) { s.deregister(t, 1) },
		"the former instance moves on": func(t *testing.T, s *site) {
			s.register(t, saying(1, func(r *app.Registration) { r.Address = "10.0.0.8" }))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			s.register(t, saying(1, func(r *app.Registration) { r.Address = "10.0.0.9" }))
			s.up(t, 2, func(r *app.Registration) { r.Address = "10.0.0.1" })
			leave(t, s)
			s.settle(t)
			s.wantList(t, "a.test", "web 1")
			if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
				t.Errorf("to reconcile: %+v, %v, want nothing", repairs, err)
			}
		})
	}
}

// A new container may have the address of a dead one of any service. It must not inherit the dead instance's health.
func TestANewStartRemovesTheInstancesAtItsAddress(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	start := func(n int, service, boot string) app.Registration {
		return saying(n, hosts(service+".test"), func(r *app.Registration) { r.Service, r.Boot, r.Address = service, boot, "10.0.0.1" })
	}
	for n, service := range []string{"web", "admin"} { // one container may serve both
		s.register(t, start(n+1, service, "b1"))
		s.check(t, fmt.Sprint("i", n+1), "++")
	}
	s.register(t, start(3, "status", ""))
	s.register(t, start(4, "cache", "b2"))
	var left []string
	all, err := s.All(t.Context())
	for _, i := range all {
		left = append(left, i.ID)
	}
	slices.Sort(left)
	if want := []string{"i3", "i4"}; err != nil || !slices.Equal(left, want) {
		t.Errorf("left are %v, %v, want %v", left, err, want)
	}
	want := "registered i1, healthy i1, registered i2, healthy i2, registered i3, gone i2, gone i1, registered i4"
	if got := s.events(t); got != want {
		t.Errorf("told %q, want %q", got, want)
	}
	s.wantList(t, "web.test", "") // no instance serves it any more
	if again := s.register(t, start(4, "cache", "b2")); again.New {
		t.Error("what is known is new")
	}
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("to reconcile: %+v, %v, want nothing", repairs, err)
	}
}

func TestConcurrentRegistrationsOfAnAddressLeaveOneInstance(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	var all sync.WaitGroup
	for n := range 5 {
		all.Go(func() {
			reg := saying(n+1, func(r *app.Registration) { r.Address, r.Health = "10.0.0.1", "none" })
			if _, err := s.verbs.Register(t.Context(), reg); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	instances, err := s.All(t.Context())
	if err != nil || len(instances) != 1 {
		t.Errorf("registered are %v, %v, want one", instances, err)
	}
	s.wantList(t, "a.test", "web 1")
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("to reconcile: %+v, %v, want nothing", repairs, err)
	}
}

func TestAHostOrAddressOfAnotherServiceIsRefused(t *testing.T) {
	t.Parallel()
	for field, edit := range map[string]func(*app.Registration){
		"id":   func(r *app.Registration) { r.ID = "i1" },
		"host": hosts("b.test", "a.test"),
	} {
		t.Run(field, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			before, told := s.state(t), s.events(t)
			probed := s.hurried(t)
			_, err := s.verbs.Register(t.Context(), saying(2, func(r *app.Registration) { r.Service, r.Hosts = "api", []string{"b.test"} }, edit))
			refused, ok := errors.AsType[*app.FieldError](err)
			if !ok || refused.Field != field || !refused.Held || !errors.Is(err, app.ErrConflict) {
				t.Errorf("got %v, want the field %s held by another service", err, field)
			}
			if got := probed(); !slices.Equal(got, []string{"i1"}) {
				t.Errorf("%q are probed at once, want the holder", got)
			}
			s.check(t, "i1", "+")
			after := s.state(t)
			if diff := cmp.Diff(before, after); diff != "" || s.events(t) != told {
				t.Errorf("something was written, told %q (-before +after):\n%s", s.events(t), diff)
			}
		})
	}
}

func TestDrainingIsFinalForThisStartOfTheContainer(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ was, is string }{{"boot-1", "boot-1"}, {"boot-1", "boot-2"}, {"boot-1", ""}, {"", "boot-2"}, {"", ""}} {
		t.Run(fmt.Sprintf("%q then %q", c.was, c.is), func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, func(r *app.Registration) { r.Boot = c.was })
			s.up(t, 2)
			s.drain(t, 1)
			s.wantList(t, "a.test", "web 1! 2")
			_, err := s.verbs.Register(t.Context(), saying(1, func(r *app.Registration) { r.Boot = c.is }))
			if c.is != "" && c.is == c.was {
				if !errors.Is(err, app.ErrGone) {
					t.Errorf("got %v, want it gone", err)
				}
				err = s.verbs.Report(t.Context(), "i1", true, "")
				if !errors.Is(err, app.ErrGone) {
					t.Errorf("heartbeat: got %v, want it gone", err)
				}
				s.clock.Pass(hold)
				s.expire(t)
				if _, err := s.Get(t.Context(), "i1"); !errors.Is(err, app.ErrNotFound) {
					t.Errorf("after the hold: %v, want it not found", err)
				}
				return
			}
			if i := s.get(t, "i1"); err != nil || i.State != app.Starting || i.Boot != max(c.is, c.was) {
				t.Errorf("got %v, %s with boot %q, want it to begin anew", err, i.State, i.Boot)
			}
			s.wantList(t, "a.test", "web 1! 2")
			s.check(t, "i1", "++")
			s.wantList(t, "a.test", "web 1 2")
			s.clock.Pass(time.Hour)
			s.expire(t)
			s.wantList(t, "a.test", "web 1 2")
		})
	}
}

func TestReplacesTakesOverInTheStepInWhichItBecomesHealthy(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.register(t, saying(2, func(r *app.Registration) { r.Replaces = "i1" }))
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1")
	before := s.rdb.XLen(t.Context(), s.prefix+"events").Val()
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1! 2")
	if i := s.get(t, "i1"); i.State != app.Draining || i.DrainPeriod != hold {
		t.Errorf("i1 is %s for %v, want draining for the hold", i.State, i.DrainPeriod)
	}
	want := "registered i1, healthy i1, registered i2, healthy i2, draining i1"
	if got := s.events(t); got != want || before != 3 {
		t.Errorf("told %q, want %q, the last two at once", got, want)
	}
	s.clock.Pass(hold)
	s.expire(t)
	s.settle(t)
	s.wantList(t, "a.test", "web 2")
}

// Both steps are made or neither, also if the replaced instance is written in between.
func TestATakeoverIsDecidedAgainWhenItWasDisturbed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.register(t, saying(2, func(r *app.Registration) { r.Replaces = "i1" }))
	s.check(t, "i2", "+")
	disturbed := &meddler{Store: s.Store, once: func() { s.register(t, saying(1, weight(2))) }}
	s.verbs = registry.New(disturbed, nil, s.Now, hold, func(context.Context, app.Step) {})
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1! 1! 2")
	if i := s.get(t, "i1"); i.State != app.Draining || i.Weight != 2 {
		t.Errorf("i1 is %s with weight %d, want draining and 2", i.State, i.Weight)
	}
}

// meddler is a store on which another writer writes just before the next commit.
type meddler struct {
	registry.Store
	once func()
}

func (m *meddler) Commit(ctx context.Context, c app.Change) (app.Revision, error) {
	if once := m.once; once != nil {
		m.once = nil // the other writer's calls come here, too
		once()
	}
	return m.Store.Commit(ctx, c)
}

func TestAnInstanceThatNeverBecomesHealthyReplacesNoOther(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.register(t, saying(2, func(r *app.Registration) { r.Replaces = "i1" }))
	s.check(t, "i2", "--+---")
	s.clock.Pass(time.Minute)
	s.expire(t)
	if got := s.get(t, "i2").State; got != app.Failed {
		t.Errorf("i2 is %s, want failed", got)
	}
	s.wantList(t, "a.test", "web 1")
	s.clock.Pass(10 * time.Minute)
	s.expire(t)
	if _, err := s.Get(t.Context(), "i2"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("i2: %v, want it forgotten", err)
	}
	s.wantList(t, "a.test", "web 1")
	if got := s.get(t, "i1").State; got != app.Healthy {
		t.Errorf("i1 is %s, want healthy", got)
	}
}

func TestAHeartbeatsLease(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	beats := func(r *app.Registration) { r.Health = "heartbeat" }
	i := s.register(t, saying(2, beats)).Instance
	lease := i.Check.Lease()
	report := func(passed bool) {
		t.Helper()
		if err := s.verbs.Report(t.Context(), "i2", passed, "said so"); err != nil {
			t.Fatal(err)
		}
	}
	is := func(want app.State, list string) {
		t.Helper()
		s.expire(t)
		if got := s.get(t, "i2").State; got != want {
			t.Errorf("it is %s, want %s", got, want)
		}
		s.wantList(t, "a.test", list)
	}
	is(app.Starting, "web 1")
	report(true)
	is(app.Healthy, "web 1 2")
	for range 5 {
		s.clock.Pass(lease - time.Millisecond)
		is(app.Healthy, "web 1 2")
		report(true)
	}
	s.clock.Pass(lease)
	is(app.Unhealthy, "web 1 2!")
	report(true)
	for range app.CalmAfter/(lease-time.Millisecond) + 1 { // otherwise its second fall makes it wait
		s.clock.Pass(lease - time.Millisecond)
		report(true)
	}
	is(app.Healthy, "web 1 2")
	report(false)
	is(app.Healthy, "web 1 2")
	report(false)
	is(app.Unhealthy, "web 1 2!")
	s.clock.Pass(i.Check.Forget - time.Second)
	s.register(t, saying(2, beats)) // unhealthy, but not gone
	s.clock.Pass(i.Check.Forget - time.Second)
	is(app.Unhealthy, "web 1 2!")
	report(true)
	is(app.Healthy, "web 1 2")

	s.clock.Pass(lease)
	is(app.Unhealthy, "web 1 2!")
	s.clock.Pass(i.Check.Forget)
	s.expire(t)
	if err := s.verbs.Report(t.Context(), "i2", true, ""); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("a report of who is forgotten: %v, want not found", err)
	}
}

func TestALateResultDoesNotCount(t *testing.T) {
	t.Parallel()
	for name, meanwhile := range map[string]func(*testing.T, *site){
		"another worker has the shard": func(t *testing.T, s *site) {
			s.rdb.HSet(t.Context(), s.prefix+"shards", ownership.ShardOf("i1"), "other 1")
		},
		"the shard table is gone": func(t *testing.T, s *site) { s.rdb.Del(t.Context(), s.prefix+"shards") },
		"the same worker took the shard again": func(t *testing.T, s *site) {
			s.rdb.HSet(t.Context(), s.prefix+"shards", ownership.ShardOf("i1"), "me 2")
		},
		"begun anew": func(t *testing.T, s *site) {
			s.clock.Pass(time.Second)
			s.register(t, saying(1, func(r *app.Registration) { r.Boot = "another" }))
		},
		"moved": func(t *testing.T, s *site) {
			s.register(t, saying(1, func(r *app.Registration) { r.Address = "10.0.0.99:80" }))
		},
		"gone": func(t *testing.T, s *site) { s.deregister(t, 1) },
		"gone, and registered again": func(t *testing.T, s *site) {
			s.deregister(t, 1)
			s.clock.Pass(time.Second)
			s.up(t, 1)
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			s.up(t, 2)
			s.check(t, "i1", "-")
			shard := ownership.ShardOf("i1")
			s.rdb.HSet(t.Context(), s.prefix+"shards", shard, "me 1")
			failed := registry.Outcome{
				Was: s.get(t, "i1"), Result: app.Result{At: s.clock.Now(), Code: app.TimedOut}, Fence: app.Fence{Shard: shard, Term: "me 1"},
			}
			meanwhile(t, s)
			before, told := s.state(t), s.events(t)
			if _, err := s.verbs.ApplyResult(t.Context(), failed); !errors.Is(err, app.ErrNotOwner) {
				t.Errorf("judged: %v, want ErrNotOwner", err)
			}
			if diff := cmp.Diff(before, s.state(t)); diff != "" || s.events(t) != told {
				t.Errorf("something was written, told %q (-before +after):\n%s", s.events(t), diff)
			}
		})
	}
}

func TestAResultOfADrainingInstanceHasNoEffect(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	was := s.check(t, s.up(t, 1).ID, "-")
	s.drain(t, 1)
	is, err := s.verbs.ApplyResult(t.Context(), registry.Outcome{Was: was, Result: app.Result{At: s.clock.Now(), Code: app.TimedOut}})
	if err != nil || is.State != app.Draining || s.get(t, "i1").State != app.Draining {
		t.Errorf("judged: %s, %v, want it draining as before", is.State, err)
	}
}

// A result counts although the instance was written meanwhile, if the write did not concern the check.
func TestARepairedFieldDoesNotLoseTheResult(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	was := s.up(t, 1)
	s.register(t, saying(1, weight(2)))
	i, err := s.verbs.ApplyResult(t.Context(), registry.Outcome{Was: was, Result: app.Result{At: s.clock.Now(), Code: app.TimedOut}})
	if err != nil || i.Streak != 1 || i.Weight != 2 {
		t.Errorf("judged: streak %d, weight %d, %v; want 1 and 2", i.Streak, i.Weight, err)
	}
}

func TestAnOverrideExpires(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.up(t, 2)
	until := s.clock.Now().Add(time.Hour)
	override := func(o app.Override) {
		t.Helper()
		if _, _, err := s.verbs.Override(t.Context(), "i1", o); err != nil {
			t.Fatal(err)
		}
	}
	restore := func() {
		t.Helper()
		if i := s.get(t, "i1"); !i.Override.Until.After(s.clock.Now()) {
			if _, err := s.verbs.EndOverride(t.Context(), i, app.Fence{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	override(app.Override{Weight: 2, Until: until})
	s.wantList(t, "a.test", "web 1 2 1")
	override(app.Override{Maintenance: true, Until: until.Add(time.Minute)})
	s.wantList(t, "a.test", "web 1! 2 1!")
	s.settle(t)
	s.check(t, "i2", "--")
	s.wantList(t, "a.test", "web 2") // the last backend, with any result of i1
	s.check(t, "i1", "+")
	s.register(t, saying(1))
	s.clock.Pass(time.Hour)
	restore()
	s.wantList(t, "a.test", "web 2")
	s.clock.Pass(time.Minute)
	restore()
	s.wantList(t, "a.test", "web 2! 1")
	if o := s.get(t, "i1").Override; o != (app.Override{}) {
		t.Errorf("the override is %+v, want none", o)
	}
	override(app.Override{Maintenance: true, Until: s.clock.Now().Add(time.Hour)})
	override(app.Override{})
	s.settle(t)
	s.deregister(t, 2)
	override(app.Override{Maintenance: true, Until: s.clock.Now().Add(time.Hour)})
	s.wantList(t, "a.test", "web 1!") // the heartbeat is authoritative
}
