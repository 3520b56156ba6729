// Package apptest holds what the tests of several packages share about the domain:
// the claims that every store of the registry has to satisfy.
package apptest

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
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/hipache"
)

// Store is all that a store of the registry does beside its queues and its clock.
type Store interface {
	app.Store
	Results(ctx context.Context, id string) ([]app.Result, error)
	Follow(ctx context.Context, snapshot *app.Snapshot)
	Compact(ctx context.Context) (int, error)
	Reconcile(ctx context.Context) (app.Repairs, error)
	Announced(ctx context.Context, a hipache.Announcement) (repaired bool, early string, err error)
	Frontends(ctx context.Context) ([]app.Frontend, error)
}

// Subject is a store under test with what belongs to it. It holds nothing yet, and
// its settle time is Settle.
type Subject struct {
	Store
	Probes, Deadlines, Overrides app.Queue

	Tick  func(ctx context.Context, as string) (time.Duration, error) // "worker", "web" or "once"
	Clock *Clock                                                      // what the store takes the time from
}

// Settle is how long a surplus slot of a Subject's vhosts stays in its list.
const Settle = 5 * time.Second

// Clock is a clock that stands still unless it is told otherwise.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock at some whole second.
func NewClock() *Clock { return &Clock{now: time.Unix(1_900_000_000, 0)} }

// Now is the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass lets time pass.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// StoreContract checks what holds for every store. open returns one that is empty.
func StoreContract(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for name, claim := range map[string]func(*testing.T, Subject){
		"what was committed is read":                    committedIsRead,
		"what is not there is not found":                missingIsNotFound,
		"a stale revision writes nothing":               staleRevisionWritesNothing,
		"of many writers one wins":                      oneWriterWins,
		"a change is all or nothing":                    changeIsAllOrNothing,
		"an address has one instance of a service":      addressHasOneHolder,
		"an address is inherited":                       addressIsInherited,
		"a vhost has one service":                       vhostHasOneService,
		"gone leaves nothing":                           goneLeavesNothing,
		"what is due is claimed in order":               dueIsClaimedInOrder,
		"a claim is exclusive while it lasts":           claimIsExclusive,
		"claimers share the work":                       claimersShare,
		"anybody may be looked at":                      anybodyIsLookedAt,
		"a renewed claim lasts":                         renewedClaimLasts,
		"a commit depends on its claim":                 commitDependsOnClaim,
		"a settled check is due when told":              settledIsDueWhenTold,
		"the last twenty results are kept":              resultsAreKept,
		"draining is not probed":                        drainingIsNotProbed,
		"a renewed deadline is later":                   renewedDeadlineIsLater,
		"an outage moves deadlines":                     outageMovesDeadlines,
		"a silent web process is an outage":             silentWebIsOutage,
		"deadlines are queued like probes after outage": deadlineQueueAfterOutage,
		"an outside scheduler's silence is no outage":   onceIsNoOutage,
		"an override is due when it expires":            overrideIsDue,
		"healthy instances are listed by weight":        healthyAreListed,
		"an unhealthy one is marked and then leaves":    unhealthyLeaves,
		"the last routable one stays":                   lastRoutableStays,
		"a vhost without instances is none":             emptyVhostIsNone,
		"an announced backend is due":                   announcedIsDue,
		"nothing to reconcile":                          nothingToReconcile,
		"a follower has everything":                     followerHasEverything,
		"a follower keeps up with writers":              followerKeepsUp,
		"a cancelled call says so":                      cancelledSaysSo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim(t, open(t))
		})
	}
}

// instance is an instance of the service web at http://10.0.0.n:80 that has just been
// registered for a.test.
func (s Subject) instance(n int) app.Instance {
	i := app.Instance{
		ID: fmt.Sprintf("i%d", n), Service: "web", Address: fmt.Sprintf("10.0.0.%d:80", n), Hosts: []string{"a.test"},
		Weight: 1, FailOpen: true, Check: app.DefaultCheck(app.TCP), RegisteredAt: s.Clock.Now(),
	}
	return i.Begin(s.Clock.Now())
}

// observe is the instance after results, + for passed and - for failed.
func (s Subject) observe(i app.Instance, results string) app.Instance {
	for _, r := range results {
		at := s.Clock.Now()
		result := app.Result{At: at, Latency: 3 * time.Millisecond, Passed: r == '+'}
		if !result.Passed {
			result.Code = app.Refused
		}
		i = i.Observe(result, at)
	}
	return i
}

// write commits the steps of instances and returns them as they are stored. An
// instance whose state changes has an event.
func (s Subject) write(t *testing.T, is ...app.Instance) []app.Instance {
	t.Helper()
	var change app.Change
	for _, i := range is {
		was, err := s.Get(t.Context(), i.ID)
		if err != nil && !errors.Is(err, app.ErrNotFound) {
			t.Fatal(err)
		}
		change.Steps = append(change.Steps, s.step(was, i))
	}
	if _, err := s.Commit(t.Context(), change); err != nil {
		t.Fatalf("commit %v: %v", is, err)
	}
	var stored []app.Instance
	for _, i := range is {
		if i.State != app.Gone {
			stored = append(stored, s.get(t, i.ID))
		}
	}
	return stored
}

func (s Subject) step(was, is app.Instance) app.Step {
	step := app.Step{Was: was, Is: is}
	if was.State != is.State {
		step.Event = &app.Event{
			Kind: app.EventKind(is.State), At: s.Clock.Now(), Service: is.Service, Instance: is.ID,
			From: was.State, To: is.State, Reason: "a test",
		}
	}
	return step
}

// add registers an instance and lets it pass until it is healthy.
func (s Subject) add(t *testing.T, i app.Instance) app.Instance {
	t.Helper()
	return s.write(t, s.observe(i, strings.Repeat("+", i.Check.Rise)))[0]
}

func (s Subject) get(t *testing.T, id string) app.Instance {
	t.Helper()
	i, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

// claim takes what is due until now plus ahead, and returns it with its ids.
func (s Subject) claim(t *testing.T, q app.Queue, ahead time.Duration, limit int) ([]app.Claim, []string) {
	t.Helper()
	claims, err := q.Claim(t.Context(), s.Clock.Now().Add(ahead), limit)
	if err != nil {
		t.Fatal(err)
	}
	ids := []string{}
	for _, c := range claims {
		ids = append(ids, c.Instance.ID)
	}
	return claims, ids
}

// slots writes down the list of a vhost, as in "10.0.0.1 10.0.0.2!" with ! for a
// marked slot; "none" when the vhost is not known.
func (s Subject) slots(t *testing.T, host string) string {
	t.Helper()
	frontends, err := s.Frontends(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	n := slices.IndexFunc(frontends, func(f app.Frontend) bool { return f.Host == host })
	if n < 0 {
		return "none"
	}
	var out []string
	for _, slot := range frontends[n].Slots {
		text := strings.TrimSuffix(strings.TrimPrefix(slot.URL, "http://"), ":80")
		if slot.Marked {
			text += "!"
		}
		out = append(out, text)
	}
	return strings.Join(out, " ")
}

func wantSlots(t *testing.T, s Subject, host, want string) {
	t.Helper()
	if got := s.slots(t, host); got != want {
		t.Errorf("%s is %q, want %q", host, got, want)
	}
}

func wantIDs(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func wantErr(t *testing.T, what string, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func committedIsRead(t *testing.T, s Subject) {
	i := s.instance(1)
	i.Address, i.Hosts = "[fd00::1]:8080", []string{"*.a.test", "a.test"}
	i.Weight, i.FailOpen, i.Boot, i.Replaces = 7, false, `b"<oot> ü`, "i0"
	i.Tags, i.Meta = []string{"x", "y"}, map[string]string{"owner": "me & you", "null": "\x00"}
	i.Check = app.Check{
		Kind: app.HTTP, Port: 81, Path: "/health?full=1", Statuses: "200-204", Body: `"ok": {}`,
		Interval: 150 * time.Millisecond, Timeout: 3 * time.Second, Rise: 3, Fall: 4, Grace: time.Hour, Forget: 2 * time.Hour,
	}
	i = i.Begin(s.Clock.Now())
	i.Override = app.Override{Maintenance: true, Weight: 9, Until: s.Clock.Now().Add(time.Hour)}
	i.Streak = 2
	i.Last = app.Result{At: s.Clock.Now(), Latency: 12 * time.Millisecond, Passed: true, Code: 204, Detail: "said\n[]"}
	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Is: i}}}); err != nil {
		t.Fatal(err)
	}
	want := i
	want.Rev = 1
	if diff := cmp.Diff(want, s.get(t, i.ID)); diff != "" {
		t.Errorf("read after the first write (-want +got):\n%s", diff)
	}

	want.Hosts, want.Tags, want.Meta, want.Weight, want.Last = nil, nil, nil, 1, app.Result{}
	want.Due, want.Deadline, want.State, want.Override = time.Time{}, time.Time{}, app.Healthy, app.Override{}
	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: s.get(t, i.ID), Is: want}}}); err != nil {
		t.Fatal(err)
	}
	want.Rev = 2
	if diff := cmp.Diff(want, s.get(t, i.ID)); diff != "" {
		t.Errorf("read after the second write (-want +got):\n%s", diff)
	}
}

func missingIsNotFound(t *testing.T, s Subject) {
	_, err := s.Get(t.Context(), "nobody")
	wantErr(t, "get", err, app.ErrNotFound)
	results, err := s.Results(t.Context(), "nobody")
	if len(results) > 0 || err != nil {
		t.Errorf("results: got %v, %v, want none", results, err)
	}
	err = s.Renew(t.Context(), app.Instance{ID: "nobody", Rev: 1}, s.Clock.Now(), nil)
	wantErr(t, "renew", err, app.ErrConflict)
}

func staleRevisionWritesNothing(t *testing.T, s Subject) {
	first := s.add(t, s.instance(1))
	second := first
	second.Weight = 2
	second = s.write(t, second)[0]
	for _, rev := range []int64{0, first.Rev, second.Rev + 1} {
		was, is := second, second
		was.Rev, is.Weight = rev, 3
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(was, is)}})
		wantErr(t, fmt.Sprintf("commit at revision %d", rev), err, app.ErrConflict)
	}
	missing := s.instance(2)
	missing.Rev = 1
	_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(missing, missing)}})
	wantErr(t, "commit on what is not there", err, app.ErrConflict)
	if diff := cmp.Diff(second, s.get(t, "i1")); diff != "" {
		t.Errorf("after the refused commits (-want +got):\n%s", diff)
	}
	wantSlots(t, s, "a.test", "10.0.0.1 10.0.0.1")
}

func oneWriterWins(t *testing.T, s Subject) {
	was := s.add(t, s.instance(1))
	const writers = 8
	won := make([]bool, writers)
	var all sync.WaitGroup
	for n := range writers {
		all.Go(func() {
			is := was
			is.Weight = n + 1
			_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(was, is)}})
			if won[n] = err == nil; !won[n] && !errors.Is(err, app.ErrConflict) {
				t.Errorf("writer %d: %v, want a conflict", n, err)
			}
		})
	}
	all.Wait()
	winner := slices.Index(won, true)
	if winner < 0 || slices.Contains(won[winner+1:], true) {
		t.Fatalf("won: %v, want one", won)
	}
	if got := s.get(t, "i1").Weight; got != winner+1 {
		t.Errorf("weight is %d, want the winner's %d", got, winner+1)
	}
}

func changeIsAllOrNothing(t *testing.T, s Subject) {
	one, two := s.add(t, s.instance(1)), s.add(t, s.instance(2))
	stale := two
	stale.Rev--
	_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{
		s.step(one, one.Leave(s.Clock.Now())), s.step(stale, two.Drain(time.Second, s.Clock.Now())),
	}})
	wantErr(t, "commit with one stale step", err, app.ErrConflict)
	if got := s.get(t, "i1"); got.Rev != one.Rev {
		t.Errorf("i1 is at revision %d, want %d as before", got.Rev, one.Rev)
	}
	wantSlots(t, s, "a.test", "10.0.0.1 10.0.0.2")

	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{
		s.step(one, one.Leave(s.Clock.Now())), s.step(two, two.Drain(time.Second, s.Clock.Now())),
	}}); err != nil {
		t.Fatal(err)
	}
	_, err = s.Get(t.Context(), "i1")
	wantErr(t, "get i1", err, app.ErrNotFound)
	if got := s.get(t, "i2").State; got != app.Draining {
		t.Errorf("i2 is %s, want draining", got)
	}
}

func addressHasOneHolder(t *testing.T, s Subject) {
	one := s.add(t, s.instance(1))
	same := s.instance(2)
	same.Address = one.Address
	_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, same)}})
	var taken *app.TakenError
	if !errors.As(err, &taken) || *taken != (app.TakenError{What: "address", Value: one.Address, Holder: "i1"}) {
		t.Errorf("the same address: got %v, want it taken by i1", err)
	}
	_, err = s.Get(t.Context(), "i2")
	wantErr(t, "get what was refused", err, app.ErrNotFound)

	other := same
	other.ID, other.Service, other.Hosts = "i3", "api", nil
	s.write(t, other) // another service may have it, too

	moved := one
	moved.Address = "10.0.0.9:80"
	one = s.write(t, moved)[0]
	s.write(t, same) // i1 has left it
	s.write(t, s.get(t, "i2").Leave(s.Clock.Now()))
	one.Address = same.Address
	s.write(t, one) // i2 is gone

	again := s.instance(4)
	again.Address = one.Address
	s.write(t, s.get(t, "i1").Leave(s.Clock.Now()), again) // both in one step
	again.ID = "i5"
	s.write(t, again, s.get(t, "i4").Leave(s.Clock.Now())) // in the other order
	if got := s.get(t, "i5").Address; got != again.Address {
		t.Errorf("i5 is at %s, want %s", got, again.Address)
	}
	last := again
	last.ID = "i6"
	_, err = s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, last)}})
	if !errors.As(err, &taken) || taken.Holder != "i5" {
		t.Errorf("after it changed hands: got %v, want it taken by i5", err)
	}
}

func addressIsInherited(t *testing.T, s Subject) {
	at := func(id, service, boot string) app.Instance {
		i := s.instance(1)
		i.ID, i.Service, i.Boot, i.Hosts = id, service, boot, nil
		return i
	}
	holder := func(i app.Instance) string {
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, i)}})
		if taken, ok := errors.AsType[*app.TakenError](err); ok {
			return taken.Holder
		} else if err != nil {
			t.Fatal(err)
		}
		return "nobody"
	}
	s.write(t, at("i1", "web", "b1"))
	for _, c := range []struct {
		service, boot, want string
	}{
		{"web-admin", "b1", "nobody"}, {"status", "", "nobody"}, {"web", "", "i1"}, {"cache", "b2", "i1"},
	} {
		if got := holder(at("by-"+c.service, c.service, c.boot)); got != c.want {
			t.Errorf("%s with boot %q: taken by %s, want %s", c.service, c.boot, got, c.want)
		}
	}
	s.write(t, s.get(t, "i1").Leave(s.Clock.Now()))
	if got := holder(at("i2", "cache", "b2")); got != "by-web-admin" {
		t.Errorf("when the first one has left: taken by %s, want the other one of the same start", got)
	}
	s.write(t, at("i2", "cache", "b2"), s.get(t, "by-web-admin").Leave(s.Clock.Now()))
	again := s.get(t, "by-status") // has no nonce: nobody knows
	again.Weight = 2
	s.write(t, again)
}

func vhostHasOneService(t *testing.T, s Subject) {
	s.add(t, s.instance(1))
	other := s.instance(2)
	other.Service, other.Hosts = "api", []string{"a.test", "b.test"}
	_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, other)}})
	var taken *app.TakenError
	if !errors.As(err, &taken) || *taken != (app.TakenError{What: "host", Value: "a.test", Holder: "web"}) {
		t.Errorf("the same vhost: got %v, want it taken by web", err)
	}
	wantSlots(t, s, "b.test", "none")
	s.write(t, s.get(t, "i1").Leave(s.Clock.Now()))
	s.add(t, other)
	wantSlots(t, s, "a.test", "10.0.0.2")
	_, err = s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, s.instance(1))}})
	if !errors.As(err, &taken) || taken.Holder != "api" {
		t.Errorf("after it changed hands: got %v, want it taken by api", err)
	}
}

func goneLeavesNothing(t *testing.T, s Subject) {
	i := s.add(t, s.instance(1))
	i.Override = app.Override{Weight: 2, Until: s.Clock.Now().Add(time.Minute)}
	i = s.write(t, i)[0]
	s.write(t, i.Leave(s.Clock.Now()))
	_, err := s.Get(t.Context(), "i1")
	wantErr(t, "get", err, app.ErrNotFound)
	if results, err := s.Results(t.Context(), "i1"); len(results) > 0 || err != nil {
		t.Errorf("results: got %v, %v, want none", results, err)
	}
	for _, q := range []app.Queue{s.Probes, s.Deadlines, s.Overrides} {
		_, ids := s.claim(t, q, 24*time.Hour, 10)
		wantIDs(t, "queued", ids)
	}
	wantSlots(t, s, "a.test", "none")
	s.add(t, s.instance(1)) // and it may come again
	wantSlots(t, s, "a.test", "10.0.0.1")
}

func dueIsClaimedInOrder(t *testing.T, s Subject) {
	start := s.Clock.Now()
	for n, after := range []time.Duration{3 * time.Second, time.Second, 2 * time.Second, 4 * time.Second} {
		i := s.instance(n + 1)
		i.Due = start.Add(after)
		s.write(t, i)
	}
	_, ids := s.claim(t, s.Probes, 0, 10)
	wantIDs(t, "before anything is due", ids)
	s.Clock.Pass(2 * time.Second)
	claims, ids := s.claim(t, s.Probes, 1100*time.Millisecond, 2)
	wantIDs(t, "the first two", ids, "i2", "i3")
	want := s.get(t, "i2")
	want.Due = start.Add(time.Second)
	if diff := cmp.Diff(want, claims[0].Instance); diff != "" {
		t.Errorf("claimed instance (-want +got):\n%s", diff)
	}
	if !claims[0].Due.Equal(want.Due) {
		t.Errorf("due at %v, want %v", claims[0].Due, want.Due)
	}
	_, ids = s.claim(t, s.Probes, 1100*time.Millisecond, 2)
	wantIDs(t, "the rest until the horizon", ids, "i1")
	_, ids = s.claim(t, s.Probes, 0, 0)
	wantIDs(t, "no room", ids)
}

func claimIsExclusive(t *testing.T, s Subject) {
	const ahead = 1100 * time.Millisecond
	s.write(t, s.instance(1), s.instance(2))
	first, ids := s.claim(t, s.Probes, ahead, 10)
	wantIDs(t, "first claim", ids, "i1", "i2")
	s.Clock.Pass(app.ClaimLease)
	late := s.instance(3) // due while the claims still hold, and behind them in the queue
	late.Due = s.Clock.Now().Add(ahead)
	s.write(t, late)
	_, ids = s.claim(t, s.Probes, ahead, 1)
	wantIDs(t, "while the claims hold", ids, "i3")
	s.Clock.Pass(time.Millisecond)
	second, ids := s.claim(t, s.Probes, 0, 10)
	wantIDs(t, "after they ran out", ids, "i1", "i2")

	// A claim that was made again is worth nothing any more.
	settled := []app.Settlement{{Claim: first[0], Due: s.Clock.Now().Add(-time.Second)}}
	if err := s.Probes.Settle(t.Context(), settled); err != nil {
		t.Fatal(err)
	}
	_, ids = s.claim(t, s.Probes, 0, 10)
	wantIDs(t, "after a stale claim was settled", ids)
	kept, err := s.Probes.Renew(t.Context(), []app.Claim{first[1], second[0]})
	if err != nil || len(kept) != 1 || kept[0].Instance.ID != "i1" {
		t.Errorf("renew: got %v, %v, want only the claim on i1 that holds", kept, err)
	}
}

func anybodyIsLookedAt(t *testing.T, s Subject) {
	any := func(n int) (ids []string) {
		t.Helper()
		some, err := s.Probes.Any(t.Context(), n)
		if err != nil {
			t.Fatal(err)
		}
		for _, i := range some {
			ids = append(ids, i.ID)
		}
		slices.Sort(ids)
		return ids
	}
	if got := any(5); len(got) > 0 {
		t.Errorf("of nobody: got %v", got)
	}
	for n := range 20 {
		s.add(t, s.instance(n+1))
		s.Clock.Pass(time.Millisecond)
	}
	seen := map[string]bool{}
	for range 200 {
		got := any(4)
		if len(slices.Compact(slices.Clone(got))) != 4 || !slices.Contains(got, "i19") || !slices.Contains(got, "i20") {
			t.Fatalf("got %v, want four, and among them the two that were due last", got)
		}
		for _, id := range got {
			seen[id] = true
		}
	}
	if len(seen) < 15 {
		t.Errorf("only %d of 20 were ever looked at", len(seen))
	}
	if claims, ids := s.claim(t, s.Probes, time.Second, 100); len(claims) != 20 {
		t.Errorf("afterwards %v can be claimed, want all", ids)
	}
}

func claimersShare(t *testing.T, s Subject) {
	const checks, workers = 60, 4
	for n := range checks {
		s.write(t, s.instance(n+1))
	}
	var mu sync.Mutex
	got := map[string]int{}
	var all sync.WaitGroup
	for range workers {
		all.Go(func() {
			for {
				claims, err := s.Probes.Claim(t.Context(), s.Clock.Now(), 7)
				if err != nil {
					t.Error(err)
				}
				if len(claims) == 0 {
					return
				}
				mu.Lock()
				for _, c := range claims {
					got[c.Instance.ID]++
				}
				mu.Unlock()
			}
		})
	}
	all.Wait()
	for id, n := range got {
		if n > 1 {
			t.Errorf("%s was handed out %d times", id, n)
		}
	}
	if len(got) != checks {
		t.Errorf("%d checks were handed out, want %d", len(got), checks)
	}
}

func renewedClaimLasts(t *testing.T, s Subject) {
	s.write(t, s.instance(1))
	claims, _ := s.claim(t, s.Probes, 0, 1)
	for range 3 {
		s.Clock.Pass(2 * time.Second)
		kept, err := s.Probes.Renew(t.Context(), claims)
		if err != nil || len(kept) != 1 {
			t.Fatalf("renew: got %v, %v, want the claim", kept, err)
		}
		claims = kept
		_, ids := s.claim(t, s.Probes, 2*time.Second, 1)
		wantIDs(t, "while it is renewed", ids)
	}
	if err := s.Probes.Settle(t.Context(), []app.Settlement{{Claim: claims[0], Due: s.Clock.Now()}}); err != nil {
		t.Fatal(err)
	}
	_, ids := s.claim(t, s.Probes, 0, 1)
	wantIDs(t, "after it was settled", ids, "i1")
	if kept, err := s.Probes.Renew(t.Context(), nil); len(kept) > 0 || err != nil {
		t.Errorf("renew nothing: got %v, %v", kept, err)
	}
}

func commitDependsOnClaim(t *testing.T, s Subject) {
	s.write(t, s.instance(1))
	claims, _ := s.claim(t, s.Probes, 0, 1)
	s.Clock.Pass(app.ClaimLease + time.Second)
	judged := func(c app.Claim) error {
		step := s.step(c.Instance, s.observe(c.Instance, "+"))
		step.Is.Due = s.Clock.Now().Add(time.Second)
		step.Claim = &c
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{step}})
		return err
	}
	again, _ := s.claim(t, s.Probes, 0, 1)
	wantErr(t, "commit on the claim that ran out", judged(claims[0]), app.ErrClaimLost)
	if err := judged(again[0]); err != nil {
		t.Errorf("commit on the one that holds: %v", err)
	}
	if got := s.get(t, "i1"); got.Streak != 1 || !got.Due.Equal(s.Clock.Now().Add(time.Second)) {
		t.Errorf("streak %d, due %v; want 1, in a second", got.Streak, got.Due)
	}

	// A claim that ran out holds until somebody else claims.
	s.Clock.Pass(time.Second)
	claims, _ = s.claim(t, s.Probes, 0, 1)
	s.Clock.Pass(time.Hour)
	if err := judged(claims[0]); err != nil {
		t.Errorf("commit on one that ran out and that nobody took: %v", err)
	}
}

func settledIsDueWhenTold(t *testing.T, s Subject) {
	s.write(t, s.instance(1), s.instance(2))
	claims, _ := s.claim(t, s.Probes, 0, 2)
	due := s.Clock.Now().Add(time.Second)
	result := app.Result{At: s.Clock.Now(), Latency: time.Second, Code: app.TimedOut}
	if err := s.Probes.Settle(t.Context(), []app.Settlement{
		{Claim: claims[0], Due: due, Result: &result},
		{Claim: claims[1], Due: s.Clock.Now()},
	}); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "i1"); !got.Due.Equal(due) || got.Rev != claims[0].Instance.Rev {
		t.Errorf("due at %v, revision %d, want %v and unchanged %d", got.Due, got.Rev, due, claims[0].Instance.Rev)
	}
	_, ids := s.claim(t, s.Probes, 0, 2)
	wantIDs(t, "due at once", ids, "i2")
	s.Clock.Pass(time.Second)
	_, ids = s.claim(t, s.Probes, 0, 2)
	wantIDs(t, "due a second later", ids, "i1")
	if err := s.Probes.Settle(t.Context(), nil); err != nil {
		t.Errorf("settle nothing: %v", err)
	}
	s.write(t, s.get(t, "i2").Leave(s.Clock.Now()))
	if err := s.Probes.Settle(t.Context(), []app.Settlement{{Claim: claims[1], Due: s.Clock.Now()}}); err != nil {
		t.Errorf("settle what is gone: %v", err)
	}
	_, ids = s.claim(t, s.Probes, 0, 2)
	wantIDs(t, "after settling what is gone", ids)
}

func resultsAreKept(t *testing.T, s Subject) {
	s.write(t, s.instance(1))
	var want []app.Result
	for n := range 25 {
		s.Clock.Pass(time.Second)
		claims, _ := s.claim(t, s.Probes, 0, 1)
		r := app.Result{At: s.Clock.Now(), Latency: time.Duration(n*n) * time.Millisecond, Passed: n%3 == 0, Code: app.Code(n * 25)}
		want = append(want, r)
		if err := s.Probes.Settle(t.Context(), []app.Settlement{{Claim: claims[0], Due: s.Clock.Now(), Result: &r}}); err != nil {
			t.Fatal(err)
		}
	}
	i := s.observe(s.get(t, "i1"), "+")
	want = append(want, i.Last)
	i = s.write(t, i)[0]
	report := app.Result{At: s.Clock.Now(), Latency: 2 * time.Minute, Code: app.ReportedSick, Detail: "is not kept"}
	if err := s.Renew(t.Context(), i, i.Deadline, &report); err != nil {
		t.Fatal(err)
	}
	report.Latency, report.Detail = 65535*time.Millisecond, "" // the longest that is kept
	want = append(want, report)
	got, err := s.Results(t.Context(), "i1")
	if diff := cmp.Diff(want[len(want)-20:], got); diff != "" || err != nil {
		t.Errorf("results (-want +got), %v:\n%s", err, diff)
	}
}

func drainingIsNotProbed(t *testing.T, s Subject) {
	i := s.add(t, s.instance(1))
	s.write(t, i.Drain(10*time.Second, s.Clock.Now()))
	_, ids := s.claim(t, s.Probes, time.Hour, 1)
	wantIDs(t, "probes", ids)
	_, ids = s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "deadlines before the hold is over", ids)
	s.Clock.Pass(10 * time.Second)
	claims, ids := s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "deadlines after", ids, "i1")
	step := s.step(claims[0].Instance, claims[0].Instance.Expire(s.Clock.Now()))
	step.Claim = &claims[0]
	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{step}}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Get(t.Context(), "i1")
	wantErr(t, "get", err, app.ErrNotFound)
}

// heartbeat is an instance that reports by itself and has just become healthy.
func (s Subject) heartbeat(t *testing.T, n int) app.Instance {
	t.Helper()
	i := s.instance(n)
	i.Check = app.DefaultCheck(app.Heartbeat)
	return s.add(t, i.Begin(s.Clock.Now()))
}

func renewedDeadlineIsLater(t *testing.T, s Subject) {
	i := s.heartbeat(t, 1)
	lease := i.Check.Lease()
	s.Clock.Pass(lease - time.Second)
	deadline := s.Clock.Now().Add(lease)
	if err := s.Renew(t.Context(), i, deadline, &app.Result{At: s.Clock.Now(), Passed: true}); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "i1"); !got.Deadline.Equal(deadline) || got.Rev != i.Rev {
		t.Errorf("deadline %v, revision %d, want %v and unchanged %d", got.Deadline, got.Rev, deadline, i.Rev)
	}
	s.Clock.Pass(lease - time.Millisecond)
	_, ids := s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "before the renewed lease is over", ids)
	s.Clock.Pass(time.Millisecond)
	claims, ids := s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "after", ids, "i1")

	// A report that comes between the claim and the verdict wins.
	if err := s.Renew(t.Context(), i, s.Clock.Now().Add(lease), nil); err != nil {
		t.Fatal(err)
	}
	step := s.step(claims[0].Instance, claims[0].Instance.Expire(s.Clock.Now()))
	step.Claim = &claims[0]
	_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{step}})
	wantErr(t, "expire after a report", err, app.ErrClaimLost)

	stale := i
	stale.Rev--
	wantErr(t, "renew at a stale revision", s.Renew(t.Context(), stale, deadline, nil), app.ErrConflict)
}

// tick passes a second and says that the roles are at work; it returns the outage.
func (s Subject) tick(t *testing.T, after time.Duration, roles ...string) (outage time.Duration) {
	t.Helper()
	s.Clock.Pass(after)
	for _, role := range roles {
		d, err := s.Tick(t.Context(), role)
		if err != nil {
			t.Fatal(err)
		}
		outage += d
	}
	return outage
}

func outageMovesDeadlines(t *testing.T, s Subject) {
	s.tick(t, 0, "web", "worker")
	i := s.heartbeat(t, 1)
	for range 5 {
		if got := s.tick(t, time.Second, "web", "worker"); got != 0 {
			t.Fatalf("an outage of %v while everybody ticks", got)
		}
	}
	if got := s.tick(t, time.Minute, "web", "worker"); got != time.Minute {
		t.Errorf("the outage was %v, want a minute", got)
	}
	want := i.Deadline.Add(time.Minute)
	if got := s.get(t, "i1").Deadline; !got.Equal(want) {
		t.Errorf("deadline %v, want it a minute later, %v", got, want)
	}
	_, ids := s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "deadlines after the outage", ids)
	late := s.heartbeat(t, 2) // the same lease, all of it after the outage
	if got := s.get(t, "i2").Deadline; !got.Equal(late.Deadline) || !got.Equal(s.Clock.Now().Add(i.Check.Lease())) {
		t.Errorf("a new deadline is %v, want a lease from now", got)
	}
	if err := s.Renew(t.Context(), s.get(t, "i2"), late.Deadline.Add(time.Second), nil); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "i2").Deadline; !got.Equal(late.Deadline.Add(time.Second)) {
		t.Errorf("a renewed deadline is %v, want %v", got, late.Deadline.Add(time.Second))
	}
	for s.Clock.Now().Before(want) {
		s.tick(t, time.Second, "web", "worker")
	}
	claims, ids := s.claim(t, s.Deadlines, 0, 10)
	wantIDs(t, "when the extended lease is over", ids, "i1")
	if !claims[0].Due.Equal(want) || !claims[0].Instance.Deadline.Equal(want) {
		t.Errorf("claimed with due %v and deadline %v, want %v", claims[0].Due, claims[0].Instance.Deadline, want)
	}
}

func silentWebIsOutage(t *testing.T, s Subject) {
	s.tick(t, 0, "web", "worker")
	i := s.heartbeat(t, 1)
	var outage time.Duration
	for range 60 {
		outage += s.tick(t, time.Second, "worker")
	}
	if outage < 55*time.Second || outage > time.Minute {
		t.Errorf("the outage was %v, want nearly a minute", outage)
	}
	if got, want := s.get(t, "i1").Deadline, i.Deadline.Add(outage); !got.Equal(want) {
		t.Errorf("deadline %v, want %v", got, want)
	}
	s.tick(t, 0, "web")
	if got := s.tick(t, time.Second, "worker"); got != 0 {
		t.Errorf("an outage of %v after the web process came back", got)
	}
}

func deadlineQueueAfterOutage(t *testing.T, s Subject) {
	s.tick(t, 0, "worker")
	s.tick(t, time.Hour, "worker")
	i := s.instance(1)
	i.Deadline = s.Clock.Now()
	s.write(t, i)
	claims, _ := s.claim(t, s.Deadlines, 0, 1)
	s.Clock.Pass(2 * time.Second)
	kept, err := s.Deadlines.Renew(t.Context(), claims)
	if err != nil || len(kept) != 1 {
		t.Fatalf("renew: got %v, %v, want the claim", kept, err)
	}
	s.Clock.Pass(app.ClaimLease + time.Millisecond)
	claims, ids := s.claim(t, s.Deadlines, 0, 1)
	wantIDs(t, "after the renewed claim ran out", ids, "i1")
	due := s.Clock.Now().Add(time.Second)
	if err := s.Deadlines.Settle(t.Context(), []app.Settlement{{Claim: claims[0], Due: due}}); err != nil {
		t.Fatal(err)
	}
	if got := s.get(t, "i1").Deadline; !got.Equal(due) {
		t.Errorf("settled deadline is %v, want %v", got, due)
	}
}

func onceIsNoOutage(t *testing.T, s Subject) {
	for range 3 {
		if got := s.tick(t, time.Minute, "once"); got != 0 {
			t.Errorf("an outage of %v between single runs", got)
		}
	}
	s.tick(t, 0, "worker")
	if got := s.tick(t, time.Hour, "once"); got != time.Hour {
		t.Errorf("the worker's silence was an outage of %v, want an hour", got)
	}
	if got := s.tick(t, time.Hour, "once"); got != 0 {
		t.Errorf("an outage of %v after an outside scheduler took over", got)
	}
}

func overrideIsDue(t *testing.T, s Subject) {
	i := s.add(t, s.instance(1))
	until := s.Clock.Now().Add(time.Minute)
	i.Override = app.Override{Weight: 2, Until: until}
	i = s.write(t, i)[0]
	wantSlots(t, s, "a.test", "10.0.0.1 10.0.0.1")
	s.Clock.Pass(time.Minute - time.Millisecond)
	_, ids := s.claim(t, s.Overrides, 0, 1)
	wantIDs(t, "before it expires", ids)
	s.Clock.Pass(time.Millisecond)
	claims, ids := s.claim(t, s.Overrides, 0, 1)
	wantIDs(t, "when it expires", ids, "i1")
	if diff := cmp.Diff(i, claims[0].Instance); diff != "" || !claims[0].Due.Equal(until) {
		t.Errorf("claimed, due at %v, want %v (-stored +claimed):\n%s", claims[0].Due, until, diff)
	}
	i.Override.Until = until.Add(time.Hour)
	i = s.write(t, i)[0]
	_, ids = s.claim(t, s.Overrides, 59*time.Minute, 1)
	wantIDs(t, "after it was prolonged", ids)
	i.Override = app.Override{}
	s.write(t, i)
	_, ids = s.claim(t, s.Overrides, 24*time.Hour, 1)
	wantIDs(t, "after it was taken back", ids)
	wantSlots(t, s, "a.test", "10.0.0.1 10.0.0.1!")
}

func healthyAreListed(t *testing.T, s Subject) {
	s.write(t, s.instance(1))
	wantSlots(t, s, "a.test", "") // registered, never healthy
	two := s.instance(2)
	two.Weight, two.Hosts = 2, []string{"a.test", "b.test"}
	s.add(t, two)
	s.write(t, s.observe(s.get(t, "i1"), "++"))
	wantSlots(t, s, "a.test", "10.0.0.2 10.0.0.2 10.0.0.1")
	wantSlots(t, s, "b.test", "10.0.0.2 10.0.0.2")

	frontends, err := s.Frontends(t.Context())
	want := []app.Frontend{
		{Host: "a.test", Service: "web", Identifier: "web", Slots: []app.Slot{
			{URL: "http://10.0.0.2:80", Instance: "i2"}, {URL: "http://10.0.0.2:80", Instance: "i2"}, {URL: "http://10.0.0.1:80", Instance: "i1"},
		}},
		{Host: "b.test", Service: "web", Identifier: "web", Slots: []app.Slot{
			{URL: "http://10.0.0.2:80", Instance: "i2"}, {URL: "http://10.0.0.2:80", Instance: "i2"},
		}},
	}
	if diff := cmp.Diff(want, frontends, cmpopts.EquateEmpty()); diff != "" || err != nil {
		t.Errorf("frontends (-want +got), %v:\n%s", err, diff)
	}

	less := s.get(t, "i2")
	less.Weight, less.Hosts = 1, []string{"a.test"}
	s.write(t, less)
	wantSlots(t, s, "a.test", "10.0.0.2 10.0.0.2! 10.0.0.1")
	wantSlots(t, s, "b.test", "none")
	less = s.get(t, "i2")
	less.Weight = 3
	s.write(t, less)
	wantSlots(t, s, "a.test", "10.0.0.2 10.0.0.2 10.0.0.1 10.0.0.2")
}

func (s Subject) compact(t *testing.T) int {
	t.Helper()
	n, err := s.Compact(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return n
}

func unhealthyLeaves(t *testing.T, s Subject) {
	for n := range 3 {
		s.add(t, s.instance(n+1))
	}
	s.write(t, s.observe(s.get(t, "i1"), "--"))
	wantSlots(t, s, "a.test", "10.0.0.1! 10.0.0.2 10.0.0.3")
	frontends, err := s.Frontends(t.Context())
	if err != nil || !frontends[0].Slots[0].Leaves.Equal(s.Clock.Now().Add(Settle)) || !frontends[0].Slots[1].Leaves.IsZero() {
		t.Errorf("frontends are %v, %v; want the first slot to leave after the settle time", frontends, err)
	}
	s.Clock.Pass(Settle - time.Millisecond)
	if n := s.compact(t); n != 0 {
		t.Errorf("%d lists written before the settle time was over", n)
	}
	s.write(t, s.observe(s.get(t, "i3"), "--"))
	s.Clock.Pass(time.Millisecond)
	if n := s.compact(t); n != 1 {
		t.Errorf("%d lists written when it was over, want 1", n)
	}
	wantSlots(t, s, "a.test", "10.0.0.2 10.0.0.3!")
	s.write(t, s.observe(s.get(t, "i1"), "++"), s.observe(s.get(t, "i3"), "++"))
	wantSlots(t, s, "a.test", "10.0.0.2 10.0.0.3 10.0.0.1")
	s.Clock.Pass(time.Hour)
	if n := s.compact(t); n != 0 {
		t.Errorf("%d lists written when all is well", n)
	}
	s.write(t, s.get(t, "i2").Drain(time.Minute, s.Clock.Now()))
	wantSlots(t, s, "a.test", "10.0.0.2! 10.0.0.3 10.0.0.1")
}

func lastRoutableStays(t *testing.T, s Subject) {
	s.add(t, s.instance(1))
	s.add(t, s.instance(2))
	s.write(t, s.observe(s.get(t, "i1"), "--"))
	s.write(t, s.observe(s.get(t, "i2"), "--"))
	wantSlots(t, s, "a.test", "10.0.0.1! 10.0.0.2")
	s.Clock.Pass(time.Hour)
	s.compact(t)
	wantSlots(t, s, "a.test", "10.0.0.2")
	s.write(t, s.observe(s.get(t, "i1"), "++"))
	wantSlots(t, s, "a.test", "10.0.0.2! 10.0.0.1")
	s.Clock.Pass(Settle)
	s.compact(t)
	wantSlots(t, s, "a.test", "10.0.0.1")

	closed := s.get(t, "i1")
	closed.FailOpen = false
	s.write(t, closed)
	s.write(t, s.observe(s.get(t, "i1"), "--"))
	wantSlots(t, s, "a.test", "10.0.0.1! 10.0.0.2") // better than nothing
	s.write(t, s.get(t, "i2").Leave(s.Clock.Now()))
	wantSlots(t, s, "a.test", "10.0.0.1! 10.0.0.2!")
	s.Clock.Pass(Settle)
	s.compact(t)
	wantSlots(t, s, "a.test", "")
}

func emptyVhostIsNone(t *testing.T, s Subject) {
	one := s.instance(1)
	one.Hosts = []string{"*", "*.a.test", "a.test"}
	s.add(t, one)
	for _, host := range one.Hosts {
		wantSlots(t, s, host, "10.0.0.1")
	}
	s.write(t, s.get(t, "i1").Leave(s.Clock.Now()))
	for _, host := range one.Hosts {
		wantSlots(t, s, host, "none")
	}
}

func announcedIsDue(t *testing.T, s Subject) {
	i := s.instance(1)
	i.Hosts = []string{"*.a.test"}
	i = i.Begin(s.Clock.Now())
	i = s.add(t, i)
	i.Due = s.Clock.Now().Add(time.Minute)
	s.write(t, i)
	announced := func(host, url string) string {
		t.Helper()
		_, early, err := s.Announced(t.Context(), hipache.Announcement{Host: host, URL: url, Slot: 0, Len: 2})
		if err != nil {
			t.Fatal(err)
		}
		return early
	}
	for _, other := range []hipache.Announcement{{Host: "a.test", URL: i.URL()}, {Host: "x.a.test", URL: "http://10.0.0.2:80"}, {Host: "", URL: "garbage"}} {
		if early := announced(other.Host, other.URL); early != "" {
			t.Errorf("%v made %s due", other, early)
		}
	}
	_, ids := s.claim(t, s.Probes, 0, 1)
	wantIDs(t, "before it was announced", ids)
	if early := announced("x.a.test", "http://10.0.0.1:80/"); early != "i1" {
		t.Errorf("announced: %q is due, want i1", early)
	}
	_, ids = s.claim(t, s.Probes, 0, 1)
	wantIDs(t, "after", ids, "i1")
	if early := announced("x.a.test", "http://10.0.0.1:80/"); early != "" {
		t.Errorf("announced again at once: %q is due, want it only once", early)
	}
}

func nothingToReconcile(t *testing.T, s Subject) {
	for n := range 3 {
		s.add(t, s.instance(n+1))
	}
	s.heartbeat(t, 4)
	none := s.instance(5)
	none.Check = app.DefaultCheck(app.None)
	s.write(t, none.Begin(s.Clock.Now()))
	s.write(t, s.observe(s.get(t, "i1"), "--"), s.get(t, "i2").Drain(time.Minute, s.Clock.Now()))
	s.claim(t, s.Probes, time.Hour, 10)
	before := s.slots(t, "a.test")
	repairs, err := s.Reconcile(t.Context())
	if err != nil || !repairs.None() {
		t.Errorf("got %+v, %v; want nothing to repair", repairs, err)
	}
	wantSlots(t, s, "a.test", before)
}

// follow keeps a snapshot fresh until the test ends.
func (s Subject) follow(t *testing.T) *app.Snapshot {
	t.Helper()
	snapshot := app.NewSnapshot()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() { s.Follow(ctx, snapshot) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return snapshot
}

// eventually waits for a condition that is about to become true.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// told is an instance as far as events tell: without what changes with no event.
func told(i app.Instance) app.Instance {
	i.Rev, i.Due, i.Deadline, i.Streak, i.StreakAt, i.Last = 0, time.Time{}, time.Time{}, 0, time.Time{}, app.Result{}
	return i
}

func wantSnapshot(t *testing.T, s Subject, snapshot *app.Snapshot, ids ...string) {
	t.Helper()
	var want, got []app.Instance
	for _, id := range ids {
		want = append(want, told(s.get(t, id)))
	}
	for _, i := range snapshot.Instances("") {
		got = append(got, told(i))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the snapshot (-want +got):\n%s", diff)
	}
}

func followerHasEverything(t *testing.T, s Subject) {
	s.add(t, s.instance(1))
	s.add(t, s.instance(2))
	snapshot := s.follow(t)
	eventually(t, "the snapshot is fresh", func() bool { _, err := snapshot.Age(time.Now()); return err == nil })
	wantSnapshot(t, s, snapshot, "i1", "i2")

	before := snapshot.Revision()
	three := s.instance(3)
	revision, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, three)}})
	if err != nil || revision.Compare(before) <= 0 {
		t.Fatalf("commit: revision %q after %q, %v", revision, before, err)
	}
	if err := snapshot.Reached(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, s, snapshot, "i1", "i2", "i3")
	quiet, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: s.get(t, "i3"), Is: s.observe(three, "+")}}})
	if err != nil || quiet != "" {
		t.Errorf("a commit without an event: revision %q, %v; want none", quiet, err)
	}
	one := s.get(t, "i1")
	last, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{
		s.step(one, one.Leave(s.Clock.Now())), s.step(s.get(t, "i2"), s.get(t, "i2").Drain(time.Second, s.Clock.Now())),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := snapshot.Reached(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	wantSnapshot(t, s, snapshot, "i2", "i3")
}

// A follower that begins to read in the middle of many writes misses none.
func followerKeepsUp(t *testing.T, s Subject) {
	const writers, rounds = 4, 15
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			for n := range rounds {
				i := s.instance(w*rounds + n + 1)
				steps := []app.Step{s.step(app.Instance{}, i)}
				if n%3 == 2 { // and one goes
					old := s.instance(w*rounds + n)
					old.Rev = 1
					steps = append(steps, s.step(old, old.Leave(s.Clock.Now())))
				}
				if _, err := s.Commit(t.Context(), app.Change{Steps: steps}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	snapshots := []*app.Snapshot{s.follow(t), s.follow(t)}
	all.Wait()
	marker, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, s.instance(200))}})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"i200"}
	for n := range writers * rounds {
		if (n%rounds)%3 != 1 {
			want = append(want, fmt.Sprintf("i%d", n+1))
		}
	}
	slices.Sort(want)
	for _, snapshot := range snapshots {
		if err := snapshot.Reached(t.Context(), marker); err != nil {
			t.Fatal(err)
		}
		wantSnapshot(t, s, snapshot, want...)
	}
}

func cancelledSaysSo(t *testing.T, s Subject) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := s.Get(ctx, "i1")
	wantErr(t, "get", err, context.Canceled)
	_, err = s.Commit(ctx, app.Change{Steps: []app.Step{s.step(app.Instance{}, s.instance(1))}})
	wantErr(t, "commit", err, context.Canceled)
	if errors.Is(err, app.ErrUnavailable) {
		t.Errorf("commit: %v, and nothing is unavailable", err)
	}
}
