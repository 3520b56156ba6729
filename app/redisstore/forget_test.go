package redisstore_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"rollcall/app"
)

// fails makes an instance fail with a code until its state changes.
func (s *site) fails(t *testing.T, id string, code app.Code) {
	t.Helper()
	was := s.get(t, id)
	is, alive := was, false
	for range is.Check.Fall {
		s.clock.Pass(time.Millisecond)
		r := app.Result{At: s.clock.Now(), Code: code}
		alive = alive || is.Alive(r)
		is = is.Observe(r, s.clock.Now())
	}
	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: was, Is: is, Asserts: alive}}}); err != nil {
		t.Fatal(err)
	}
}

func (s *site) registered(t *testing.T, id string) bool {
	t.Helper()
	_, err := s.Get(t.Context(), id)
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		t.Fatal(err)
	}
	return err == nil
}

// forget lets a settle time and then the forget period pass.
func (s *site) forget(t *testing.T) {
	t.Helper()
	s.settle(t)
	s.clock.Pass(app.DefaultCheck(app.HTTP).Forget)
	s.expire(t)
	s.settle(t)
}

func TestASickInstanceIsNotForgottenWhileItsVhostHasNoOtherBackend(t *testing.T) {
	t.Parallel()
	closed := func(r *app.Registration) { r.FailOpen = new(bool) }
	for _, c := range []struct {
		name  string
		first []func(*app.Registration) // edits of i1, which answers with a status 500
		set   func(t *testing.T, s *site)
		stays bool
		list  string // of a.test
	}{
		{name: "the only one", stays: true, list: "web 1"},
		{
			name: "another one is healthy", list: "web 2",
			set: func(t *testing.T, s *site) { s.up(t, 2) },
		},
		{
			name: "all are sick", stays: true, list: "web 2",
			set: func(t *testing.T, s *site) { s.up(t, 2); s.fails(t, "i1", 500); s.fails(t, "i2", app.Stalled) },
		},
		{
			name: "the other one is in maintenance", stays: true, list: "web 1",
			set: func(t *testing.T, s *site) {
				s.up(t, 2)
				until := s.clock.Now().Add(24 * time.Hour)
				if _, _, err := s.verbs.Override(t.Context(), "i2", app.Override{Maintenance: true, Until: until}); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "the other one never passed", stays: true, list: "web 1",
			set: func(t *testing.T, s *site) { s.register(t, saying(2)) },
		},
		{
			name: "the other one serves one of its two vhosts", first: []func(*app.Registration){hosts("a.test", "b.test")}, stays: true, list: "web 2",
			set: func(t *testing.T, s *site) { s.up(t, 2) },
		},
		{
			name: "the other ones serve one vhost each", first: []func(*app.Registration){hosts("a.test", "*.b.test")}, list: "web 2",
			set: func(t *testing.T, s *site) { s.up(t, 2); s.up(t, 3, hosts("*.b.test")) },
		},
		{
			name: "a wildcard", first: []func(*app.Registration){hosts("*.a.test")}, stays: true,
		},
		{
			name: "a foreign backend takes requests", list: "web http://x",
			set: func(t *testing.T, s *site) { s.do(t, "RPUSH frontend:a.test http://x") },
		},
		{
			name: "a foreign backend is marked", stays: true, list: "web 1 http://x!",
			set: func(t *testing.T, s *site) {
				s.do(t, "RPUSH frontend:a.test http://x")
				s.do(t, "SADD dead:a.test 1")
			},
		},
		{
			name: "a foreign entry is no backend", stays: true, list: "web 1 x",
			set: func(t *testing.T, s *site) { s.do(t, "RPUSH frontend:a.test x") },
		},
		{
			name: "it is not to be routed while it is sick", first: []func(*app.Registration){closed}, stays: true, list: "web",
		},
		{
			name: "it serves no vhost", first: []func(*app.Registration){hosts()},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, c.first...)
			if c.set != nil {
				c.set(t, s)
			}
			if s.get(t, "i1").State == app.Healthy {
				s.fails(t, "i1", 500)
			}
			for range 3 { // each time with another period
				s.forget(t)
				if got := s.registered(t, "i1"); got != c.stays {
					t.Fatalf("registered: %v, want %v", got, c.stays)
				}
			}
			s.wantList(t, "a.test", c.list)
			if c.stays {
				if i := s.check(t, "i1", "++"); !i.Routable() {
					t.Errorf("it is %s after it recovered", i.State)
				}
			}
		})
	}
}

func TestAnInstanceThatNeverPassedIsNotForgottenWhileItAnswersAlone(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		code  app.Code
		stays bool
	}{{503, true}, {app.Refused, false}} {
		s := newSite(t)
		i := s.register(t, saying(1)).Instance
		was, is := s.get(t, "i1"), s.get(t, "i1").Observe(app.Result{At: s.clock.Now(), Code: c.code}, s.clock.Now())
		if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: was, Is: is}}}); err != nil {
			t.Fatal(err)
		}
		s.clock.Pass(i.Check.Grace)
		s.expire(t)
		s.forget(t)
		if got := s.registered(t, "i1"); got != c.stays {
			t.Errorf("registered after %s: %v, want %v", c.code, got, c.stays)
		}
		s.wantList(t, "a.test", "") // it was never routed
	}
}

// An instance is removed after a whole forget period without an answer.
func TestTheLastBackendIsForgottenWhenItIsGone(t *testing.T) {
	t.Parallel()
	for _, code := range []app.Code{app.Refused, app.TimedOut, app.Unreachable, app.Unresolvable} {
		s := newSite(t)
		s.up(t, 1)
		s.fails(t, "i1", 500)
		forget := s.get(t, "i1").Check.Forget
		s.clock.Pass(forget - time.Second)
		s.fails(t, "i1", code) // only now
		s.clock.Pass(forget - time.Second)
		s.expire(t)
		if !s.registered(t, "i1") {
			t.Fatalf("%s: forgotten before it was gone for the whole period", code)
		}
		s.clock.Pass(time.Second)
		s.expire(t)
		if s.registered(t, "i1") {
			t.Fatalf("%s for %s: still registered", code, forget)
		}
		s.wantList(t, "a.test", "")
		events, err := s.Events(t.Context(), "0-0", 100)
		if err != nil {
			t.Fatal(err)
		}
		last := events[len(events)-1]
		if last.Kind != app.EventGone || !strings.HasPrefix(last.Reason, "gone: no answer for 10m0s ("+code.String()) {
			t.Errorf("the last event is %s: %s", last.Kind, last.Reason)
		}
	}
}

// An instance with a heartbeat check must keep sending heartbeats.
func TestAnInstanceThatReportsAnyResultIsNotForgotten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	beats := func(r *app.Registration) { r.Health = "heartbeat" }
	forget := s.register(t, saying(1, beats)).Instance.Check.Forget
	report := func(passed bool) {
		t.Helper()
		if err := s.verbs.Report(t.Context(), "i1", passed, ""); err != nil {
			t.Fatal(err)
		}
	}
	for _, passed := range []bool{true, true, false, false} {
		report(passed)
	}
	s.register(t, saying(2, beats))
	for _, passed := range []bool{false, true, false} {
		s.clock.Pass(forget - time.Second)
		s.expire(t)
		report(passed)
	}
	s.clock.Pass(forget)
	s.expire(t)
	if s.registered(t, "i1") {
		t.Error("registered after it was silent for its forget period")
	}
}
