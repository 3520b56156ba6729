//go:build linux

package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

// loss is one way in which Redis loses events.
type loss struct {
	server *harness.Server
	link   *harness.Link // between Rollcall and Redis

	keep  func() // keeps the writes before it
	loses func()
	empty bool // keeps no write
}

var losses = map[string]func(*testing.T) *loss{
	"FLUSHALL": func(t *testing.T) *loss {
		l := newLoss(t)
		l.empty, l.keep = true, func() {}
		l.loses = func() { l.do(t, l.server, "FLUSHALL") }
		return l
	},
	"a restart on an older RDB": func(t *testing.T) *loss {
		l := newLoss(t)
		l.keep = func() { l.do(t, l.server, "SAVE") }
		l.loses = func() { l.server.Restart(t) }
		return l
	},
	"a failover to a replica that lags": func(t *testing.T) *loss {
		l := newLoss(t)
		replica, between := harness.StartRedis(t), harness.NewLink(t, l.server.Addr())
		host, port, _ := net.SplitHostPort(between.Addr())
		l.do(t, replica, "REPLICAOF", host, port)
		l.keep = func() {
			var at string
			harness.Await(t, "the replica is in step", func() error {
				at = l.do(t, l.server, "XREVRANGE", "rollcall:events", "+", "-", "COUNT", "1")
				if there := l.do(t, replica, "XREVRANGE", "rollcall:events", "+", "-", "COUNT", "1"); there != at {
					return fmt.Errorf("the last event is %s there, and %s here", there, at)
				}
				return nil
			})
			between.Cut()
		}
		l.loses = func() {
			l.do(t, replica, "REPLICAOF", "NO", "ONE")
			l.link.Lead(replica.Addr())
		}
		return l
	},
}

func newLoss(t *testing.T) *loss {
	t.Helper()
	server := harness.StartRedis(t)
	return &loss{server: server, link: harness.NewLink(t, server.Addr())}
}

func (*loss) do(t *testing.T, server *harness.Server, command ...any) string {
	t.Helper()
	answer, err := server.Client(t).Do(t.Context(), command...).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatalf("%v: %v", command, err)
	}
	return fmt.Sprint(answer)
}

// A reader of events that Redis has lost is notified, and continues with the present state.
func TestReadersBeginAnewWhenRedisHasLostEvents(t *testing.T) {
	t.Parallel()
	for name, start := range losses {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := start(t)
			p := boots(t, l.server, "web", "REDIS_URL=redis://"+l.link.Addr())
			here, there, port := twoPlaces(t)
			moves := func(address string, n int) {
				p.register("service", "service", "id", "s1", "address", address, "health", "none", "meta.n", fmt.Sprint(n))
			}
			moves(here, 0)
			command := hook(t, append(at(p.base), asProgram+"=asks again", "PROGRAM="+os.Args[0], "KNOWN_PORT="+port, "TMPDIR="+t.TempDir()),
				`rollcall run --env service --on-change HUP -- "$PROGRAM"`)
			command.seesLast(t, " here")
			watch := hook(t, at(p.base), "rollcall watch -o json")
			n := 0
			harness.Await(t, "it watches", func() error {
				n++
				if moves(here, n); len(watch.out.all()) == 0 {
					return errors.New("not yet")
				}
				return nil
			})

			l.keep()
			moves(there, n+1) // is lost
			command.seesLast(t, " there")
			var last string
			harness.Await(t, "the watcher has seen it", func() error {
				lines := watch.out.all()
				last = decode[struct{ ID string }](t, lines[len(lines)-1]).ID
				if a := p.get("/v1/services/service", http.StatusOK); a.header.Get("ETag") != `"`+last+`"` {
					return fmt.Errorf("it has seen %s, the service is at %s", last, a.header.Get("ETag"))
				}
				return nil
			})
			tag := `"` + last + `"`
			stream := p.open("", last)
			polled := make(chan answer, 1)
			go func() { polled <- p.poll(t.Context(), "/v1/services/service?wait=5m", tag) }()
			harness.Await(t, "the call waits", func() error {
				select {
				case a := <-polled:
					t.Fatalf("the call that waits for a change got %s", a)
				case <-time.After(200 * time.Millisecond):
				}
				return nil
			})

			l.loses()
			gap, err := stream.next()
			if reason := decode[struct{ Reason string }](t, gap.data).Reason; err != nil || gap.kind != "gap" || !strings.Contains(reason, last) {
				t.Errorf("the open stream ends with %+v, %v; want a gap that names %s", gap, err, last)
			}
			if e, err := stream.next(); !errors.Is(err, io.EOF) {
				t.Errorf("after the gap it goes on with %+v, %v", e, err)
			}
			select {
			case a := <-polled:
				if l.empty && a.status != http.StatusNotFound || !l.empty && !strings.Contains(a.body, here) {
					t.Errorf("the call that waited got %s", a)
				}
			case <-time.After(harness.Patience):
				t.Error("the call that waited goes on waiting")
			}
			p.register("service", "other", "id", "after", "address", "10.0.0.1:80", "health", "none") // the registry's ids are beyond the lost ones
			late := boots(t, l.server, "web", "REDIS_URL=redis://"+l.link.Addr())
			for at, process := range map[string]*process{"the same process": p, "a new process": late} {
				if e := process.get("/v1/events", http.StatusGone, "Last-Event-ID", last).problem(t); e.Type != "urn:rollcall:trimmed" || e.Want == "" {
					t.Errorf("%s answers Last-Event-ID with %+v", at, e)
				}
				if l.empty {
					process.get("/v1/services/service?wait=5m", http.StatusNotFound, "If-None-Match", tag)
				} else if a := process.get("/v1/services/service?wait=5m", http.StatusOK, "If-None-Match", tag); !strings.Contains(a.body, here) {
					t.Errorf("%s answers the tag of a lost revision with %s", at, a)
				}
			}
			harness.Await(t, "the watcher says that events were missed, and goes on", func() error {
				said, lines := strings.Join(watch.err.all(), "\n"), watch.out.all()
				if !strings.Contains(said, "some events were missed") || !strings.Contains(lines[len(lines)-1], `"after"`) {
					return fmt.Errorf("it says %s, and prints %q", said, lines)
				}
				return nil
			})
			if l.empty {
				moves(here, 0)
			}
			command.seesLast(t, " here")
			moves(there, n+2)
			command.seesLast(t, " there")
		})
	}
}

// seesLast waits until the last line of a command's output ends with a text.
func (h *hooked) seesLast(t *testing.T, end string) {
	t.Helper()
	harness.Await(t, "the command sees"+end, func() error {
		if all := h.out.all(); len(all) == 0 || !strings.HasSuffix(strings.TrimSpace(all[len(all)-1]), end) {
			return fmt.Errorf("it prints %q, and the hook %q", all, h.err.all())
		}
		return nil
	})
}

// poll repeats a long-poll with a tag for as long as the answer asks it to.
func (w *web) poll(ctx context.Context, path, tag string) (a answer) {
	for ctx.Err() == nil {
		a, _ = w.try(ctx, http.MethodGet, path, nil, "If-None-Match", tag)
		if a.status != http.StatusServiceUnavailable {
			return a
		}
	}
	return a
}
