// Package edge is a reverse proxy for setups without Hipache. It reads the same keys, serves
// the same hosts, and marks and announces failing backends in the same way. It can share a
// Redis with Hipache or PlanB.
//
// The way of a request:
//
//	Host header ─▶ directory ─▶ Redis, one round trip; the last known list while Redis is unavailable
//	                  │
//	                  ▼
//	            proxyRequest ──▶ a random backend, neither dead nor tried ──▶ backend
//	                  ▲                                                         │
//	                  └── mark and announce; repeat if nothing was sent ◀───────┘ failed
//
// # When a backend is marked
//
// The edge marks a backend if it cannot connect: the connection is refused, unreachable or
// times out, or the name does not exist. It never marks a backend for an event after the
// request was sent, neither a status nor a reset, because the request may be the cause. It
// announces a backend that resets, closes, or does not answer in time, so that health checkers
// probe it at once. HAProxy calls this "observe layer4". The edge never marks the last unmarked
// backend of a frontend.
//
// # Differences from Hipache 0.4
//
//   - If Redis is unavailable, the edge serves the hosts that it has served before and answers
//     503 for others at once. In Hipache every client waits for the TCP timeout.
//   - The edge reads a list once per request, and its retries avoid the backends that failed.
//     Hipache reads again and may pick the same backend four times.
//   - A name that does not resolve and a connection that times out mark a backend, like a
//     refused connection. The statuses 501, 502 and 504 to 599 do not.
//   - If a backend resets or closes without an answer, the edge repeats the request once if that
//     is safe. Hipache keeps every body and repeats every request.
//   - If a backend does not answer in time, the edge answers 504 instead of closing the
//     connection. If the answer is not HTTP, it answers 502.
//   - The edge skips entries with which Hipache hangs, crashes or connects to a wrong address:
//     without a scheme, with another scheme than http, or with an invalid port.
//   - A frontend of the wrong type gives 502, and a dead set of the wrong type counts as empty.
//     Hipache hangs on both.
//   - The edge ignores hchecker_ping, as PlanB does. With it, Hipache continues to send requests
//     to dead backends.
//   - An empty Host gives 400. Hipache looks for the frontends "" and "*".
//   - The edge appends to X-Forwarded-For and replaces the other forwarding headers of clients.
package edge

import (
	"errors"
	"log" //nolint:depguard // net/http knows no other
	"log/slog"
	"net/http"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
)

// Options configures an Edge. Only Redis is required.
type Options struct {
	// Redis is the server that the edge reads from and marks in. Its calls must end with their
	// context: set ContextTimeoutEnabled.
	Redis redis.UniversalClient
	Keys  hipache.Keys
	Log   *slog.Logger // nil: no log

	Debug        bool          // answer requests with X-Debug by x-debug-* headers, which name backends
	DialTimeout  time.Duration // to connect, including the lookup; 0: 2 s, in which TCP repeats one lost packet
	Timeout      time.Duration // without progress, a request ends; 0: 6 min. Upgraded connections and event streams have no limit
	RedisTimeout time.Duration // for one call of Redis; 0: 250 ms
	Grace        time.Duration // for the requests in progress when Serve ends; 0: 30 s

	redisRetry time.Duration // between attempts to reach Redis again; 0: 200 ms
	files      int           // files that connections may use; 0: the limit of the process
}

const (
	maxAttempts = 4    // backends tried for one request
	rememberMax = 4096 // hosts served while Redis is unavailable
)

// Edge is the proxy. Edges on the same Redis share no other state.
type Edge struct {
	directory *directory
	transport *http.Transport
	tunnels   *http.Transport // for requests that ask for an upgrade
	opt       Options
	errorLog  *log.Logger // receives the messages of net/http
}

// New returns an Edge. The caller must close it.
func New(o Options) (*Edge, error) {
	if o.Redis == nil {
		return nil, errors.New("edge: no Redis")
	}
	if c, ok := o.Redis.(*redis.Client); ok && !c.Options().ContextTimeoutEnabled {
		return nil, errors.New("edge: the Redis client must have ContextTimeoutEnabled, or requests hang with Redis")
	}
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	orDefault(&o.DialTimeout, 2*time.Second)
	orDefault(&o.Timeout, 6*time.Minute) // Rollcall's own calls wait for up to 5 min
	orDefault(&o.RedisTimeout, 250*time.Millisecond)
	orDefault(&o.redisRetry, 200*time.Millisecond)
	orDefault(&o.Grace, 30*time.Second)
	orDefault(&o.files, openFiles())
	transport := newTransport(o)
	return &Edge{
		directory: newDirectory(o),
		transport: transport,
		tunnels:   newTunnels(o, transport),
		opt:       o,
		errorLog:  slog.NewLogLogger(o.Log.Handler(), slog.LevelDebug),
	}, nil
}

func orDefault[T int | time.Duration](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Close ends the goroutines of the edge and its idle connections.
func (e *Edge) Close() {
	e.directory.close()
	e.transport.CloseIdleConnections()
}

// pingHost is the host that the proxy answers itself. It is not a valid vhost.
const pingHost = "__ping__"

// ServeHTTP answers or forwards one request.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host == pingHost {
		endConnection(w.Header(), r)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK"))
		return
	}
	p := &proxyRequest{
		edge: e, client: http.NewResponseController(w),
		started: time.Now(), debug: e.opt.Debug && r.Header.Get("X-Debug") != "",
	}
	if err := p.lookUp(r); err != nil {
		p.fail(w, r, err)
		return
	}
	p.proxy(w, r)
}
