package chaos

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"rollcall/tests/harness"
)

// withLink puts a link between all processes and Redis. The test's own client does not use it.
func withLink(w *world, server *harness.Server) []string {
	w.link = harness.NewLink(w.t, server.Addr())
	return []string{"REDIS_URL=redis://" + w.link.Addr()}
}

// repeatedly calls a function again and again, until drained.
func (w *world) repeatedly(every time.Duration, f func()) {
	var ctx context.Context
	ctx, w.drain = context.WithCancel(w.t.Context())
	w.running.Go(func() {
		for ctx.Err() == nil {
			f()
			sleep(ctx, every)
		}
	})
}

func drained(w *world) {
	w.drain()
	heal(w)
}

// repliesCut closes all connections five times a second. Some have a call in progress.
func repliesCut(w *world) {
	sicken(harness.Refuses, 1)(w)
	w.repeatedly(200*time.Millisecond, func() { w.link.Lead(w.Server.Addr()) })
}

// repliesLost keeps all connections open, without a byte in either direction.
func repliesLost(w *world) {
	w.link.Cut()
	sicken(harness.Refuses, 1)(w)
}

func repliesLate(by time.Duration) func(*world) {
	return func(w *world) {
		w.link.Delay(by)
		sicken(harness.Hangs, 1)(w)
	}
}

func linkMended(w *world) {
	w.link.Delay(0)
	w.link.Lead(w.Server.Addr())
	heal(w)
}

func scriptsFlushed(w *world) {
	sicken(harness.Refuses, 1)(w)
	w.repeatedly(100*time.Millisecond, func() { _ = w.Redis.ScriptFlush(w.ctx).Err() })
}

func clientsPaused(w *world) {
	sicken(harness.Refuses, 1)(w)
	w.do("CLIENT", "PAUSE", 4000, "ALL")
}

// fileCutShort kills Redis and removes the end of its file, in the middle of a command: the file of a machine that lost
// power.
func fileCutShort(w *world) {
	const lost = 1500 // bytes
	dir := w.Redis.ConfigGet(w.t.Context(), "dir").Val()["dir"]
	w.Server.Kill()
	files, err := filepath.Glob(filepath.Join(dir, "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		w.t.Fatalf("the files of Redis are %q, %v", files, err)
	}
	is, err := os.Stat(files[0])
	if err == nil && is.Size() < 10*lost {
		err = fmt.Errorf("it has %d bytes: nothing was tested", is.Size())
	}
	if err == nil {
		err = os.Truncate(files[0], is.Size()-lost)
	}
	if err != nil {
		w.t.Fatalf("%s: %v", files[0], err)
	}
}

// deafSubscribers has forty clients of each web process that ask for all events and read none, and causes many events.
func deafSubscribers(w *world) {
	w.mu.Lock()
	bases := w.bases
	w.mu.Unlock()
	for n := range 80 {
		host := strings.TrimPrefix(bases[n%len(bases)], "http://")
		c, err := net.Dial("tcp", host)
		if err != nil {
			w.t.Fatal(err)
		}
		w.t.Cleanup(func() { _ = c.Close() })
		_ = c.(*net.TCPConn).SetReadBuffer(4096)
		_, _ = fmt.Fprintf(c, "GET /v1/events HTTP/1.1\r\nHost: %s\r\nLast-Event-ID: 0\r\n\r\n", host)
	}
	sicken(harness.Refuses, 1)(w)
	form := harness.Registration(harness.NewBackend(w.t), "talker", "", "service", "talker", "health", "none")
	n := 0
	w.repeatedly(0, func() {
		n++
		form["tag"] = []string{fmt.Sprint(n), strings.Repeat("x", 50)}
		_, _, _ = w.call(http.MethodPost, "/v1/register", form)
	})
}

func sentinelFrozen(w *world) {
	w.sentry.Signal(syscall.SIGSTOP)
	sicken(harness.Refuses, 1)(w)
}

func sentinelThawed(w *world) {
	w.sentry.Signal(syscall.SIGCONT)
	heal(w)
}

// webStartsWithoutSentinel restarts a web process while the sentinel is away. The web process waits for it.
func webStartsWithoutSentinel(w *world) {
	w.sentry.Kill()
	w.webs[0].Stop()
	p := w.Process("web")
	w.mu.Lock()
	w.webs[0] = p
	w.mu.Unlock()
}

func sentinelStarted(w *world) {
	w.sentry = w.guard()
	w.awaitWeb(0, w.webs[0])
}

// otherPrefix runs a second installation with keys of its own in the same Redis. It has the same instances and vhosts with
// other backends. The backends fail and their instances are deregistered.
func otherPrefix(w *world) {
	env := append([]string{"ROLLCALL_PREFIX=other:", "ROLLCALL_HIPACHE_PREFIX=other:"}, w.Env...)
	if code, _, log := harness.Run(w.t, env, "migrate"); code != 0 {
		w.t.Fatalf("migrate: %s", log)
	}
	base := "http://" + harness.StartProcess(w.t, env, "rollcall", "web").Addr("API")
	harness.StartProcess(w.t, env, "rollcall", "cron")
	call := func(method, path string, form map[string][]string) {
		w.t.Helper()
		harness.Eventually(w.t, func() error {
			status, text, err := w.callAt(w.ends, base, method, path, form)
			if err == nil && status >= 300 {
				err = fmt.Errorf("%s %s: %d %s", method, path, status, text)
			}
			return err
		})
	}
	listed := func(want ...string) func() error {
		return func() error {
			list, err := w.Redis.LRange(w.ctx, "other:frontend:shop.chaos", 1, -1).Result()
			if err == nil && !harness.SameSet(list, want) {
				err = fmt.Errorf("the other installation lists %q, want %q", list, want)
			}
			return err
		}
	}
	first, second := harness.NewBackend(w.t), harness.NewBackend(w.t)
	for id, b := range map[string]*harness.Backend{"shop0": first, "shop1": second} {
		call(http.MethodPost, "/v1/register", harness.Registration(b, id, "shop.chaos", "service", "shop"))
	}
	harness.Eventually(w.t, listed(first.URL(), second.URL()))
	first.Is(harness.Refuses)
	harness.Eventually(w.t, listed(second.URL()))
	call(http.MethodPost, "/v1/jobs/reconcile/run", nil)
	call(http.MethodDelete, "/v1/instances/shop1", nil)
	call(http.MethodDelete, "/v1/instances/shop0", nil)
	harness.Eventually(w.t, listed())
}
