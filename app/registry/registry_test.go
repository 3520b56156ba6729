package registry_test

import (
	"errors"
	"net/netip"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/replica"
)

// withReplica gives the verbs a replica with the instances as stored now.
func (r *rollcall) withReplica(t *testing.T) {
	t.Helper()
	all, err := r.store.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	rep := replica.New()
	rep.Reset(all, "1-0")
	rep.SetCurrent(time.Now())
	r.setReplica(rep)
}

func TestARegistrationExtendsTheForgetPeriodOfASickInstance(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		state   app.State
		results string
	}{{app.Unhealthy, "++--"}, {app.Failed, ""}} {
		r := newRollcall(t)
		reg := container("web-1", "a", 1)
		r.register(t, reg)
		r.probe(t, "web-1", c.results)
		if c.state == app.Failed {
			r.expire(t, time.Hour)
		}
		was := r.get(t, "web-1")
		if was.State != c.state {
			t.Fatalf("the instance is %s, want %s", was.State, c.state)
		}
		for _, replica := range []bool{false, true} {
			if replica {
				r.withReplica(t)
			}
			r.clock.Pass(time.Second)
			r.register(t, reg)
			if got := r.get(t, "web-1"); !got.AssertedAt.Equal(r.clock.Now()) || got.Rev != was.Rev {
				t.Errorf("%s, with a replica %t: asserted at %s with revision %d, want %s and %d",
					c.state, replica, got.AssertedAt, got.Rev, r.clock.Now(), was.Rev)
			}
		}
	}
}

func TestARegistrationSucceedsIfTheReplicaLacksTheInstance(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	r.withReplica(t)
	reg := container("web-1", "a", 1)
	if done, err := r.Register(t.Context(), reg); err != nil || !done.New {
		t.Fatalf("the first registration: %+v, %v", done, err)
	}
	if done, err := r.Register(t.Context(), reg); err != nil || done.New || done.Revision != "" {
		t.Errorf("the second registration, which the replica has not seen: %+v, %v", done, err)
	}
}

func TestARegistrationRestartsAnInstance(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		edit func(*app.Registration)
		want app.State
	}{
		"unchanged":         {func(*app.Registration) {}, app.Healthy},
		"another interval":  {func(r *app.Registration) { r.Interval = new(5 * time.Second) }, app.Healthy},
		"another threshold": {func(r *app.Registration) { r.Rise = new(5) }, app.Healthy},
		"another weight":    {func(r *app.Registration) { r.Weight = new(7) }, app.Healthy},
		"another kind":      {func(r *app.Registration) { r.Health, r.Expect = "tcp", nil }, app.Starting},
		"another port":      {func(r *app.Registration) { r.Health = ":81/up" }, app.Starting},
		"another path":      {func(r *app.Registration) { r.Health = "/down" }, app.Starting},
		"other statuses":    {func(r *app.Registration) { r.Expect[0] = "204" }, app.Starting},
		"another body":      {func(r *app.Registration) { r.Expect[1] = "fine" }, app.Starting},
		"another address":   {func(r *app.Registration) { r.Address = "10.0.0.9:80" }, app.Starting},
		"another start":     {func(r *app.Registration) { r.Boot = "b" }, app.Starting},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRollcall(t)
			reg := container("web-1", "a", 1, func(r *app.Registration) { r.Health, r.Expect = "/up", []string{"200", "well"} })
			r.register(t, reg)
			r.probe(t, "web-1", "++")
			reg.Expect = []string{"200", "well"}
			c.edit(&reg)
			r.register(t, reg)
			if got := r.get(t, "web-1").State; got != c.want {
				t.Errorf("the instance is %s, want %s", got, c.want)
			}
		})
	}
}

func TestALeaseThatIsRenewedWhileItExpiresStays(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	r.register(t, container("web-1", "a", 1, func(r *app.Registration) { r.Health = "heartbeat" }))
	report := func() {
		t.Helper()
		if err := r.Report(t.Context(), "web-1", true, ""); err != nil {
			t.Fatal(err)
		}
	}
	report()
	was := r.get(t, "web-1")
	if was.State != app.Healthy {
		t.Fatalf("the instance is %s", was.State)
	}
	r.clock.Pass(was.Check.Lease())
	report()
	if _, err := r.Expire(t.Context(), was, app.Fence{}, was.AssertedAt.UnixMilli()); !errors.Is(err, app.ErrNotOwner) {
		t.Errorf("the end of the old lease: got %v, want ErrNotOwner", err)
	}
	if got := r.get(t, "web-1").State; got != app.Healthy {
		t.Errorf("the instance is %s", got)
	}
}

func TestARegistrationNeedsAnAddressThatRollcallMayCall(t *testing.T) {
	t.Parallel()
	reg := container("web-1", "a", 1)
	reg.Rules.Allow = func(a netip.Addr) bool { return a == netip.MustParseAddr("10.0.0.2") }
	_, _, err := reg.Instance()
	if refused, ok := errors.AsType[*app.FieldError](err); !ok || refused.Field != "address" {
		t.Errorf("a forbidden address: got %v", err)
	}
	reg.Address = "10.0.0.2:80"
	if _, _, err := reg.Instance(); err != nil {
		t.Errorf("a permitted address: %v", err)
	}
}

// An owner knows an instance as of its last event. A first failure and the code of a further one are written without an event.
func TestATimeoutEndsAStateThatWasWrittenWithoutAnEvent(t *testing.T) {
	t.Parallel()
	heartbeat := func(r *app.Registration) { r.Health = "heartbeat" }
	maintained := app.Override{Maintenance: true}
	for name, c := range map[string]struct {
		edits []func(*app.Registration)
		begin func(*testing.T, *rollcall)
		write func(*testing.T, *rollcall) // without an event
		end   func(*rollcall, app.Instance, int64) (app.Instance, error)
		want  app.State
	}{
		"the lease of an instance that reported one failure": {
			edits: []func(*app.Registration){heartbeat},
			begin: func(t *testing.T, r *rollcall) { r.report(t, true) },
			write: func(t *testing.T, r *rollcall) { r.report(t, false) },
			want:  app.Unhealthy,
		},
		"the grace of an instance that passed once": {
			begin: func(*testing.T, *rollcall) {},
			write: func(t *testing.T, r *rollcall) { r.probe(t, "web-1", "+") },
			want:  app.Failed,
		},
		"an override": {
			begin: func(t *testing.T, r *rollcall) {
				r.probe(t, "web-1", "++")
				if _, _, err := r.Override(t.Context(), "web-1", maintained); err != nil {
					t.Fatal(err)
				}
			},
			write: func(t *testing.T, r *rollcall) { r.probe(t, "web-1", "-") },
			end: func(r *rollcall, was app.Instance, _ int64) (app.Instance, error) {
				return r.EndOverride(t.Context(), was, app.Fence{})
			},
			want: app.Healthy,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRollcall(t)
			r.register(t, container("web-1", "a", 1, append(c.edits, func(r *app.Registration) { r.Rise, r.Fall = new(2), new(2) })...))
			c.begin(t, r)
			was := r.get(t, "web-1")
			c.write(t, r)
			stored := r.get(t, "web-1")
			if stored.Rev == was.Rev || stored.State != was.State {
				t.Fatalf("no write without an event: revision %d, %s; then %d, %s", was.Rev, was.State, stored.Rev, stored.State)
			}
			r.clock.Pass(time.Hour)
			beat := int64(0)
			if !stored.AssertedAt.IsZero() {
				beat = stored.AssertedAt.UnixMilli()
			}
			end := c.end
			if end == nil {
				end = func(r *rollcall, was app.Instance, beat int64) (app.Instance, error) {
					return r.Expire(t.Context(), was, app.Fence{}, beat)
				}
			}
			if _, err := end(r, was, beat); err != nil {
				t.Fatal(err)
			}
			if got := r.get(t, "web-1"); got.State != c.want || !got.Override.Equal(app.Override{}) {
				t.Errorf("the instance is %s with %+v, want %s", got.State, got.Override, c.want)
			}
			if _, err := end(r, was, beat); !errors.Is(err, app.ErrNotOwner) {
				t.Errorf("the timeout of a former state: %v, want %v", err, app.ErrNotOwner)
			}
		})
	}
}

// report sends a heartbeat of web-1 that makes it healthy, or one that reports a failure.
func (r *rollcall) report(t *testing.T, passed bool) {
	t.Helper()
	for range map[bool]int{true: 2, false: 1}[passed] {
		if err := r.Report(t.Context(), "web-1", passed, ""); err != nil {
			t.Fatal(err)
		}
	}
}
