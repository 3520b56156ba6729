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
	orDefault(&o.DialTimeout, 2*time.Second)
	orDefault(&o.Timeout, 6*time.Minute) // Rollcall's own calls wait for up to 5
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
