package edge_test

import (
	"context"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

// journal counts lines of a log.
type journal struct {
	slog.Handler
	mu    sync.Mutex
	lines map[string]int
}

func newJournal(t testing.TB) *journal {
	return &journal{Handler: slog.NewTextHandler(t.Output(), nil), lines: map[string]int{}}
}

func (j *journal) Handle(ctx context.Context, r slog.Record) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.lines[r.Message]++
	return j.Handler.Handle(ctx, r)
}

func (j *journal) count(message string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.lines[message]
}

// A stopped Redis and a hanging one must give clients the same answers.
func TestRedisUnavailable(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		away func(*harness.Server)
		back func(testing.TB, *harness.Server)
	}{
		"killed": {(*harness.Server).Kill, func(t testing.TB, r *harness.Server) { r.Restart(t, "--appendonly", "yes") }},
		"frozen": {(*harness.Server).Freeze, func(_ testing.TB, r *harness.Server) { r.Thaw() }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := harness.StartRedis(t)
			r.Restart(t, "--appendonly", "yes")
			log := newJournal(t)
			s := newStageOn(t, r.Client(t), func(o *edge.Options) {
				o.RedisTimeout, o.Log = time.Second, slog.New(log)
				o.SetRedisRetry(20 * time.Millisecond)
			})
			s.frontend("known.test", named(t, "known").URL)
			s.frontend("other.test", named(t, "other").URL)
			s.frontend("deleted.test", named(t, "deleted").URL)
			s.get("deleted.test")
			s.redis.Del(t.Context(), s.keys.Frontend("deleted.test"))
			s.get("deleted.test")
			if got := s.get("known.test"); got.body != "known" {
				t.Fatalf("got %d %q", got.StatusCode, got.body)
			}

			c.away(r)
			began := time.Now()
			for i := range 30 {
				if got := s.get("known.test"); got.body != "known" {
					t.Errorf("request %d of a known host: got %d %q", i, got.StatusCode, got.body)
				}
				got := s.get("other.test")
				if got.StatusCode != 503 || got.Header.Get("Retry-After") == "" || !strings.Contains(got.body, "Temporarily") {
					t.Errorf("request %d of another: got %d %v", i, got.StatusCode, got.Header)
				}
			}
			if got := s.get("deleted.test"); got.StatusCode != 503 {
				t.Errorf("a host that was deleted: got %d %q", got.StatusCode, got.body)
			}
			if took := time.Since(began); took > 15*time.Second { // a minute, if each request waited for Redis
				t.Errorf("60 requests took %s: they wait for Redis", took)
			}

			c.back(t, r)
			harness.Await(t, "another host is served", func() bool { return s.get("other.test").body == "other" })
			s.frontend("new.test", named(t, "new").URL)
			harness.Await(t, "changes are seen", func() bool { return s.get("new.test").body == "new" })
			if log.count("redis is unavailable, serving the last known frontends") == 0 || log.count("redis is available again") == 0 {
				t.Errorf("got %v", log.lines)
			}
		})
	}
}

func TestAnEmptyRedisReplacesRememberedFrontends(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	s := newStageOn(t, r.Client(t), func(o *edge.Options) { o.SetRedisRetry(20 * time.Millisecond) })
	s.frontend("a.test", named(t, "a").URL)
	if got := s.get("a.test"); got.body != "a" {
		t.Fatalf("got %d %q", got.StatusCode, got.body)
	}
	r.Restart(t)
	harness.Await(t, "400", func() bool { return s.get("a.test").StatusCode == http.StatusBadRequest })
}

func TestADeadBackendIsSkippedWhileRedisIsUnavailable(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	log := newJournal(t)
	s := newStageOn(t, r.Client(t), func(o *edge.Options) { o.Log, o.RedisTimeout = slog.New(log), time.Second })
	dying, up := named(t, "dying"), named(t, "up")
	s.frontend("a.test", dying.URL, up.URL)
	s.frontend("all.test", dying.URL, dying.URL)
	s.get("a.test")
	s.get("all.test")
	r.Kill()
	dying.Close()
	for i := range 100 {
		if got := s.get("a.test"); got.body != "up" {
			t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
		}
	}
	if n := log.count("backend failed"); n > 1 {
		t.Errorf("tried a dead backend %d times in 100 requests", n)
	}
	for range 3 { // and tries the failed backends if there is no other
		if got := s.get("all.test", "X-Debug", "1"); got.StatusCode != 502 || got.Header.Get("X-Debug-Backend-Id") == "" {
			t.Errorf("all dead: got %d %v", got.StatusCode, got.Header)
		}
	}
	if n := log.count("backend not marked"); n > 0 {
		t.Errorf("waited %d times for a Redis known to be away", n)
	}
}

func TestNoRedisFromTheStart(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	r.Kill()
	s := newStageOn(t, r.Client(t), func(o *edge.Options) { o.RedisTimeout = time.Second })
	for range 3 {
		if got := s.get("a.test"); got.StatusCode != 503 {
			t.Errorf("got %d", got.StatusCode)
		}
	}
}
