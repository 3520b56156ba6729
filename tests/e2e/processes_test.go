package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"

	"rollcall/tests/harness"
)

func TestProcfileProcessesShareARegistry(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	if v, err := k.Redis.Get(t.Context(), "rollcall:schema").Int(); err != nil || v < 1 {
		t.Errorf("after rollcall migrate the schema is %d, %v", v, err)
	}
	k.Process("cron")
	_, a := k.web()
	edge := k.edge()
	one, two := harness.BackendAt(t, "127.0.0.1:0"), harness.NewBackend(t)
	const host = "files.localhost"

	got, _ := a.registerAndWait(form("service", "files", "port", one.Port(), "host", host, "health", "/"))
	first := got.instance(t).ID
	a.register(harness.Registration(two, "second", host, "service", "files"))
	a.awaitState("second", "healthy")
	awaitPick(t, k.Redis, host, one.URL(), two.URL())
	through := newVisitor(edge)
	through.awaitVisit(t, host, one)
	through.awaitVisit(t, host, two)

	one.Is(harness.Refuses)
	awaitPick(t, k.Redis, host, two.URL())
	awaitList(t, k.Redis, host, two.URL())

	one.Is(harness.Answers)
	a.awaitState(first, "healthy")
	awaitPick(t, k.Redis, host, one.URL(), two.URL())
	if _, list, _ := harness.Routed(t.Context(), k.Redis, host); len(list) != 2 || list[0] != two.URL() {
		t.Errorf("the list is %q, want the one that came back at the end", list)
	}

	one.Is(harness.Refuses) // the last backend of a vhost stays in any state
	two.Is(harness.Refuses)
	a.awaitState(first, "unhealthy")
	a.awaitState("second", "unhealthy")
	harness.Eventually(t, func() error {
		_, list, err := harness.Routed(t.Context(), k.Redis, host)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("with both of them down the list is %q, want one of them in it", list)
		}
		return err
	})
	throughout(t, 2*time.Second, func() error {
		pick, _, err := harness.Routed(t.Context(), k.Redis, host)
		if err == nil && len(pick) == 0 {
			err = fmt.Errorf("nobody is left to be picked: the last one is to stay")
		}
		return err
	})
}

// An interval of an hour excludes every cause but the announcement.
const hourly = "1h"

// registerHourly registers an instance whose next scheduled probe is minutes away, and returns its
// id. The due time depends on the id.
func registerHourly(t *testing.T, a api, b *harness.Backend, host string) string {
	t.Helper()
	for n := range 100 {
		id := fmt.Sprintf("hourly-%s-%d", b.Port(), n)
		a.register(harness.Registration(b, id, host, "interval", hourly))
		a.awaitState(id, "healthy")
		var left time.Duration
		harness.Eventually(t, func() error { // the test asks the worker once a second
			i := a.instance(id)
			if left = time.Until(i.NextProbe); !i.AsOf.After(i.Since.Add(300*time.Millisecond)) || left < 0 {
				return fmt.Errorf("the next probe is at %s as of %s", i.NextProbe, i.AsOf)
			}
			return nil
		})
		if left > 5*time.Minute {
			return id
		}
		a.call(http.MethodDelete, "/v1/instances/"+id, nil)
	}
	t.Fatal("every instance is probed within the next minutes, with an interval of an hour")
	return ""
}

func TestAnnouncedCrashIsMarkedBeforeItsNextProbe(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	edge := k.edge()

	t.Run("announced by hand, as Hipache does", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := harness.NewBackend(t), harness.NewBackend(t)
		const host = "announced.localhost"
		sick, well := registerHourly(t, a, one, host), registerHourly(t, a, two, host)
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
		one.Is(harness.Refuses)
		_, list, err := harness.Routed(t.Context(), k.Redis, host)
		if err != nil || len(list) != 2 {
			t.Fatalf("list %q, %v", list, err)
		}
		position := 0
		if list[1] == one.URL() {
			position = 1
		}
		said := fmt.Sprintf("%s;%s/;%d;%d", host, one.URL(), position, len(list))
		if heard, err := k.Redis.Publish(t.Context(), "dead", said).Result(); err != nil || heard != 1 {
			t.Fatalf("%d listeners heard the announcement, %v; want cron alone", heard, err)
		}
		a.awaitState(sick, "unhealthy")
		awaitPick(t, k.Redis, host, two.URL())
		if i := a.instance(well); i.State != "healthy" {
			t.Errorf("the other one is %s", i.State)
		}
	})

	t.Run("announced by the edge, that a user's request has met it", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := harness.NewBackend(t), harness.NewBackend(t)
		const host = "met.localhost"
		sick := registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
		one.Is(harness.Refuses)
		through := newVisitor(edge)
		harness.Eventually(t, func() error { // a request picks one of the two at random
			if status, body, err := through.visit(t.Context(), host, ""); err != nil || status != http.StatusOK || body != two.Addr {
				t.Fatalf("%d %s, %v; want 200 by the one that is up", status, body, err)
			}
			if i := a.instance(sick); i.State != "unhealthy" {
				return fmt.Errorf("%s is %s", sick, i.State)
			}
			return nil
		})
		awaitPick(t, k.Redis, host, two.URL())
	})

	t.Run("a wrong announcement is checked and changes nothing", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := harness.NewBackend(t), harness.NewBackend(t)
		const host = "wrong.localhost"
		id := registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
		probes := len(one.Probed(id))
		_, list, _ := harness.Routed(t.Context(), k.Redis, host)
		position := 0
		if list[1] == one.URL() {
			position = 1
		}
		k.Redis.SAdd(t.Context(), "dead:"+host, position)
		k.Redis.Expire(t.Context(), "dead:"+host, 10*time.Minute)
		k.Redis.Publish(t.Context(), "dead", fmt.Sprintf("%s;%s/;%d;2", host, one.URL(), position))
		awaitPick(t, k.Redis, host, one.URL(), two.URL()) // the passing probe clears the mark
		if now := len(one.Probed(id)); now == probes {
			t.Errorf("the mark was cleared without a probe")
		}
		if i := a.instance(id); i.State != "healthy" {
			t.Errorf("%s is %s", id, i.State)
		}
	})

	t.Run("a visitor whose requests make Hipache mark every backend, again and again", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := harness.NewBackend(t), harness.NewBackend(t)
		const host = "visitor.localhost"
		registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
		_, list, err := harness.Routed(t.Context(), k.Redis, host)
		if err != nil || len(list) != 2 {
			t.Fatalf("list %q, %v", list, err)
		}
		for range 3 { // without a pause: the second mark comes just after the first probe
			for position, url := range list {
				k.Redis.SAdd(t.Context(), "dead:"+host, position)
				k.Redis.Expire(t.Context(), "dead:"+host, 10*time.Minute)
				k.Redis.Publish(t.Context(), "dead", fmt.Sprintf("%s;%s/;%d;2", host, url, position))
			}
			awaitPick(t, k.Redis, host, one.URL(), two.URL())
		}
	})

	t.Run("a mark that hit another backend than the failing one is taken back", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := harness.NewBackend(t), harness.NewBackend(t)
		const host = "shifted.localhost"
		registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
		k.Redis.SAdd(t.Context(), "dead:"+host, 0)
		k.Redis.Expire(t.Context(), "dead:"+host, 10*time.Minute)
		k.Redis.Publish(t.Context(), "dead", host+";http://127.0.0.1:1/;0;2") // a former backend at that position
		awaitPick(t, k.Redis, host, one.URL(), two.URL())
	})
}
