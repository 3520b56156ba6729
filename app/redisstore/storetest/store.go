// Package storetest tests stores: it holds the contracts that each implementation passes, the implementations in memory that
// the tests of other packages use, and instances with a value in each field.
package storetest

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/hipache"
)

// Store is the interface of a store of the registry, without its clock.
type Store interface {
	registry.Store
	Results(ctx context.Context, id string) ([]app.Result, error)
	Follow(ctx context.Context, rep *replica.Replica)
	Reconcile(ctx context.Context, owns app.Owner) (app.Repairs, error)
	Own(ctx context.Context, c ownership.Call) (ownership.Reply, error)
	Frontends(ctx context.Context) ([]app.Frontend, error)
}

// Subject is an empty store under test with its clock. Its settle time is Settle.
type Subject struct {
	Store
	Vhosts Vhosts
	Clock  *Clock // the store's clock
}

// Vhosts has the duties of the owners of vhosts.
type Vhosts interface {
	Departures(ctx context.Context, owns app.Owner) (now int64, departures map[string]map[string]int64, err error)
	RemoveSettled(ctx context.Context, settled []app.Settled) (wrote int, refused []string, err error)
	Announced(ctx context.Context, a hipache.Announcement, owns app.Owner) (repaired bool, failing string, err error)
}

// RemoveSettled removes the backends whose departure is over at a time, as an owner does that began to wait with
// each of them. It returns how many lists were written.
func RemoveSettled(ctx context.Context, v Vhosts, at time.Time) (int, error) {
	_, departures, err := v.Departures(ctx, app.Everything)
	if err != nil {
		return 0, err
	}
	var settled []app.Settled
	for host, leaving := range departures {
		maps.DeleteFunc(leaving, func(_ string, departure int64) bool { return departure > at.UnixMilli() })
		if len(leaving) > 0 {
			settled = append(settled, app.Settled{Host: host, Departures: leaving})
		}
	}
	wrote, _, err := v.RemoveSettled(ctx, settled)
	return wrote, err
}

// Settle is the settle time of a Subject.
const Settle = 5 * time.Second

// Clock is a clock that moves only when a test moves it.
type Clock struct {
	mu  sync.Mutex
	now time.Time
}

// NewClock returns a clock at a whole second.
func NewClock() *Clock { return &Clock{now: time.Unix(1_900_000_000, 0)} }

// Now returns the time.
func (c *Clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

// Pass moves the clock forward.
func (c *Clock) Pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// StoreContract checks the contract of a store. open returns an empty one.
func StoreContract(t *testing.T, open func(t *testing.T) Subject) {
	t.Helper()
	for name, claim := range map[string]func(*testing.T, Subject){
		"what was committed is read":                 committedIsRead,
		"what is not there is not found":             missingIsNotFound,
		"a stale revision writes nothing":            staleRevisionWritesNothing,
		"of many writers one wins":                   oneWriterWins,
		"a change is all or nothing":                 changeIsAllOrNothing,
		"an address has one instance of a service":   addressHasOneHolder,
		"an address is inherited":                    addressIsInherited,
		"a vhost has one service":                    vhostHasOneService,
		"gone leaves nothing":                        goneLeavesNothing,
		"a commit depends on its fence":              commitDependsOnFence,
		"a report comes before an ending":            reportComesBeforeEnding,
		"the last twenty results are kept":           resultsAreKept,
		"a revision is never the same twice":         revisionIsNew,
		"healthy instances are listed by weight":     healthyAreListed,
		"an unhealthy one is marked and then leaves": unhealthyLeaves,
		"the last routable one stays":                lastRoutableStays,
		"a vhost without instances is none":          emptyVhostIsNone,
		"an announced backend is found":              announcedIsFound,
		"nothing to reconcile":                       nothingToReconcile,
		"a follower has everything":                  followerHasEverything,
		"a follower keeps up with writers":           followerKeepsUp,
		"a cancelled call says so":                   cancelledSaysSo,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claim(t, open(t))
		})
	}
}

// instance returns a new instance of the service web at http://10.0.0.n:80, registered for a.test.
func (s Subject) instance(n int) app.Instance {
	i := app.Instance{
		ID: fmt.Sprintf("i%d", n), Service: "web", Address: fmt.Sprintf("10.0.0.%d:80", n), Hosts: []string{"a.test"},
		Weight: 1, FailOpen: true, Check: app.DefaultCheck(app.TCP), RegisteredAt: s.Clock.Now(),
	}
	return i.Begin(s.Clock.Now())
}

// observe returns the instance after results: + for a pass, - for a failure.
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

// write commits changes of instances and returns the stored instances. An instance whose state changes has an event.
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

// slots formats the list of a vhost, as in "10.0.0.1 10.0.0.2!" with ! for a marked backend; "none" for an unknown vhost.
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
	want.Rev = s.get(t, i.ID).Rev
	if diff := cmp.Diff(want, s.get(t, i.ID)); diff != "" {
		t.Errorf("read after the first write (-want +got):\n%s", diff)
	}

	want.Hosts, want.Tags, want.Meta, want.Weight, want.Last = nil, nil, nil, 1, app.Result{}
	want.State, want.Override = app.Healthy, app.Override{}
	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: s.get(t, i.ID), Is: want}}}); err != nil {
		t.Fatal(err)
	}
	want.Rev = s.get(t, i.ID).Rev
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
	wantErr(t, "assert", s.Assert(t.Context(), app.Instance{ID: "nobody", Rev: 1}, nil), app.ErrConflict)
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
		s.step(one, one.Remove(s.Clock.Now())), s.step(stale, two.Drain(time.Second, s.Clock.Now())),
	}})
	wantErr(t, "commit with one stale step", err, app.ErrConflict)
	if got := s.get(t, "i1"); got.Rev != one.Rev {
		t.Errorf("i1 is at revision %d, want %d as before", got.Rev, one.Rev)
	}
	wantSlots(t, s, "a.test", "10.0.0.1 10.0.0.2")

	if _, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{
		s.step(one, one.Remove(s.Clock.Now())), s.step(two, two.Drain(time.Second, s.Clock.Now())),
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
	s.write(t, other) // another service may have it

	moved := one
	moved.Address = "10.0.0.9:80"
	one = s.write(t, moved)[0]
	s.write(t, same) // i1 has left it
	s.write(t, s.get(t, "i2").Remove(s.Clock.Now()))
	one.Address = same.Address
	s.write(t, one) // i2 is gone

	again := s.instance(4)
	again.Address = one.Address
	s.write(t, s.get(t, "i1").Remove(s.Clock.Now()), again) // both in one step
	again.ID = "i5"
	s.write(t, again, s.get(t, "i4").Remove(s.Clock.Now())) // in the other order
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
	s.write(t, s.get(t, "i1").Remove(s.Clock.Now()))
	if got := holder(at("i2", "cache", "b2")); got != "by-web-admin" {
		t.Errorf("when the first one has left: taken by %s, want the other one of the same start", got)
	}
	s.write(t, at("i2", "cache", "b2"), s.get(t, "by-web-admin").Remove(s.Clock.Now()))
	again := s.get(t, "by-status") // without a nonce
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
	s.write(t, s.get(t, "i1").Remove(s.Clock.Now()))
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
	s.write(t, i.Remove(s.Clock.Now()))
	_, err := s.Get(t.Context(), "i1")
	wantErr(t, "get", err, app.ErrNotFound)
	if results, err := s.Results(t.Context(), "i1"); len(results) > 0 || err != nil {
		t.Errorf("results: got %v, %v, want none", results, err)
	}
	wantSlots(t, s, "a.test", "none")
	s.add(t, s.instance(1)) // and it may return
	wantSlots(t, s, "a.test", "10.0.0.1")
}

// heartbeat returns an instance that reports itself and has just become healthy.
func (s Subject) heartbeat(t *testing.T, n int) app.Instance {
	t.Helper()
	i := s.instance(n)
	i.Check = app.DefaultCheck(app.Heartbeat)
	return s.add(t, i.Begin(s.Clock.Now()))
}

func commitDependsOnFence(t *testing.T, s Subject) {
	first, last := false, false
	for n := 1; !first || !last; n++ { // the first and the last shard, too
		switch shard := ownership.ShardOf(fmt.Sprintf("i%d", n)); {
		case n == 1:
		case shard == 0 && !first:
			first = true
		case shard == ownership.Shards-1 && !last:
			last = true
		default:
			continue
		}
		s.fenced(t, n)
	}
}

// fenced checks the fence of instance n.
func (s Subject) fenced(t *testing.T, n int) {
	t.Helper()
	i := s.instance(n)
	i.Address, i.Hosts = fmt.Sprintf("10.0.1.%d:%d", n%250, 80+n), nil
	i = s.write(t, i)[0]
	shard := ownership.ShardOf(i.ID)
	me, other := fmt.Sprintf("a%d", n), fmt.Sprintf("b%d", n)
	own := func(worker string, count int64, stopping bool) app.Fence {
		t.Helper()
		r, err := s.Own(t.Context(), ownership.Call{Worker: worker, Count: count, Stopping: stopping})
		if err != nil {
			t.Fatal(err)
		}
		return app.Fence{Shard: shard, Term: string(r.Owned[shard])}
	}
	judged := func(f app.Fence) error {
		i := s.get(t, i.ID)
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(i, s.observe(i, "+"))}, Fence: f})
		return err
	}
	first := own(me, 1, false)
	own(me, 2, true)
	second := own(other, 1, false)
	again := first
	again.Term = other + " 2"
	for _, f := range []app.Fence{first, again, {Shard: shard, Term: me + " 2"}, {Shard: (shard + 1) % ownership.Shards, Term: first.Term}} {
		wantErr(t, fmt.Sprintf("commit under %v", f), judged(f), app.ErrNotOwner)
	}
	if got := s.get(t, i.ID); got.Rev != i.Rev {
		t.Errorf("a refused commit has written %+v", got)
	}
	if err := judged(second); err != nil {
		t.Errorf("commit under the present term: %v", err)
	}
	if got := s.get(t, i.ID); got.Streak != 1 {
		t.Errorf("streak %d, want 1", got.Streak)
	}
	own(other, 2, true)
}

// A report between the read of the last one and the decision wins.
func reportComesBeforeEnding(t *testing.T, s Subject) {
	i := s.heartbeat(t, 1)
	ends := func(beat int64) error {
		step := s.step(i, i.Expire(s.Clock.Now()))
		step.Beat = &beat
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{step}})
		return err
	}
	seen := s.get(t, "i1").AssertedAt
	beat := int64(0)
	if !seen.IsZero() {
		beat = seen.UnixMilli()
	}
	for range 3 {
		if err := s.Assert(t.Context(), i, &app.Result{At: s.Clock.Now(), Passed: true}); err != nil {
			t.Fatal(err)
		}
		wantErr(t, "expire after a report", ends(beat), app.ErrNotOwner)
		next := s.get(t, "i1").AssertedAt.UnixMilli()
		if next == beat {
			t.Fatal("two reports cannot be told apart")
		}
		beat = next
	}
	if got := s.get(t, "i1"); got.Rev != i.Rev {
		t.Errorf("revision %d, want unchanged %d", got.Rev, i.Rev)
	}
	stale := i
	stale.Rev--
	wantErr(t, "a report at a stale revision", s.Assert(t.Context(), stale, nil), app.ErrConflict)
	if err := ends(beat); err != nil {
		t.Errorf("expire without a report in between: %v", err)
	}
}

func resultsAreKept(t *testing.T, s Subject) {
	i := s.heartbeat(t, 1)
	var want []app.Result
	for n := range 25 {
		s.Clock.Pass(time.Second)
		r := app.Result{At: s.Clock.Now(), Latency: time.Duration(n*n) * time.Millisecond, Passed: n%3 == 0, Code: app.Code(n * 25)}
		want = append(want, r)
		if err := s.Assert(t.Context(), i, &r); err != nil {
			t.Fatal(err)
		}
	}
	report := app.Result{At: s.Clock.Now(), Latency: 2 * time.Minute, Code: app.ReportedSick, Detail: "is not kept"}
	if err := s.Assert(t.Context(), i, &report); err != nil {
		t.Fatal(err)
	}
	report.Latency, report.Detail = 65535*time.Millisecond, "" // the longest that is kept
	want = append(want, report)
	got, err := s.Results(t.Context(), "i1")
	if diff := cmp.Diff(want[len(want)-20:], got); diff != "" || err != nil {
		t.Errorf("results (-want +got), %v:\n%s", err, diff)
	}
}

// After a failover that lost writes, the same number of writes leads to another revision.
func revisionIsNew(t *testing.T, s Subject) {
	i := s.write(t, s.instance(1))[0]
	seen := map[int64]bool{i.Rev: true}
	for range 20 {
		was := i
		i.Weight++
		i = s.write(t, i)[0]
		if i.Rev <= was.Rev || seen[i.Rev] {
			t.Fatalf("revision %d after %d", i.Rev, was.Rev)
		}
		if again := app.NextRevision(was.Rev); again == i.Rev && app.NextRevision(was.Rev) == i.Rev {
			t.Fatalf("every write after %d leads to %d", was.Rev, i.Rev)
		}
	}
}

func announcedIsFound(t *testing.T, s Subject) {
	i := s.instance(1)
	i.Hosts = []string{"*.a.test"}
	i = s.add(t, i.Begin(s.Clock.Now()))
	announced := func(host, url string) string {
		t.Helper()
		_, failing, err := s.Vhosts.Announced(t.Context(), hipache.Announcement{Host: host, URL: url, Position: 0, Len: 2}, app.Everything)
		if err != nil {
			t.Fatal(err)
		}
		return failing
	}
	for _, other := range []hipache.Announcement{{Host: "a.test", URL: i.URL()}, {Host: "x.a.test", URL: "http://10.0.0.2:80"}, {Host: "", URL: "garbage"}} {
		if failing := announced(other.Host, other.URL); failing != "" {
			t.Errorf("%v is said to be %s", other, failing)
		}
	}
	if failing := announced("x.a.test", "http://10.0.0.1:80/"); failing != "i1" {
		t.Errorf("announced: got %q, want i1", failing)
	}
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
	n, err := RemoveSettled(t.Context(), s.Vhosts, s.Clock.Now())
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
	wantSlots(t, s, "a.test", "10.0.0.1! 10.0.0.2") // better than an empty list
	s.write(t, s.get(t, "i2").Remove(s.Clock.Now()))
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
	s.write(t, s.get(t, "i1").Remove(s.Clock.Now()))
	for _, host := range one.Hosts {
		wantSlots(t, s, host, "none")
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
	before := s.slots(t, "a.test")
	repairs, err := s.Reconcile(t.Context(), app.Everything)
	if err != nil || !repairs.None() {
		t.Errorf("got %+v, %v; want nothing to repair", repairs, err)
	}
	wantSlots(t, s, "a.test", before)
}

// follow keeps a replica current until the test ends.
func (s Subject) follow(t *testing.T) *replica.Replica {
	t.Helper()
	rep := replica.New()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() { s.Follow(ctx, rep) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return rep
}

// eventually waits for a condition.
func eventually(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !holds(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// told reduces an instance to the fields that events carry.
func told(i app.Instance) app.Instance {
	i.Rev, i.AssertedAt, i.Streak, i.StreakAt, i.Last = 0, time.Time{}, 0, time.Time{}, app.Result{}
	return i
}

func wantReplica(t *testing.T, s Subject, rep *replica.Replica, ids ...string) {
	t.Helper()
	var want, got []app.Instance
	for _, id := range ids {
		want = append(want, told(s.get(t, id)))
	}
	for _, i := range rep.Instances("") {
		got = append(got, told(i))
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("the replica (-want +got):\n%s", diff)
	}
}

func followerHasEverything(t *testing.T, s Subject) {
	s.add(t, s.instance(1))
	s.add(t, s.instance(2))
	rep := s.follow(t)
	eventually(t, "the replica is fresh", func() bool { _, err := rep.Age(time.Now()); return err == nil })
	wantReplica(t, s, rep, "i1", "i2")

	before := rep.Revision()
	three := s.instance(3)
	revision, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{s.step(app.Instance{}, three)}})
	if err != nil || revision.Compare(before) <= 0 {
		t.Fatalf("commit: revision %q after %q, %v", revision, before, err)
	}
	if err := rep.WaitRevision(t.Context(), revision); err != nil {
		t.Fatal(err)
	}
	wantReplica(t, s, rep, "i1", "i2", "i3")
	quiet, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Was: s.get(t, "i3"), Is: s.observe(three, "+")}}})
	if err != nil || quiet != "" {
		t.Errorf("a commit without an event: revision %q, %v; want none", quiet, err)
	}
	one := s.get(t, "i1")
	last, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{
		s.step(one, one.Remove(s.Clock.Now())), s.step(s.get(t, "i2"), s.get(t, "i2").Drain(time.Second, s.Clock.Now())),
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := rep.WaitRevision(t.Context(), last); err != nil {
		t.Fatal(err)
	}
	wantReplica(t, s, rep, "i2", "i3")
}

// A follower that starts in the middle of many writes misses none.
func followerKeepsUp(t *testing.T, s Subject) {
	const writers, rounds = 4, 15
	var all sync.WaitGroup
	for w := range writers {
		all.Go(func() {
			var before app.Instance
			for n := range rounds {
				c := app.Change{Steps: []app.Step{s.step(app.Instance{}, s.instance(w*rounds+n+1))}}
				if n%3 == 2 { // and one leaves
					c.Steps = append(c.Steps, s.step(before, before.Remove(s.Clock.Now())))
				}
				if _, err := s.Commit(t.Context(), c); err != nil {
					t.Error(err)
				}
				before = c.Steps[0].Is
			}
		})
	}
	replicas := []*replica.Replica{s.follow(t), s.follow(t)}
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
	for _, rep := range replicas {
		if err := rep.WaitRevision(t.Context(), marker); err != nil {
			t.Fatal(err)
		}
		wantReplica(t, s, rep, want...)
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
