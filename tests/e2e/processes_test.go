package e2e

import (
	"fmt"
	"net/http"
	"testing"
	"time"
)

func TestProcfileProcessesShareARegistry(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	if v, err := k.rdb.Get(t.Context(), "rollcall:schema").Int(); err != nil || v < 1 {
		t.Errorf("after the Procfile's release the schema is %d, %v", v, err)
	}
	k.process("cron")
	_, a := k.web()
	edge := k.edge()
	one, two := backendAt(t, "127.0.0.1:0"), newBackend(t)
	const host = "files.localhost"

	got, _ := a.registerAndWait(form("service", "files", "port", one.port(), "host", host, "health", "/"))
	first := got.instance(t).ID
	a.register(instanceOn(two, "second", host, "service", "files"))
	a.awaitState("second", "healthy")
	awaitPick(t, k.rdb, host, one.url(), two.url())
	through := newVisitor(edge, bound)
	through.awaitVisit(t, host, one)
	through.awaitVisit(t, host, two)

	one.is(refuses)
	awaitPick(t, k.rdb, host, two.url())
	awaitList(t, k.rdb, host, two.url())

	one.is(answers)
	a.awaitState(first, "healthy")
	awaitPick(t, k.rdb, host, one.url(), two.url())
	if _, list, _ := routed(t.Context(), k.rdb, host); len(list) != 2 || list[0] != two.url() {
		t.Errorf("the list is %q, want the one that came back at the end", list)
	}

	one.is(refuses) // and the last one of a vhost stays, whatever its state
	two.is(refuses)
	a.awaitState(first, "unhealthy")
	a.awaitState("second", "unhealthy")
	eventually(t, bound, func() error {
		_, list, err := routed(t.Context(), k.rdb, host)
		if err == nil && len(list) != 1 {
			err = fmt.Errorf("with both of them down the list is %q, want one of them in it", list)
		}
		return err
	})
	throughout(t, 2*time.Second, func() error {
		pick, _, err := routed(t.Context(), k.rdb, host)
		if err == nil && len(pick) == 0 {
			err = fmt.Errorf("nobody is left to be picked: the last one is to stay")
		}
		return err
	})
}

// An interval of an hour rules out every other cause than the announcement.
const hourly = "1h"

// registerHourly registers an instance whose next regular probe is minutes away, and
// returns its id. When that is due depends on the id.
func registerHourly(t *testing.T, a api, b *backend, host string) string {
	t.Helper()
	for n := range 100 {
		id := fmt.Sprintf("hourly-%s-%d", b.port(), n)
		a.register(instanceOn(b, id, host, "interval", hourly))
		a.awaitState(id, "healthy")
		if left := time.Until(a.instance(id).NextProbe); left > 5*time.Minute {
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
	k.process("cron")
	_, a := k.web()
	edge := k.edge()

	t.Run("announced by hand, as Hipache does", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := newBackend(t), newBackend(t)
		const host = "announced.localhost"
		sick, well := registerHourly(t, a, one, host), registerHourly(t, a, two, host)
		awaitPick(t, k.rdb, host, one.url(), two.url())
		one.is(refuses)
		_, list, err := routed(t.Context(), k.rdb, host)
		if err != nil || len(list) != 2 {
			t.Fatalf("list %q, %v", list, err)
		}
		position := 0
		if list[1] == one.url() {
			position = 1
		}
		said := fmt.Sprintf("%s;%s/;%d;%d", host, one.url(), position, len(list))
		if heard, err := k.rdb.Publish(t.Context(), "dead", said).Result(); err != nil || heard != 1 {
			t.Fatalf("%d listeners heard the announcement, %v; want cron alone", heard, err)
		}
		a.awaitState(sick, "unhealthy")
		awaitPick(t, k.rdb, host, two.url())
		if i := a.instance(well); i.State != "healthy" {
			t.Errorf("the other one is %s", i.State)
		}
	})

	t.Run("announced by the edge, that a user's request has met it", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := newBackend(t), newBackend(t)
		const host = "met.localhost"
		sick := registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.rdb, host, one.url(), two.url())
		one.is(refuses)
		through := newVisitor(edge, bound)
		eventually(t, bound, func() error { // a request picks one of the two at random
			if status, body, err := through.visit(t.Context(), host, ""); err != nil || status != http.StatusOK || body != two.addr {
				t.Fatalf("%d %s, %v; want 200 by the one that is up", status, body, err)
			}
			if i := a.instance(sick); i.State != "unhealthy" {
				return fmt.Errorf("%s is %s", sick, i.State)
			}
			return nil
		})
		awaitPick(t, k.rdb, host, two.url())
	})

	t.Run("a wrong announcement is checked and changes nothing", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := newBackend(t), newBackend(t)
		const host = "wrong.localhost"
		id := registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.rdb, host, one.url(), two.url())
		probes := len(one.probed(id))
		_, list, _ := routed(t.Context(), k.rdb, host)
		position := 0
		if list[1] == one.url() {
			position = 1
		}
		k.rdb.SAdd(t.Context(), "dead:"+host, position)
		k.rdb.Expire(t.Context(), "dead:"+host, 10*time.Minute)
		k.rdb.Publish(t.Context(), "dead", fmt.Sprintf("%s;%s/;%d;2", host, one.url(), position))
		awaitPick(t, k.rdb, host, one.url(), two.url()) // the mark is cleared by the good probe
		if now := len(one.probed(id)); now == probes {
			t.Errorf("the mark was cleared without a probe")
		}
		if i := a.instance(id); i.State != "healthy" {
			t.Errorf("%s is %s", id, i.State)
		}
	})

	t.Run("a mark that hit another backend than the failing one is taken back", func(t *testing.T) {
		t.Parallel()
		a := a.with(t)
		one, two := newBackend(t), newBackend(t)
		const host = "shifted.localhost"
		registerHourly(t, a, one, host)
		registerHourly(t, a, two, host)
		awaitPick(t, k.rdb, host, one.url(), two.url())
		k.rdb.SAdd(t.Context(), "dead:"+host, 0)
		k.rdb.Expire(t.Context(), "dead:"+host, 10*time.Minute)
		k.rdb.Publish(t.Context(), "dead", host+";http://127.0.0.1:1/;0;2") // who stood there before
		awaitPick(t, k.rdb, host, one.url(), two.url())
	})
}
