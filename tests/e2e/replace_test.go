package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// TestRollingReplacementsFailNobodysRequest replaces the two instances of a vhost repeatedly, in three
// ways, while visitors send requests through the edge. The old instance stops as soon as Rollcall
// permits it.
func TestRollingReplacementsFailNobodysRequest(t *testing.T) {
	t.Parallel()
	const rounds = 4
	const hold = time.Second
	k := newStack(t, "ROLLCALL_DRAIN_HOLD="+hold.String(), "ROLLCALL_SETTLE=1500ms")
	k.Process("cron")
	_, a := k.web()
	through := newVisitor(k.edge())
	const host = "rolling.localhost"
	type running struct {
		id string
		*harness.Backend
	}
	started := 0
	launch := func(fields ...string) running {
		t.Helper()
		r := running{id: fmt.Sprint("r", started), Backend: harness.NewBackend(t)}
		started++
		a.registerAndWait(harness.Registration(r.Backend, r.id, host, fields...))
		return r
	}
	now := []running{launch(), launch()}

	ctx, cancel := context.WithCancel(t.Context())
	var load sync.WaitGroup
	var visits atomic.Int64
	for range 3 {
		load.Go(func() {
			for ctx.Err() == nil {
				status, body, err := through.visit(context.WithoutCancel(ctx), host, "")
				if visits.Add(1); err != nil || status != http.StatusOK {
					t.Errorf("at %s a visitor gets %d %.200s, %v", time.Now().Format(time.StampMilli), status, body, err)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for n := range rounds {
		old := now[0]
		switch n % 3 {
		case 0: // the new one takes over
			now = append(now[1:], launch("replaces", old.id))
			a.awaitGone(old.id)
		case 1: // the old one asks whether it may stop
			now = append(now[1:], launch())
			if got := a.call(http.MethodPost, "/v1/instances/"+old.id+"/drain", nil); got.status != http.StatusOK {
				t.Errorf("drain %s: %s", old.id, got)
			}
		case 2: // the old one says goodbye, and goes on for as long as a request takes
			now = append(now[1:], launch())
			if got := a.call(http.MethodDelete, "/v1/instances/"+old.id, nil); got.status != http.StatusNoContent {
				t.Errorf("deregister %s: %s", old.id, got)
			}
			time.Sleep(hold)
		}
		old.Is(harness.Refuses)
	}
	cancel()
	load.Wait()
	awaitList(t, k.Redis, host, now[0].URL(), now[1].URL())
	t.Logf("%d replacements, %d visits", rounds, visits.Load())
	if visits.Load() < int64(rounds)*20 {
		t.Errorf("only %d visits were made", visits.Load())
	}
}

// TestWildcardsBackendLeavesAtOnce lets a backend of a wildcard fail. Its marks are under names that
// only the proxy knows, so the backend leaves the list at once, with its marks.
func TestWildcardsBackendLeavesAtOnce(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	through := newVisitor(k.edge())
	one, two := harness.NewBackend(t), harness.NewBackend(t)
	const host, child = "*.wild.localhost", "a.wild.localhost"
	a.register(harness.Registration(one, "wild1", host))
	a.awaitState("wild1", "healthy")
	a.register(harness.Registration(two, "wild2", host))
	a.awaitState("wild2", "healthy")
	through.awaitVisit(t, child, one)
	through.awaitVisit(t, child, two)
	one.Is(harness.Refuses)
	harness.Eventually(t, func() error { // until one request has selected the dead backend
		if status, body, err := through.visit(t.Context(), child, ""); err != nil || status != http.StatusOK {
			t.Fatalf("a visitor gets %d %.200s, %v", status, body, err)
		}
		_, list, err := harness.Routed(t.Context(), k.Redis, host)
		if err == nil && !harness.SameSet(list, []string{two.URL()}) {
			err = fmt.Errorf("the list is %q", list)
		}
		return err
	})
	harness.Eventually(t, func() error {
		if marks := k.Redis.SMembers(t.Context(), "dead:"+child).Val(); len(marks) > 0 {
			return fmt.Errorf("dead:%s has %q, of a list that is not there any more", child, marks)
		}
		return nil
	})
	one.Is(harness.Answers)
	awaitPick(t, k.Redis, host, one.URL(), two.URL())
}

// TestSlowProbesGetTheirVerdict has checks that take longer than a lease, and two workers.
func TestSlowProbesGetTheirVerdict(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	l := watch(t, k.Server.Addr())
	k.Process("cron")
	k.Process("cron")
	_, a := k.web()
	for n := range 5 {
		b, id := harness.NewBackend(t), fmt.Sprint("slow", n)
		a.register(harness.Registration(b, id, "slow.localhost", "timeout", "5s"))
		a.awaitState(id, "healthy")
		b.Is(harness.Hangs)
	}
	for n := range 5 {
		id := fmt.Sprint("slow", n)
		a.awaitState(id, "unhealthy")
		harness.Eventually(t, func() error { // the test asks the worker once a second
			failures := 0
			for _, r := range a.instance(id).Results {
				if !r.Passed {
					failures++
				}
			}
			if failures < 2 {
				return fmt.Errorf("%s is unhealthy after %d failures, want 2", id, failures)
			}
			return nil
		})
	}
	found := l.sync(k)
	for _, problem := range found.problems {
		t.Error(problem)
	}
}

func TestCallersReadTheirOwnWrites(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	_, a := k.web()
	var callers sync.WaitGroup
	for n := range 4 {
		callers.Go(func() {
			for m := range 25 {
				id := fmt.Sprintf("own-%d-%d", n, m)
				f := form("service", "own", "id", id, "address", fmt.Sprintf("127.66.%d.%d:80", n, m+1), "health", "none")
				if got, err := a.try(http.MethodPost, "/v1/register", f); err != nil || got.status != http.StatusCreated {
					t.Errorf("register %s: %s, %v", id, got, err)
				} else if !a.lists("own", id) {
					t.Errorf("%s is registered and not listed", id)
				}
				if got, err := a.try(http.MethodDelete, "/v1/instances/"+id, nil); err != nil || got.status != http.StatusNoContent {
					t.Errorf("deregister %s: %s, %v", id, got, err)
				} else if a.lists("own", id) {
					t.Errorf("%s is deregistered and still listed", id)
				}
			}
		})
	}
	callers.Wait()
}

// lists reports whether a service's healthy instances include an id.
func (a api) lists(service, id string) bool {
	got, err := a.try(http.MethodGet, "/v1/services/"+service, nil)
	var list struct{ Instances []instance }
	if err != nil || json.Unmarshal([]byte(got.body), &list) != nil {
		return false
	}
	for _, i := range list.Instances {
		if i.ID == id {
			return true
		}
	}
	return false
}
