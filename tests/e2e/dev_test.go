package e2e

import (
	"fmt"
	"net/http"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

// startDev runs the first command of the README on free ports. It returns the API, the edge's
// address and a client of the embedded Redis.
func startDev(t *testing.T) (api, string, *redis.Client) {
	t.Helper()
	p := harness.StartProcess(t, []string{"PORT=0", "ROLLCALL_EDGE_PORT=0", "ROLLCALL_EMBEDDED_REDIS_PORT=0"}, "rollcall", "dev")
	a := api{t: t, base: "http://" + p.Addr("API")}
	edge := p.Addr("edge")
	a.ready()
	said := p.Out.String()
	found := regexp.MustCompile(`Redis +(127\.0\.0\.1:\d+) `).FindStringSubmatch(said)
	if found == nil || !strings.Contains(said, a.base) || !strings.Contains(said, "http://"+edge) {
		t.Fatalf("rollcall dev does not say where everything is:\n%s", said)
	}
	rdb := redis.NewClient(&redis.Options{Addr: found[1]})
	t.Cleanup(func() { _ = rdb.Close() })
	return a, edge, rdb
}

func TestDevRoutesWhatRegistersAndDropsWhatDies(t *testing.T) {
	t.Parallel()
	a, edge, rdb := startDev(t)
	one, two := harness.BackendAt(t, "127.0.0.1:0"), harness.NewBackend(t)
	const host = "files.localhost"

	got, once := a.registerAndWait(form("service", "files", "port", one.Port(), "host", host, "health", "/"))
	first := got.instance(t)
	switch {
	case once && !first.New, first.State != "healthy", first.Address != one.Addr, first.AddressFrom != "caller":
		t.Errorf("receipt %s\nwant a new, healthy instance at %s, the caller's address", got, one.Addr)
	case first.Check.Kind != "http" || first.Check.Target != one.URL()+"/":
		t.Errorf("receipt %s\nwant the check of %s/", got, one.URL())
	case len(first.Frontends) != 1 || first.Frontends[0].Host != host || first.Frontends[0].Key != "frontend:"+host ||
		first.Frontends[0].Backend != one.URL() || first.Frontends[0].Slots != 1:
		t.Errorf("receipt %s\nwant the one slot of %s in frontend:%s", got, one.URL(), host)
	case first.Links["self"] != "GET /v1/instances/"+first.ID:
		t.Errorf("receipt %s\nwant a link to itself", got)
	}
	awaitPick(t, rdb, host, one.URL())
	through := newVisitor(edge)
	through.awaitVisit(t, host, one)

	if again := a.register(form("service", "files", "port", one.Port(), "host", host, "health", "/")); again.New || again.ID != first.ID {
		t.Errorf("the same registration again gives %+v, want the instance that is known", again)
	}

	second := a.register(harness.Registration(two, "second", host, "service", "files", "health", "/"))
	a.awaitState(second.ID, "healthy")
	awaitPick(t, rdb, host, one.URL(), two.URL())
	awaitList(t, rdb, host, one.URL(), two.URL())

	one.Is(harness.Refuses)
	awaitPick(t, rdb, host, two.URL())
	a.awaitState(first.ID, "unhealthy")
	through.awaitVisit(t, host, two)
	awaitList(t, rdb, host, two.URL())

	if got := a.call(http.MethodDelete, "/v1/instances/"+second.ID, nil); got.status != http.StatusNoContent {
		t.Errorf("deregister: %s", got)
	}
	a.awaitGone(second.ID)
	if got := a.call(http.MethodDelete, "/v1/instances/"+first.ID, nil); got.status != http.StatusNoContent {
		t.Errorf("deregister: %s", got)
	}
	harness.Eventually(t, func() error {
		n, err := rdb.Exists(t.Context(), "frontend:"+host, "dead:"+host).Result()
		if err == nil && n > 0 {
			err = fmt.Errorf("%d keys of the vhost are left, want none: nobody serves it", n)
		}
		return err
	})
	if status, _, err := through.visit(t.Context(), host, ""); err != nil || status != http.StatusBadRequest {
		t.Errorf("a vhost that nobody serves: %d, %v, want 400", status, err)
	}
}

func TestDevDrainsBeforeItAnswers(t *testing.T) {
	t.Parallel()
	a, edge, rdb := startDev(t)
	one, two := harness.NewBackend(t), harness.NewBackend(t)
	const host = "drain.localhost"
	for n, b := range []*harness.Backend{one, two} {
		id := fmt.Sprint("d", n)
		a.register(harness.Registration(b, id, host))
		a.awaitState(id, "healthy")
	}
	awaitPick(t, rdb, host, one.URL(), two.URL())

	const hold = time.Second
	got := a.call(http.MethodPost, "/v1/instances/d0/drain?hold="+hold.String(), nil)
	if got.status != http.StatusOK || got.took < hold-100*time.Millisecond {
		t.Errorf("drain answers %s after %s, want 200 when the hold of %s is over", got, got.took, hold)
	}
	one.Is(harness.Refuses) // the drain period is over: it may stop now
	through := newVisitor(edge)
	for range 50 {
		if status, body, err := through.visit(t.Context(), host, ""); err != nil || status != http.StatusOK || body != two.Addr {
			t.Fatalf("after the drain: %d %s, %v; want 200 by the other one, %s", status, body, err, two.Addr)
		}
	}
	a.awaitGone("d0")
	awaitList(t, rdb, host, two.URL())
}
