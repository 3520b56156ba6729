package e2e

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// pick picks an address without a network.
func (w *web) pick(query string) string {
	w.t.Helper()
	w.replica.SetCurrent(time.Now()) // also on a machine that is too busy to listen
	r := httptest.NewRequestWithContext(w.t.Context(), http.MethodGet, "/v1/services/web/pick"+query, nil)
	r.Host = "localhost"
	got := httptest.NewRecorder()
	w.handler.ServeHTTP(got, r)
	if got.Code != http.StatusOK {
		w.t.Errorf("pick%s: %d %s", query, got.Code, got.Body)
	}
	return strings.TrimSpace(got.Body.String())
}

// three registers three instances of web, 10.0.0.n:80, with weights.
func (w *web) three(weights ...int) {
	w.t.Helper()
	for n, weight := range weights {
		w.register("service", "web", "id", fmt.Sprint("w", n), "address", fmt.Sprintf("10.0.0.%d:80", n), "health", "none", "weight", fmt.Sprint(weight))
	}
}

func TestPickGoesByWeight(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.three(1, 3, 6)
	const picks = 10_000
	random, hashed := map[string]int{}, map[string]int{}
	for n := range picks {
		random[w.pick("")]++
		hashed[w.pick(fmt.Sprint("?by=hash&key=user-", n))]++
	}
	for n, weight := range []int{1, 3, 6} {
		addr, want := fmt.Sprintf("10.0.0.%d:80", n), picks*weight/10
		for how, got := range map[string]int{"at random": random[addr], "by hash": hashed[addr]} {
			if diff := got - want; diff < -300 || diff > 300 { // six standard deviations and more
				t.Errorf("%s: %s is picked %d times, want about %d", how, addr, got, want)
			}
		}
	}
}

func TestPickTakesTurnsAmongMany(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.three(1, 1, 1)
	var mu sync.Mutex
	counts := map[string]int{}
	var callers sync.WaitGroup
	for range 20 {
		callers.Go(func() {
			for range 30 {
				addr := w.pick("?by=rr")
				mu.Lock()
				counts[addr]++
				mu.Unlock()
			}
		})
	}
	callers.Wait()
	for addr, n := range counts {
		if n != 200 || len(counts) != 3 {
			t.Errorf("%s had %d of 600 turns", addr, n)
		}
	}
}

// When an instance leaves, only its own keys move to others. When it returns, so do they.
func TestPickByHashMovesNoMoreThanItMust(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.three(1, 2, 1)
	keys := 500
	all := func() []string {
		picked := make([]string, keys)
		for n := range picked {
			picked[n] = w.pick(fmt.Sprint("?by=hash&key=", n))
		}
		return picked
	}
	before := all()
	w.call(http.MethodPatch, "/v1/instances/w1", form("maintenance", "true", "for", "1h"))
	without := all()
	moved := map[string]int{}
	for n, was := range before {
		switch is := without[n]; {
		case was == "10.0.0.1:80":
			moved[is]++
		case is != was:
			t.Errorf("key %d went from %s to %s, and %s has not left", n, was, is, was)
		}
	}
	if len(moved) != 2 || moved["10.0.0.1:80"] > 0 {
		t.Errorf("its keys went to %v, want to both of the others", moved)
	}
	w.call(http.MethodPatch, "/v1/instances/w1", form("maintenance", "false"))
	for n, is := range all() {
		if is != before[n] {
			t.Errorf("key %d is with %s, and was with %s", n, is, before[n])
		}
	}
}

func TestPickOfNobody(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.get("/v1/services/web/pick", http.StatusNotFound)
	w.register("service", "web", "id", "w1", "address", "10.0.0.1:80")
	for _, path := range []string{"/v1/services/web/pick", "/v1/services/web/pick?by=rr", "/v1/services/web/env", "/v1/env?link=web"} {
		a := w.get(path, http.StatusServiceUnavailable)
		if p := a.problem(t); p.Type != "urn:rollcall:none-healthy" || a.header.Get("Retry-After") == "" {
			t.Errorf("%s: got %s", path, a)
		}
	}
	w.probed("w1", "++")
	harness.Await(t, "it is picked", func() error {
		if a := w.call(http.MethodGet, "/v1/services/web/pick", nil); a.status != http.StatusOK {
			return fmt.Errorf("%s", a)
		}
		return nil
	})
}

func TestTLSAskOfWildcards(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "web", "address", "10.0.0.1:80", "id", "w1", "health", "none", "host", "*", "host", "*.wild.test", "host", "exact.test")
	for domain, want := range map[string]int{
		"exact.test": 200, "EXACT.test.": 200, "x.wild.test": 200, "x.y.wild.test": 200,
		"wild.test": 404, "anything.test": 404, "*": 422, "*.wild.test": 422, "10.0.0.1": 422, "": 422, "exact.test:443": 422,
	} {
		for _, name := range []string{"domain", "host"} {
			w.get("/v1/tls/ask?"+form(name, domain).Encode(), want)
		}
	}
	w.call(http.MethodPatch, "/v1/instances/w1", form("maintenance", "true", "for", "1h"))
	w.get("/v1/tls/ask?domain=exact.test", http.StatusNotFound)
}
