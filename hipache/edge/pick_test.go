package edge_test

import (
	"net/http"
	"testing"
)

// shares sends n requests and counts the answers of each backend.
func (s *stage) shares(host string, n int) map[string]int {
	s.Helper()
	got := map[string]int{}
	for range n {
		got[s.get(host).body]++
	}
	return got
}

// The bounds below are more than six standard deviations wide.

func TestPickIsUniform(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", named(t, "0").URL, named(t, "1").URL, named(t, "2").URL)
	got := s.shares("a.test", 600)
	for _, name := range []string{"0", "1", "2"} {
		if n := got[name]; n < 130 || n > 270 {
			t.Errorf("got %v of 600, want 200 each", got)
		}
	}
}

func TestDuplicatesAreWeight(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, b := named(t, "a").URL, named(t, "b").URL
	s.frontend("a.test", a, b, a, a)
	if got := s.shares("a.test", 400); got["a"] < 245 || got["a"] > 355 || got["a"]+got["b"] != 400 {
		t.Errorf("got %v of 400, want 300 to 100", got)
	}
}

func TestDeadBackendsGetNoRequests(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", named(t, "0").URL, named(t, "1").URL, named(t, "2").URL)
	s.redis.SAdd(t.Context(), s.keys.Dead("a.test"), "0", "2x", "9", "-1", "junk")
	if got := s.shares("a.test", 50); got["1"] != 50 {
		t.Errorf("got %v, want all to 1", got)
	}
	s.redis.SRem(t.Context(), s.keys.Dead("a.test"), "0", "2x")
	s.redis.SAdd(t.Context(), s.keys.Dead("a.test"), "1")
	if got := s.shares("a.test", 50); got["1"] != 0 {
		t.Errorf("got %v right after the marks have changed, want none to 1", got)
	}
}

func TestAllDead(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	one := named(t, "one")
	s.frontend("a.test", one.URL)
	s.frontend("*.test", named(t, "wild").URL)
	s.redis.SAdd(t.Context(), s.keys.Dead("a.test"), 0)
	got := s.do(http.MethodGet, "a.test", "/", nil, "X-Debug", "1")
	if got.StatusCode != 502 || got.Header.Get("X-Debug-Error") != "cannot find a valid backend" || one.hits.Load() != 0 {
		t.Errorf("got %d %v and %d requests", got.StatusCode, got.Header, one.hits.Load())
	}
}
