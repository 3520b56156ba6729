// Package edge is a reverse proxy for those who have no Hipache: it reads the same
// keys, answers for the same hosts, and marks and announces failing backends the
// same way, so it can stand beside a Hipache or a PlanB on one Redis.
//
// A request takes this way:
//
//	Host header ─▶ directory ─▶ Redis, one round trip; or the last known list while it is away
//	                  │
//	                  ▼
//	              passage ──▶ a slot at random, neither dead nor tried ──▶ backend
//	                  ▲                                                      │
//	                  └── mark and announce; again, if nothing was sent ◀────┘ failed
//
// # When a backend is marked
//
// A backend is marked when no connection to it can be made: refused, unreachable, timed
// out, or its name does not exist. It is never marked for what follows a request, because
// the request may be the cause: neither for a status nor for a reset. A backend that
// resets, closes, or does not answer in time is announced without a mark, so that health
// checkers probe it at once. This is HAProxy's "observe layer4". The last open backend of
// a frontend is never marked.
//
// # Where it differs from Hipache 0.4
//
//   - Redis away: hosts served before go on being served, others get 503 at once.
//     Hipache lets every client wait for the TCP timeout.
//   - A list is read once per request, and its retries leave out what has just
//     failed. Hipache reads again and may pick the same backend four times.
//   - A name that does not resolve and a connection that times out count as dead,
//     not only one that is refused. The statuses 501, 502 and 504 to 599 do not.
//   - A backend that resets or closes without an answer costs a request nothing if
//     it is safe to repeat, once; Hipache repeats every request, having kept its body.
//   - A backend that does not answer in time gives 504 instead of a closed connection,
//     and one whose answer is not HTTP gives 502.
//   - Entries Hipache hangs or crashes on, or sends to the wrong place, are passed
//     over: no scheme, another scheme than http, a port that is none.
//   - A frontend of the wrong type gives 502, a dead set of the wrong type is empty;
//     Hipache hangs on both.
//   - hchecker_ping is not looked at, as in PlanB: with it Hipache goes on sending
//     to backends it knows to be dead.
//   - An empty Host is none: 400, where Hipache looks for the frontend "" and "*".
//   - X-Forwarded-For is continued, and the others are believed only if asked to.
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
	// Redis is read from and marked in. Its calls must end when their context does:
	// ContextTimeoutEnabled.
	Redis redis.UniversalClient
	Keys  hipache.Keys
	Log   *slog.Logger // nil: silent

	Debug          bool // answer "X-Debug: 1" with x-debug-* headers, which name backends
	TrustForwarded bool // believe the X-Forwarded-* and X-Real-IP of clients: they are proxies

	MarkTTL      time.Duration // how long a mark lasts; 0: 30 s
	Attempts     int           // backends tried for one request; 0: 4
	DialTimeout  time.Duration // to connect, the name resolved; 0: 2 s, in which one lost packet is sent again
	Timeout      time.Duration // a request in which nothing moves ends; 0: 6 min. Upgraded connections and event streams have no limit
	RedisTimeout time.Duration // for one call of Redis; 0: 250 ms
	RedisRetry   time.Duration // between looks for a Redis that is away; 0: 200 ms
	Remember     int           // hosts that can be served while Redis is away; 0: 4096
	Grace        time.Duration // what Serve gives requests under way to end; 0: 30 s
	Files        int           // connections may use so many files; 0: the process's limit
}

// Edge is the proxy. It keeps no state that another Edge on the same Redis needs.
type Edge struct {
	directory *directory
	transport *http.Transport
	tunnels   *http.Transport // for requests that ask for an upgrade
	opt       Options
	errorLog  *log.Logger // what net/http has to say
}

// New returns an Edge. Close it when it is not used any more.
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
	orDefault(&o.MarkTTL, hipache.PassiveTTL)
	orDefault(&o.Attempts, 4)
	orDefault(&o.DialTimeout, 2*time.Second)
	orDefault(&o.Timeout, 6*time.Minute) // Rollcall's own calls wait for up to 5
	orDefault(&o.RedisTimeout, 250*time.Millisecond)
	orDefault(&o.RedisRetry, 200*time.Millisecond)
	orDefault(&o.Remember, 4096)
	orDefault(&o.Grace, 30*time.Second)
	orDefault(&o.Files, openFiles())
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

// Close ends what runs beside the requests.
func (e *Edge) Close() {
	e.directory.close()
	e.transport.CloseIdleConnections()
}

// pingHost is answered by the proxy itself. It can be no vhost.
const pingHost = "__ping__"

// ServeHTTP answers or passes on one request.
func (e *Edge) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Host == pingHost {
		endConnection(w.Header(), r)
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		_, _ = w.Write([]byte("OK"))
		return
	}
	p := &passage{
		edge: e, client: http.NewResponseController(w),
		started: time.Now(), debug: e.opt.Debug && r.Header.Get("X-Debug") != "",
	}
	if err := p.find(r); err != nil {
		p.fail(w, r, err)
		return
	}
	p.proxy(w, r)
}
