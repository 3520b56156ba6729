package edge

import (
	"fmt"
	"testing"
	"time"

	"rollcall/hipache"
)

// remembered returns a memory of a.test with the backends a, b and c, of which c is marked.
func remembered() (m *memory, clock *time.Time) {
	now := time.Unix(0, 0)
	m = newMemory(3, 30*time.Second)
	m.now = func() time.Time { return now }
	m.store(hipache.Frontend{Requested: "a.test", Backends: []hipache.Backend{
		{URL: "a", Position: 0}, {URL: "b", Position: 1}, {URL: "c", Position: 2, Dead: true},
	}})
	return m, &now
}

// alive returns the URLs of a.test that get traffic.
func (m *memory) alive() (urls string) {
	f, _ := m.get("a.test")
	for _, b := range f.Backends {
		if !b.Dead {
			urls += b.URL
		}
	}
	return urls
}

func TestMemoryLetsMarksEnd(t *testing.T) {
	t.Parallel()
	m, now := remembered()
	for _, c := range []struct {
		at   time.Duration
		bury string
		want string
	}{
		{0, "", "ab"},
		{10 * time.Second, "a", "b"},
		{29 * time.Second, "", "b"},
		{30 * time.Second, "", "bc"}, // c's mark was read at 0
		{39 * time.Second, "b", "c"},
		{40 * time.Second, "", "ac"},
		{69 * time.Second, "", "abc"},
	} {
		*now = time.Unix(0, 0).Add(c.at)
		if c.bury != "" {
			m.recordFailure("a.test", c.bury)
		}
		if got := m.alive(); got != c.want {
			t.Errorf("after %s: got %q, want %q", c.at, got, c.want)
		}
	}
}

func TestMemoryTriesAllIfNoBackendIsAlive(t *testing.T) {
	t.Parallel()
	m, _ := remembered()
	m.recordFailure("a.test", "a")
	m.recordFailure("a.test", "b")
	if got := m.alive(); got != "abc" {
		t.Errorf("got %q, want all", got)
	}
}

func TestMemoryDoesNotChangeStoredFrontends(t *testing.T) {
	t.Parallel()
	m, _ := remembered()
	f, _ := m.get("a.test")
	f.Backends[0].Dead = true
	if got := m.alive(); got != "ab" {
		t.Errorf("got %q after a caller changed its copy", got)
	}
}

func TestMemoryIsBounded(t *testing.T) {
	t.Parallel()
	m, _ := remembered()
	for i := range 10 {
		m.store(hipache.Frontend{Requested: fmt.Sprint(i)})
		if _, ok := m.get("a.test"); !ok {
			t.Fatal("forgot the host asked for last")
		}
	}
	m.recordFailure("5", "u")
	m.forget("9")
	if _, ok := m.get("9"); ok || len(m.hosts) != 2 || m.order.Len() != 2 {
		t.Errorf("got %d hosts, want a.test and 8", len(m.hosts))
	}
}
