package redisstore_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/tests/harness"
)

// witness is a store that records its calls.
type witness struct {
	registry.Store
	mu    sync.Mutex
	calls []string
}

func (w *witness) note(call string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls = append(w.calls, call)
}

func (w *witness) Get(ctx context.Context, id string) (app.Instance, error) {
	w.note("get")
	return w.Store.Get(ctx, id)
}

func (w *witness) Commit(ctx context.Context, c app.Change) (app.Revision, error) {
	w.note("commit")
	return w.Store.Commit(ctx, c)
}

func (w *witness) Assert(ctx context.Context, i app.Instance, r *app.Result) error {
	w.note("assert")
	return w.Store.Assert(ctx, i, r)
}

func (w *witness) called() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	defer func() { w.calls = nil }()
	return strings.Join(w.calls, " ")
}

// A repeated registration that changes no field makes no call of the store. The store decides every other call.
func TestTheReplicaAnswersACallWithoutAChange(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	store := &witness{Store: s.Store}
	rep := replica.New()
	s.verbs = registry.New(store, rep, s.Now, hold, func(context.Context, app.Step) {})
	ctx, stop := context.WithCancel(t.Context())
	var following sync.WaitGroup
	following.Go(func() { s.Follow(ctx, rep) })
	defer following.Wait()
	defer stop()
	heartbeat := func(r *app.Registration) { r.Health = "heartbeat" }
	one, two := saying(1, func(r *app.Registration) { r.Boot = "b" }), saying(2, heartbeat)
	s.register(t, one)
	s.check(t, "i1", "++")
	s.register(t, two)
	report := func(id string, passed bool) error {
		return s.verbs.Report(t.Context(), id, passed, "")
	}
	if err := report("i2", true); err != nil {
		t.Fatal(err)
	}
	knows := func(id string, state app.State) {
		t.Helper()
		harness.Await(t, id+" is "+string(state), func() bool {
			i, _ := rep.Instance(id)
			_, err := rep.Age(time.Now())
			return i.State == state && err == nil
		})
		store.called()
	}
	knows("i1", app.Healthy)
	knows("i2", app.Healthy)

	for _, c := range []struct {
		what string
		call func() error
		want string
	}{
		{"the same again", func() error { return s.again(t, one) }, ""},
		{"a heartbeat of one that is probed", func() error { return report("i1", true) }, ""},
		{"a heartbeat", func() error { return report("i2", true) }, "assert"},
		{"a bad one", func() error { return report("i2", false) }, "get commit"},
		{"a good one after it", func() error { return report("i2", true) }, "assert get commit"},
		{"the same again, of the other", func() error { return s.again(t, two) }, ""},
		{"of one that nobody knows", func() error { return report("i3", true) }, "get"},
		{"a new one", func() error { return s.again(t, saying(4)) }, "commit"},
		{"other fields", func() error {
			return s.again(t, saying(1, func(r *app.Registration) { r.Boot, r.Tags = "b", []string{"x"} }))
		}, "get commit"},
	} {
		if err := c.call(); err != nil && !errors.Is(err, app.ErrNotFound) {
			t.Errorf("%s: %v", c.what, err)
		}
		if got := store.called(); got != c.want {
			t.Errorf("%s: calls %q, want %q", c.what, got, c.want)
		}
	}

	if _, _, err := s.verbs.Drain(t.Context(), "i1", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	knows("i1", app.Draining)
	if err := s.again(t, one); !errors.Is(err, app.ErrGone) {
		t.Errorf("one that is draining: %v, want it gone", err)
	}
	stop()
	following.Wait()
	harness.Await(t, "the replica is old", func() bool { _, err := rep.Age(time.Now()); return err != nil })
	store.called()
	if err := s.again(t, two); err != nil || !slices.Equal(strings.Fields(store.called()), []string{"get"}) {
		t.Errorf("a replica that has heard nothing for long is believed: %v", err)
	}
}

// again repeats a registration, and ignores whether it was new.
func (s *site) again(t *testing.T, r app.Registration) error {
	t.Helper()
	_, err := s.verbs.Register(t.Context(), r)
	return err
}
