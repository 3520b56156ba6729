package e2e

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/handlers"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// web is a web process inside this process: its own connections to Redis, its own replica, and a server.
type web struct {
	t        testing.TB
	base     string // http://host:port
	rdb      *redis.Client
	prefix   string
	proxy    hipache.Keys
	store    *redisstore.Store
	registry *registry.Registry
	replica  *replica.Replica
	client   *http.Client // checks every answer against openapi.yaml
	handler  http.Handler

	serving atomic.Int64 // requests in progress
}

// settle is the settle time of these tests.
const settle = 300 * time.Millisecond

// newWeb serves a private registry on the shared Redis.
func newWeb(t testing.TB) *web {
	t.Helper()
	return webOn(t, harness.SharedRedis(t), harness.Prefix(t))
}

func noMetrics(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") }

// webOn serves the registry of a prefix; several webs may serve one.
func webOn(t testing.TB, rdb *redis.Client, prefix string) *web {
	t.Helper()
	w := &web{t: t, rdb: rdb, prefix: prefix, proxy: hipache.Keys{Prefix: prefix}, replica: replica.New()}
	log := slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelError}))
	w.store = redisstore.New(rdb, redisstore.Options{Prefix: prefix, Hipache: w.proxy, Settle: settle, Log: log})
	w.registry = registry.New(w.store, w.replica, w.store.Now, time.Second, func(context.Context, app.Step) {})
	ctx, stop := context.WithCancel(context.Background()) //nolint:usetesting // it ends after what uses it
	api := &handlers.API{
		Registry: w.registry, Replica: w.replica, Store: w.store, Jobs: noJobs{}, Now: w.store.Now, Log: log,
		Serving: ctx, Metrics: http.HandlerFunc(noMetrics),
		Settings: handlers.Settings{FrontendKey: w.proxy.Frontend, MaxBody: 256 << 10},
		Tokens:   auth.NewTokens(w.store.Tokens(), "", false, w.store.Now, func(context.Context, app.Event) {}),
	}
	w.handler = api.Handler()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w.base = "http://" + l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		w.serving.Add(1)
		defer w.serving.Add(-1)
		w.handler.ServeHTTP(rw, r)
	})}
	transport := &http.Transport{MaxIdleConnsPerHost: 300}
	w.client = &http.Client{Transport: harness.CheckingTransport(t, transport)}
	var parts sync.WaitGroup
	parts.Go(func() { w.store.Follow(ctx, w.replica) })
	parts.Go(func() { _ = server.Serve(tinyBuffers{l}) })
	t.Cleanup(func() {
		stop()
		transport.CloseIdleConnections()
		_ = server.Close()
		parts.Wait()
	})
	harness.Await(t, "the process has read the registry", func() error {
		if w.replica.Revision() == "" {
			return errors.New("not yet")
		}
		return nil
	})
	w.replica.SetCurrent(time.Now()) // the follower does so after each read
	return w
}

// tinyBuffers shrinks a connection's buffers, so that a reader that does not read blocks its writer
// at once.
type tinyBuffers struct{ net.Listener }

func (l tinyBuffers) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		_ = c.(*net.TCPConn).SetWriteBuffer(4 << 10)
	}
	return c, err
}

type noJobs struct{}

func (noJobs) Names() []string                       { return nil }
func (noJobs) RunOnce(context.Context, string) error { return nil }

// try makes a call; headers are name, value, name, value, ...
func (w *web) try(ctx context.Context, method, path string, form url.Values, headers ...string) (a answer, err error) {
	a.status, a.header, a.body, err = harness.Ask(ctx, w.client, method, w.base+path, form, headers...)
	return a, err
}

// call makes a call, and repeats it while the registry is not reachable, as on a busy machine.
func (w *web) call(method, path string, form url.Values, headers ...string) (a answer) {
	w.t.Helper()
	var err error
	for end := time.Now().Add(harness.Patience); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if a, err = w.try(w.t.Context(), method, path, form, headers...); err != nil {
			w.t.Fatal(err)
		}
		if !strings.Contains(a.body, "urn:rollcall:unavailable") {
			return a
		}
	}
	return a
}

// get expects a status.
func (w *web) get(path string, status int, headers ...string) answer {
	w.t.Helper()
	a := w.call(http.MethodGet, path, nil, headers...)
	if a.status != status {
		w.t.Fatalf("GET %s: got %s, want %d", path, a, status)
	}
	return a
}

// register registers an instance and fails the test if that is refused: name, value, name, value, ...
func (w *web) register(pairs ...string) string {
	w.t.Helper()
	a := w.call(http.MethodPost, "/v1/register", form(pairs...))
	if a.status != http.StatusCreated && a.status != http.StatusOK {
		w.t.Fatalf("register %q: %s", pairs, a)
	}
	return decode[struct{ ID string }](w.t, a.body).ID
}

// probed applies results of probes to an instance as its owner does: + passed, - failed.
func (w *web) probed(id, results string) {
	w.t.Helper()
	ctx := w.t.Context()
	for _, r := range results {
		result := app.Result{At: w.store.Now(), Passed: r == '+'}
		if !result.Passed {
			result.Code = app.Refused
		}
		i, err := w.store.Get(ctx, id)
		if err != nil || !i.Probed() {
			w.t.Fatalf("%s is %s and not probed, %v", id, i.State, err)
		}
		if o := (registry.Outcome{Was: i, Result: result}); o.Changes(w.store.Now()) {
			if _, err := w.registry.ApplyResult(ctx, o); err != nil {
				w.t.Fatal(err)
			}
		}
	}
}

// do runs a Redis command, a word per argument; frontend: and dead: get the prefix.
func (w *web) do(command string) {
	w.t.Helper()
	var args []any
	for word := range strings.FieldsSeq(command) {
		if strings.HasPrefix(word, "frontend:") || strings.HasPrefix(word, "dead:") {
			word = w.prefix + word
		}
		args = append(args, word)
	}
	if err := w.rdb.Do(w.t.Context(), args...).Err(); err != nil {
		w.t.Fatalf("%s: %v", command, err)
	}
}

// list is a vhost's frontend as proxies read it.
func (w *web) list(host string) []string {
	w.t.Helper()
	list, err := w.rdb.LRange(w.t.Context(), w.proxy.Frontend(host), 0, -1).Result()
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}
