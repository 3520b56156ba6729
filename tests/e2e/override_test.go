package e2e

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// TestOverridesEndByThemselves runs the whole program: the worker ends them.
func TestOverridesEndByThemselves(t *testing.T) {
	t.Parallel()
	p := boots(t, harness.StartRedis(t), "serve")
	again := func(pairs ...string) {
		t.Helper()
		p.register(append([]string{"service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none", "host", "a.test"}, pairs...)...)
	}
	again()
	p.register("service", "web", "address", "10.0.0.2:80", "id", "w2", "health", "none", "host", "a.test")
	lists := func(want ...string) {
		t.Helper()
		harness.Await(t, "the list is right", func() error {
			if got := p.list("a.test"); !slices.Equal(got[1:], want) {
				return fmt.Errorf("%v, want %v", got, want)
			}
			return nil
		})
	}
	finds := func(want ...string) {
		t.Helper()
		list := decode[struct{ Instances []struct{ ID string } }](t, p.get("/v1/services/web", http.StatusOK).body)
		var ids []string
		for _, i := range list.Instances {
			ids = append(ids, i.ID)
		}
		if !slices.Equal(ids, want) {
			t.Errorf("found are %v, want %v", ids, want)
		}
		if sd := p.get("/v1/sd/prometheus", http.StatusOK).body; strings.Contains(sd, "10.0.0.1:80") != slices.Contains(want, "w1") {
			t.Errorf("Prometheus is told %s", sd)
		}
	}
	const one, two = "http://10.0.0.1:80", "http://10.0.0.2:80"
	patch := func(pairs ...string) {
		t.Helper()
		if a := p.call(http.MethodPatch, "/v1/instances/w1", form(pairs...)); a.status != http.StatusOK {
			t.Fatalf("%q: %s", pairs, a)
		}
	}
	lists(one, two)

	patch("weight", "3", "for", "1h")
	lists(one, two, one, one)
	again()
	again("tag", "other")
	lists(one, two, one, one)
	patch("maintenance", "true", "for", "1h")
	lists(two)
	finds("w2")
	if got := p.get("/v1/explain?host=a.test", http.StatusOK).body; !strings.Contains(got, "in maintenance until ") {
		t.Errorf("nobody says why: %s", got)
	}
	again()
	again("weight", "2", "tag", "another")
	lists(two)
	finds("w2")
	patch("maintenance", "false")
	lists(two, one, one)
	finds("w1", "w2")

	events := p.open("?service=web", "")
	until := time.Now().Add(time.Second)
	patch("maintenance", "true", "for", "1s")
	events.expect(t, "updated", "w1")
	if e := events.expect(t, "updated", "w1"); !strings.Contains(e.data, "expired") || time.Now().Before(until) {
		t.Errorf("it ended %s early: %s", time.Until(until), e.data)
	}
	lists(two, one, one)
	if got := p.get("/v1/instances/w1", http.StatusOK).body; strings.Contains(got, `"override"`) {
		t.Errorf("an override is left: %s", got)
	}
}
