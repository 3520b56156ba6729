package registry_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/redisstore"
	"rollcall/app/redisstore/storetest"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// rollcall is the verbs of a registry in Redis, with a clock that stands still.
type rollcall struct {
	*registry.Registry
	store  *redisstore.Store
	clock  *storetest.Clock
	events []string // kind and instance of each
}

func newRollcall(t *testing.T) *rollcall {
	t.Helper()
	prefix := harness.Prefix(t)
	r := &rollcall{clock: storetest.NewClock()}
	r.store = redisstore.New(harness.SharedRedis(t), redisstore.Options{
		Prefix: prefix, Hipache: hipache.Keys{Prefix: prefix}, Settle: storetest.Settle, Timeout: time.Minute, Now: r.clock.Now,
	})
	r.setReplica(nil)
	return r
}

// setReplica replaces the verbs by verbs that answer from a replica.
func (r *rollcall) setReplica(replica registry.Replica) {
	r.Registry = registry.New(r.store, replica, r.store.Now, 10*time.Second, func(_ context.Context, s app.Step) {
		r.events = append(r.events, string(s.Event.Kind)+" "+s.Event.Instance)
	})
}

// container is a registration of the service web at 10.0.0.n:80.
func container(id, boot string, n int, edits ...func(*app.Registration)) app.Registration {
	r := app.Registration{Service: "web", ID: id, Boot: boot, Address: fmt.Sprintf("10.0.0.%d:80", n), Health: "tcp"}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func (r *rollcall) register(t *testing.T, reg app.Registration) app.Instance {
	t.Helper()
	done, err := r.Register(t.Context(), reg)
	if err != nil {
		t.Fatalf("register %s %q at %s: %v", reg.ID, reg.Boot, reg.Address, err)
	}
	return done.Instance
}

// refused registers and returns the error, which has to be a conflict about field.
func (r *rollcall) refused(ctx context.Context, t *testing.T, reg app.Registration, field string) string {
	t.Helper()
	_, err := r.Register(ctx, reg)
	refused, ok := errors.AsType[*app.FieldError](err)
	if !ok || refused.Field != field || !refused.Held {
		t.Fatalf("register %s %q at %s: got %v, want a conflict over %s", reg.ID, reg.Boot, reg.Address, err, field)
	}
	return refused.Error()
}

// probe probes an instance; each result is + or -.
func (r *rollcall) probe(t *testing.T, id, results string) app.Instance {
	t.Helper()
	for _, result := range results {
		o := registry.Outcome{Was: r.get(t, id), Result: app.Result{At: r.clock.Now(), Passed: result == '+'}}
		if !o.Result.Passed {
			o.Result.Code = app.Refused
		}
		if !o.Changes(r.clock.Now()) {
			continue
		}
		if _, err := r.ApplyResult(t.Context(), o); err != nil {
			t.Fatal(err)
		}
	}
	return r.get(t, id)
}

func (r *rollcall) get(t *testing.T, id string) app.Instance {
	t.Helper()
	i, err := r.store.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (r *rollcall) count(event string) (n int) {
	for _, e := range r.events {
		if e == event {
			n++
		}
	}
	return n
}

// Every claimant asserts itself every ten seconds, as the hooks do, in an order that changes.
func TestAnIDStaysWithOneOfItsLiveClaimants(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 5, 40} {
		for _, nonces := range []bool{true, false} {
			for _, shuffled := range []bool{true, false} {
				t.Run(fmt.Sprintf("%d claimants, nonces %t, shuffled %t", n, nonces, shuffled), func(t *testing.T) {
					t.Parallel()
					r, random := newRollcall(t), rand.New(rand.NewPCG(1, uint64(n)))
					order := make([]int, n)
					for i := range order {
						order[i] = i + 1
					}
					claim := func(c int) (string, error) {
						reg := container("web-1", "", c)
						if nonces {
							reg.Boot = fmt.Sprint("boot-", c)
						}
						_, err := r.Register(t.Context(), reg)
						if err == nil && r.get(t, "web-1").State == app.Starting {
							r.probe(t, "web-1", "++")
						}
						return r.get(t, "web-1").Address, err
					}
					rounds := 90 // a quarter of an hour
					if n > 5 {
						rounds = 6
					}
					holder, settled := "", 0
					for round := range rounds {
						if shuffled {
							random.Shuffle(n, func(i, j int) { order[i], order[j] = order[j], order[i] })
						}
						for _, c := range order {
							address, err := claim(c)
							if address != holder {
								holder, settled = address, round
							}
							own := fmt.Sprintf("10.0.0.%d:80", c) == holder
							if _, refused := errors.AsType[*app.FieldError](err); round > 2 && (own && err != nil || !own && !refused) {
								t.Fatalf("round %d: %d claims the id that %s holds: got %v", round, c, holder, err)
							}
							r.clock.Pass(10 * time.Second / time.Duration(n))
						}
					}
					if settled > 1 {
						t.Errorf("the id moved in round %d, 10 s each", settled)
					}
					if got := r.count("contested web-1"); got != 1 {
						t.Errorf("%d events say that the id is contested, want 1: %v", got, r.events)
					}
				})
			}
		}
	}
}

func TestWhichClaimsMoveAnID(t *testing.T) {
	t.Parallel()
	const contested = "a1 b2 a1" // the earlier registrations: b2 holds the id against a1
	for _, c := range []struct {
		name   string
		before string // registrations: the boot nonce (- for none), and the address
		edit   func(*testing.T, *rollcall)
		claim  string
		moves  bool
	}{
		{name: "another start moves an id", before: "a1", claim: "b2", moves: true},
		{name: "another start at the same address", before: "a1", claim: "b1", moves: true},
		{name: "the same start corrects its address", before: "a1", claim: "a2", moves: true},
		{name: "and corrects it back", before: "a1 a2", claim: "a1", moves: true},
		{name: "every restart takes its id over", before: "a1 b2 c3 d4", claim: "e5", moves: true},
		{name: "without nonces an address is the claimant", before: "-1 -2", claim: "-1"},
		{name: "a nonce claims against an address", before: "-1 b2", claim: "-1"},
		{name: "and an address against a nonce", before: "a1 -2", claim: "a1"},
		{name: "an address that comes without the nonce is the holder's", before: "a1", claim: "-1", moves: true},
		{name: "a former holder", before: "a1 b2", claim: "a1"},
		{name: "a former holder at the same address", before: "a1 b1", claim: "a1"},
		{name: "a third claimant of a contested id", before: contested, claim: "c3"},
		{name: "the holder itself", before: contested, claim: "b2", moves: true},
		{name: "the holder corrects its address", before: contested, claim: "b4", moves: true},
		{
			name: "one failed probe of the holder decides", before: contested, claim: "a1", moves: true,
			edit: func(t *testing.T, r *rollcall) { r.probe(t, "web-1", "-") },
		},
		{
			name: "a failed probe before the last one does not", before: contested, claim: "a1",
			edit: func(t *testing.T, r *rollcall) { r.probe(t, "web-1", "-+") },
		},
		{
			name: "an unhealthy holder", before: contested, claim: "c3", moves: true,
			edit: func(t *testing.T, r *rollcall) { r.probe(t, "web-1", "--") },
		},
		{
			name: "a holder that drains", before: contested, claim: "c3", moves: true,
			edit: func(t *testing.T, r *rollcall) {
				if _, _, err := r.Drain(t.Context(), "web-1", "", time.Hour); err != nil {
					t.Fatal(err)
				}
			},
		},
		{
			name: "a holder that is silent for a minute", before: contested, claim: "a1", moves: true,
			edit: func(_ *testing.T, r *rollcall) { r.clock.Pass(time.Minute) },
		},
		{
			name: "a holder that spoke within the minute", before: contested, claim: "a1",
			edit: func(t *testing.T, r *rollcall) {
				r.clock.Pass(59 * time.Second)
				r.register(t, container("web-1", "b", 2))
				r.clock.Pass(59 * time.Second)
			},
		},
		{
			name: "a contest without a rival for ten minutes is over", before: contested, claim: "c3", moves: true,
			edit: func(t *testing.T, r *rollcall) {
				for range 21 {
					r.clock.Pass(30 * time.Second)
					r.register(t, container("web-1", "b", 2))
				}
			},
		},
		{
			name: "a contest whose rival claims again goes on", before: contested, claim: "c3",
			edit: func(t *testing.T, r *rollcall) {
				for range 21 {
					r.clock.Pass(30 * time.Second)
					r.register(t, container("web-1", "b", 2))
					if _, err := r.Register(t.Context(), container("web-1", "a", 1)); !errors.Is(err, app.ErrConflict) {
						t.Fatalf("the rival: got %v", err)
					}
				}
			},
		},
		{
			name: "a batch is no word of the holder", before: contested, claim: "a1", moves: true,
			edit: func(t *testing.T, r *rollcall) {
				r.clock.Pass(59 * time.Second)
				r.register(t, container("web-1", "b", 2, func(r *app.Registration) { r.Declared = true }))
				r.clock.Pass(time.Second)
			},
		},
	} {
		for _, cached := range []bool{false, true} {
			t.Run(fmt.Sprint(c.name, ", replica: ", cached), func(t *testing.T) {
				t.Parallel()
				r := newRollcall(t)
				claimant := func(s string) app.Registration {
					boot, n := strings.TrimPrefix(s[:1], "-"), int(s[1]-'0')
					return container("web-1", boot, n)
				}
				for n, s := range strings.Fields(c.before) {
					_, err := r.Register(t.Context(), claimant(s))
					if wantErr := c.before == contested && n == 2; (err != nil) != wantErr {
						t.Fatalf("%s: got %v", s, err)
					}
					if err == nil {
						r.probe(t, "web-1", "++")
					}
					r.clock.Pass(time.Second)
				}
				if cached {
					r.withReplica(t) // of a process that has not read the later changes
				}
				if c.edit != nil {
					c.edit(t, r)
				}
				was := r.get(t, "web-1")
				_, err := r.Register(t.Context(), claimant(c.claim))
				is := r.get(t, "web-1")
				if c.moves && (err != nil || is.Address != claimant(c.claim).Address) {
					t.Errorf("got %v, and it is at %s", err, is.Address)
				}
				if !c.moves && (!errors.Is(err, app.ErrConflict) || is.Address != was.Address || is.State != was.State) {
					t.Errorf("got %v, and it is %s at %s, want it left %s at %s", err, is.State, is.Address, was.State, was.Address)
				}
			})
		}
	}
}

func TestAHolderWithoutProbesKeepsItsIDForALeaseOrNotAtAll(t *testing.T) {
	t.Parallel()
	kind := func(health string) func(*app.Registration) { return func(r *app.Registration) { r.Health = health } }

	r := newRollcall(t)
	r.register(t, container("web-1", "a", 1, kind("none")))
	r.register(t, container("web-1", "b", 2, kind("none")))
	r.refused(t.Context(), t, container("web-1", "a", 1, kind("none")), "id") // a former holder
	r.register(t, container("web-1", "c", 3, kind("none")))                   // the newest claim
	r.refused(t.Context(), t, container("web-1", "a", 1, kind("none")), "id")
	r.refused(t.Context(), t, container("web-1", "b", 2, kind("none")), "id")

	r = newRollcall(t)
	r.register(t, container("web-1", "a", 1, kind("heartbeat")))
	r.register(t, container("web-1", "b", 2, kind("heartbeat")))
	for range 2 {
		if err := r.Report(t.Context(), "web-1", true, ""); err != nil {
			t.Fatal(err)
		}
	}
	r.refused(t.Context(), t, container("web-1", "a", 1, kind("heartbeat")), "id")
	if err := r.Report(t.Context(), "web-1", false, "once"); err != nil {
		t.Fatal(err)
	}
	r.refused(t.Context(), t, container("web-1", "a", 1, kind("heartbeat")), "id")
}

func TestABatchMovesAnIDButProvesNoLife(t *testing.T) {
	t.Parallel()
	declared := func(r *app.Registration) { r.Declared = true }
	r := newRollcall(t)
	r.register(t, container("web-1", "", 1, declared))
	r.register(t, container("web-1", "b", 2))
	r.probe(t, "web-1", "++")
	r.refused(t.Context(), t, container("web-1", "", 1, declared), "id")
	if got := r.count("contested web-1"); got != 0 {
		t.Errorf("a batch made the id contested: %v", r.events)
	}
	r.register(t, container("web-1", "", 3, declared)) // a correction
	if got := r.get(t, "web-1").Address; got != "10.0.0.3:80" {
		t.Errorf("the id is at %s", got)
	}
}

// Hooks of one container find each other at its address, also if they register other services.
func TestTwoLiveStartsShareAnAddress(t *testing.T) {
	t.Parallel()
	for _, n := range []int{2, 3, 5} {
		for _, services := range []bool{true, false} {
			t.Run(fmt.Sprintf("%d hooks, a service each %t", n, services), func(t *testing.T) {
				t.Parallel()
				r := newRollcall(t)
				hook := func(c int) app.Registration {
					return container(fmt.Sprint("i", c), fmt.Sprint("boot-", c), 1, func(r *app.Registration) {
						r.Hosts = []string{fmt.Sprintf("h%d.test", c)}
						if services {
							r.Service = fmt.Sprint("web-", c)
						}
					})
				}
				var events int
				for round := range 6 {
					for c := range n {
						r.register(t, hook(c))
					}
					if round == 2 {
						events = len(r.events)
					}
				}
				for c := range n {
					r.probe(t, fmt.Sprint("i", c), "++")
				}
				if left := r.events[events:]; slices.ContainsFunc(left, func(e string) bool { return !strings.HasPrefix(e, "healthy ") }) {
					t.Errorf("after three rounds: %v", left)
				}
				// The next container at this address ends them all.
				r.register(t, container("next", "boot-next", 1))
				all, err := r.store.All(t.Context())
				if err != nil || len(all) != 1 || all[0].ID != "next" {
					t.Errorf("left are %v, %v, want the next one", all, err)
				}
			})
		}
	}
}

func TestOneStartMayRegisterSeveralInstancesAtItsAddress(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	host := func(h string) func(*app.Registration) {
		return func(r *app.Registration) { r.Hosts = []string{h} }
	}
	r.register(t, container("a", "boot", 1, host("a.test")))
	r.register(t, container("b", "boot", 1, host("b.test")))
	if got := r.get(t, "a").State; got != app.Starting {
		t.Errorf("a is %s", got)
	}
	// An entry of a frontend belongs to one instance.
	why := r.refused(t.Context(), t, container("c", "boot", 1, host("a.test")), "host")
	if want := "host a.test already has the backend 10.0.0.1:80, which belongs to a; register one instance for an address and a vhost"; why != want {
		t.Errorf("got %q", why)
	}
}

func caller(scopes ...auth.Scope) context.Context {
	return app.WithCaller(context.Background(), auth.Caller{Name: "t", Token: "t", Scopes: scopes})
}

func TestACallerTakesNothingThatItMayNotChange(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	shop := func(id, boot string, n int) app.Registration {
		return container(id, boot, n, func(r *app.Registration) { r.Service, r.Hosts = "shop", []string{"shop.test"} })
	}
	r.register(t, container("web-1", "a", 1, func(r *app.Registration) { r.Hosts = []string{"web.test"} }))
	r.probe(t, "web-1", "++")
	r.probe(t, "web-1", "-") // it would give way to its own service
	stranger := caller("register:shop", "host:*")

	why := r.refused(stranger, t, shop("web-1", "b", 2), "id")
	if strings.Contains(why, "web,") || strings.Contains(why, "service web") {
		t.Errorf("a stranger learns of the id: %s", why)
	}
	r.refused(stranger, t, shop("shop-1", "b", 1), "address")
	taking := shop("shop-2", "b", 2)
	taking.Hosts = []string{"web.test"}
	if why := r.refused(stranger, t, taking, "host"); strings.Contains(why, "web-1") || strings.Contains(why, "service web") {
		t.Errorf("a stranger learns who serves the vhost: %s", why)
	}
	if why := r.refused(caller("register:shop", "host:*", "read"), t, shop("web-1", "b", 2), "id"); !strings.Contains(why, "service web") {
		t.Errorf("a reader does not learn of the service that has the id: %s", why)
	}
	if got := r.get(t, "web-1"); got.Service != "web" || got.State != app.Healthy {
		t.Errorf("web-1 is %+v", got)
	}

	// Neither share: the superseded start of another service comes back to a stranger's address.
	r.register(t, shop("shop-3", "c", 1))
	r.refused(caller("register:web", "host:*"), t, container("web-1", "a", 1), "address")
	r.register(t, container("web-1", "a", 1))
	if got := r.get(t, "shop-3").Service; got != "shop" {
		t.Errorf("shop-3 is of %s", got)
	}
}

func TestOnlyCallersThatMayChangeAnInstanceReportForIt(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	r.register(t, container("web-1", "a", 1, func(r *app.Registration) { r.Health = "heartbeat" }))
	rep := replica.New()
	r.setReplica(rep)
	for _, state := range []app.State{app.Starting, app.Healthy} { // by the store, and by the replica
		rep.Reset([]app.Instance{r.get(t, "web-1")}, "1-0")
		rep.SetCurrent(time.Now())
		was := r.get(t, "web-1")
		if was.State != state {
			t.Fatalf("it is %s, want %s", was.State, state)
		}
		r.clock.Pass(time.Second)
		if err := r.Report(caller("register:shop"), "web-1", true, ""); !errors.Is(err, app.ErrForbidden) {
			t.Errorf("another service's report while it is %s: got %v", state, err)
		}
		if got := r.get(t, "web-1").AssertedAt; !got.Equal(was.AssertedAt) {
			t.Errorf("the lease of the %s instance was renewed at %s", state, got)
		}
		for range 2 {
			if err := r.Report(caller("register:web"), "web-1", true, ""); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestAnInstanceReplacesOneOfItsOwnServiceOnly(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	r.register(t, container("shop-1", "a", 1, func(r *app.Registration) { r.Service = "shop" }))
	r.register(t, container("web-1", "b", 2))
	r.register(t, container("web-2", "c", 3, func(r *app.Registration) { r.Replaces = "shop-1" }))
	r.register(t, container("web-3", "d", 4, func(r *app.Registration) { r.Replaces = "web-1" }))
	r.probe(t, "web-2", "++")
	r.probe(t, "web-3", "++")
	if got := r.get(t, "shop-1").State; got != app.Starting {
		t.Errorf("an instance of another service is %s", got)
	}
	if got := r.get(t, "web-1").State; got != app.Draining {
		t.Errorf("the instance that was replaced is %s", got)
	}
}

// A service is renamed while its dead containers are still registered.
func TestWhichInstancesKeepAVhostFromAnotherService(t *testing.T) {
	t.Parallel()
	health := func(kind string) func(*app.Registration) { return func(r *app.Registration) { r.Health = kind } }
	for _, c := range []struct {
		name  string
		kind  string
		was   string // the results of the holder's probes after its registration
		edit  func(*testing.T, *rollcall)
		keeps bool
	}{
		{name: "healthy", kind: "tcp", was: "++", keeps: true},
		{name: "starting", kind: "tcp", keeps: true},
		{name: "its last probe failed", kind: "tcp", was: "++-"},
		{name: "unhealthy", kind: "tcp", was: "++--"},
		{name: "failed", kind: "tcp", edit: func(t *testing.T, r *rollcall) { r.expire(t, app.DefaultCheck(app.TCP).Grace) }},
		{name: "draining", kind: "tcp", was: "++", edit: func(t *testing.T, r *rollcall) {
			if _, _, err := r.Drain(t.Context(), "old", "", time.Minute); err != nil {
				t.Fatal(err)
			}
		}},
		{name: "not checked, and earlier", kind: "none"},
		{name: "in maintenance", kind: "tcp", was: "++", keeps: true, edit: func(t *testing.T, r *rollcall) {
			if _, _, err := r.Override(t.Context(), "old", app.Override{Maintenance: true, Until: r.clock.Now().Add(time.Hour)}); err != nil {
				t.Fatal(err)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRollcall(t)
			serving := func(r *app.Registration) { r.Hosts = []string{"a.test"} }
			r.register(t, container("old", "a", 1, serving, health(c.kind)))
			r.probe(t, "old", c.was)
			if c.edit != nil {
				c.edit(t, r)
			}
			r.clock.Pass(time.Second)
			renamed := container("new", "b", 2, serving, func(r *app.Registration) { r.Service = "shop" })
			if c.keeps {
				why := r.refused(t.Context(), t, renamed, "host")
				if !strings.Contains(why, "old is ") || !strings.Contains(why, "DELETE /v1/instances/old") {
					t.Errorf("it is refused without the holder and the call that frees it: %s", why)
				}
				return
			}
			r.register(t, renamed)
			r.probe(t, "new", "++")
			if got := r.backends(t, "a.test"); !slices.Contains(got, "new") {
				t.Errorf("the vhost has %v, want the new one", got)
			}
			// A holder that comes back goes on without the vhost, and it is not fought over.
			if is := r.get(t, "old"); is.State == app.Unhealthy {
				if is = r.probe(t, "old", "++"); is.State != app.Healthy || len(is.Hosts) != 0 {
					t.Errorf("the old one is %s and serves %v", is.State, is.Hosts)
				}
				r.refused(t.Context(), t, container("old", "a", 1, serving), "host")
			}
			if got := r.backends(t, "a.test"); slices.Contains(got, "old") && c.name != "draining" {
				t.Errorf("the vhost has %v, want the new one only", got)
			}
			if repairs, err := r.store.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
				t.Errorf("to reconcile: %+v, %v", repairs, err)
			}
		})
	}
}

func TestTheLastBackendStaysUntilTheServiceThatClaimsTheVhostIsHealthy(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	serving := func(r *app.Registration) { r.Hosts = []string{"a.test"} }
	r.register(t, container("old", "a", 1, serving))
	r.probe(t, "old", "++--")
	r.register(t, container("new", "b", 2, serving, func(r *app.Registration) { r.Service = "shop" }))
	if got := r.backends(t, "a.test"); !slices.Equal(got, []string{"old"}) {
		t.Errorf("the vhost has %v, want the old one", got)
	}
	// It comes back before the new one is healthy, and has its vhost again.
	if is := r.probe(t, "old", "++"); len(is.Hosts) != 1 {
		t.Errorf("the old one serves %v", is.Hosts)
	}
	if is := r.probe(t, "new", "++"); is.State != app.Healthy || len(is.Hosts) != 0 {
		t.Errorf("the new one is %s and serves %v", is.State, is.Hosts)
	}
	if got := r.backends(t, "a.test"); !slices.Equal(got, []string{"old"}) {
		t.Errorf("the vhost has %v, want the old one", got)
	}
}

// Of two services without a check the later one has the vhost, however often both register.
func TestInstancesWithoutACheckDoNotTakeTurnsAtAVhost(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	unchecked := func(id, service string, n int) app.Registration {
		return container(id, id, n, func(r *app.Registration) { r.Service, r.Hosts, r.Health = service, []string{"a.test"}, "none" })
	}
	r.register(t, unchecked("old", "web", 1))
	r.clock.Pass(time.Second)
	r.register(t, unchecked("new", "shop", 2))
	for range 3 {
		r.clock.Pass(10 * time.Second)
		r.refused(t.Context(), t, unchecked("old", "web", 1), "host")
		r.register(t, unchecked("new", "shop", 2))
	}
}

func TestAnIDPassesToAnotherServiceWhenItsHolderIsNotHealthy(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	shop := container("one", "b", 2, func(r *app.Registration) { r.Service = "shop" })
	r.register(t, container("one", "a", 1))
	r.probe(t, "one", "++")
	r.refused(t.Context(), t, shop, "id")
	r.probe(t, "one", "-")
	r.register(t, shop)
	if got := r.get(t, "one").Service; got != "shop" {
		t.Errorf("it is of %s", got)
	}
	if repairs, err := r.store.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("to reconcile: %+v, %v", repairs, err)
	}
}

func TestTheOldAddressStaysRoutedUntilTheNewOneIsHealthy(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	at := func(boot string, n int) app.Registration {
		return container("one", boot, n, func(r *app.Registration) { r.Hosts = []string{"a.test"} })
	}
	r.register(t, at("a", 1))
	r.probe(t, "one", "++")
	r.register(t, at("b", 2))
	if got := r.routed(t, "a.test"); got != "http://10.0.0.1:80" {
		t.Errorf("routed is %s, want the old address", got)
	}
	r.probe(t, "one", "++")
	if got := r.routed(t, "a.test"); got != "http://10.0.0.2:80" {
		t.Errorf("routed is %s, want the new address", got)
	}
	if repairs, err := r.store.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("to reconcile: %+v, %v", repairs, err)
	}
}

func TestAFailedReplacementIsOver(t *testing.T) {
	t.Parallel()
	replacing := func(r *app.Registration) { r.Replaces = "old" }
	for name, c := range map[string]struct {
		fails    func(*testing.T, *rollcall)
		again    func(*app.Registration)
		replaces bool
	}{
		"reported as failed":          {fails: endReplacement},
		"its grace is over":           {fails: func(t *testing.T, r *rollcall) { r.expire(t, app.DefaultCheck(app.TCP).Grace) }},
		"its hook asserts it again":   {fails: endReplacement, again: func(*app.Registration) {}},
		"a caller waits for it again": {fails: endReplacement, again: func(r *app.Registration) { r.Awaited = true }, replaces: true},
		"it is started anew":          {fails: endReplacement, again: func(r *app.Registration) { r.Boot = "c" }, replaces: true},
		"not reported":                {fails: func(*testing.T, *rollcall) {}, replaces: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRollcall(t)
			r.register(t, container("old", "a", 1))
			r.register(t, container("new", "b", 2, replacing))
			c.fails(t, r)
			if c.again != nil {
				r.register(t, container("new", "b", 2, replacing, c.again))
			}
			r.probe(t, "new", "++")
			if got := r.get(t, "old").State; (got == app.Draining) != c.replaces {
				t.Errorf("the old one is %s", got)
			}
		})
	}
}

// What has been replaced may come back: it is not drained by every recovery of its successor.
func TestAReplacementIsDoneOnce(t *testing.T) {
	t.Parallel()
	r := newRollcall(t)
	r.register(t, container("old", "a", 1))
	r.register(t, container("new", "b", 2, func(r *app.Registration) { r.Replaces = "old" }))
	r.probe(t, "new", "++")
	r.register(t, container("old", "c", 1))
	r.probe(t, "new", "--++")
	if got := r.get(t, "old").State; got != app.Starting {
		t.Errorf("the old one is %s, want it left alone", got)
	}
}

func TestDrainAndDeregisterEndTheNamedStartOnly(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(context.Context, *rollcall, string) error{
		"drain": func(ctx context.Context, r *rollcall, boot string) error {
			_, _, err := r.Drain(ctx, "one", boot, time.Minute)
			return err
		},
		"deregister": func(ctx context.Context, r *rollcall, boot string) error {
			_, _, err := r.Deregister(ctx, "one", boot)
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRollcall(t)
			r.register(t, container("one", "a", 1))
			r.register(t, container("one", "b", 2))
			was := r.get(t, "one")
			if err := end(t.Context(), r, "a"); !errors.Is(err, app.ErrConflict) {
				t.Errorf("the old start: got %v, want a conflict", err)
			}
			if got := r.get(t, "one"); got.Rev != was.Rev {
				t.Errorf("the present start was written: it is %s", got.State)
			}
			if err := end(t.Context(), r, "b"); err != nil {
				t.Errorf("the present start: %v", err)
			}
		})
	}
}

func endReplacement(t *testing.T, r *rollcall) {
	t.Helper()
	if _, _, err := r.EndReplacement(t.Context(), "new"); err != nil {
		t.Fatal(err)
	}
}

// expire lets time pass and then expires each instance whose deadline is over.
func (r *rollcall) expire(t *testing.T, after time.Duration) {
	t.Helper()
	r.clock.Pass(after)
	all, err := r.store.All(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range all {
		i = r.get(t, i.ID)
		beat := int64(0)
		if !i.AssertedAt.IsZero() {
			beat = i.AssertedAt.UnixMilli()
		}
		if d := i.Deadline(); d.IsZero() || d.After(r.clock.Now()) {
			continue
		}
		if _, err := r.Expire(t.Context(), i, app.Fence{}, beat); err != nil {
			t.Fatal(err)
		}
	}
}

func (r *rollcall) slots(t *testing.T, host string) []app.Slot {
	t.Helper()
	frontends, err := r.store.Frontends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range frontends {
		if f.Host == host {
			return f.Slots
		}
	}
	return nil
}

// backends returns the instances of the routed backends of a vhost.
func (r *rollcall) backends(t *testing.T, host string) (ids []string) {
	t.Helper()
	for _, s := range r.slots(t, host) {
		if s.Routed() {
			ids = append(ids, s.Instance)
		}
	}
	return ids
}

// routed returns the URLs of the routed backends of a vhost.
func (r *rollcall) routed(t *testing.T, host string) string {
	t.Helper()
	var urls []string
	for _, s := range r.slots(t, host) {
		if s.Routed() {
			urls = append(urls, s.URL)
		}
	}
	return strings.Join(urls, " ")
}
