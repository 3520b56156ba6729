package edge

import (
	"cmp"
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"net/http/httputil"
	"slices"
	"strings"
	"time"

	"rollcall/hipache"
)

// Reasons for a request without a backend, in Hipache's words where it has any.
var (
	errMethod    = errors.New("reverse proxies do not support CONNECT")
	errNoHost    = errors.New("no host header")
	errMalformed = errors.New("the request cannot be written as HTTP/1.1")
	errLoop      = errors.New("the request has passed this proxy before")
	errNoBackend = errors.New("cannot find a valid backend")
	errInvalid   = errors.New("backend is invalid")
)

// proxyRequest is one request to be forwarded to a backend.
type proxyRequest struct {
	edge     *Edge
	client   *http.ResponseController
	frontend hipache.Frontend
	debug    bool

	backend hipache.Backend // of the current attempt
	addr    string          // of the backend
	tried   []string        // URLs not to try again, at any position
	resent  bool            // two backends may have received the request
	body    *body           // nil: no body
	cancel  func()          // ends the current attempt and its answer
	ctx     context.Context //nolint:containedctx // of the request, for its answer
	logged  bool            // the failure is in the log

	started, sent time.Time
}

const (
	maxHops = 20 // proxies before this one; a longer way means that an entry leads back to the edge
)

// lookUp finds the frontend of the request's host.
func (p *proxyRequest) lookUp(r *http.Request) (err error) {
	host := hipache.RequestedHost(r.Host)
	switch {
	case r.Method == http.MethodConnect:
		return errMethod
	case host == "":
		return errNoHost
	case !wellFormed(r):
		return errMalformed
	case strings.Count(strings.Join(r.Header["X-Forwarded-For"], ","), ",") >= maxHops:
		return errLoop
	case !hipache.Findable(host):
		return hipache.ErrNoFrontend
	}
	p.frontend, err = p.edge.directory.lookUp(host)
	return err
}

// proxy forwards the request. ReverseProxy implements the rules of HTTP for proxies. The
// proxyRequest is its transport, so the client does not notice a retry.
func (p *proxyRequest) proxy(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p,
		FlushInterval:  -1, // at once: an answer of known length may also be a stream
		BufferPool:     &buffers,
		ModifyResponse: p.modifyResponse,
		ErrorHandler:   p.fail,
		ErrorLog:       p.edge.errorLog,
	}
	defer func() { p.body.leave() }()
	if r.Header.Get("Upgrade") != "" {
		ctx, cancel := untilShutdown(r.Context())
		defer cancel()
		w, r = tunnelWriter{w}, r.WithContext(ctx)
	}
	proxy.ServeHTTP(w, r)
}

// RoundTrip tries backends until one answers or none is left.
func (p *proxyRequest) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error
	for attempt := 1; ; attempt++ {
		if err := p.pick(); err != nil {
			return nil, cmp.Or(last, err)
		}
		res, err := p.send(r)
		if err == nil {
			return res, nil
		}
		marked, repeatable := p.handleFailure(r, err)
		again := repeatable && attempt < maxAttempts
		p.logFailure(r, err, marked, again)
		if !again {
			return nil, err
		}
		last = err
		p.tried = append(p.tried, p.backend.URL)
	}
}

// send sends the request to the picked backend.
func (p *proxyRequest) send(r *http.Request) (*http.Response, error) {
	p.sent = time.Now()
	res, err := p.transport(r).RoundTrip(p.attempt(r))
	if err != nil {
		return nil, err
	}
	return res, checkResponse(r, res)
}

// transport returns the transport of a request. A request that asks for an upgrade gets a new
// connection without a time limit.
func (p *proxyRequest) transport(r *http.Request) *http.Transport {
	if r.Header.Get("Upgrade") != "" {
		return p.edge.tunnels
	}
	return p.edge.transport
}

// pick picks a random entry that is neither dead nor tried, so that a URL with n entries gets n
// shares. It skips entries without a valid address.
func (p *proxyRequest) pick() error {
	none := errNoBackend
	for p.pickEntry() {
		var ok bool
		if p.addr, ok = hipache.Target(p.backend.URL); ok {
			return nil
		}
		// The log does not contain the entry, which may include a password.
		p.edge.opt.Log.Warn("entry is not an http URL", "host", p.frontend.Host, "position", p.backend.Position)
		none = errInvalid
		p.tried = append(p.tried, p.backend.URL)
	}
	return none
}

// pickEntry picks a random available entry. It reports whether there is one.
func (p *proxyRequest) pickEntry() bool {
	available := 0
	for _, b := range p.frontend.Backends {
		if p.available(b) {
			available++
		}
	}
	if available == 0 {
		return false
	}
	p.backend = p.nthAvailable(rand.IntN(available)) //nolint:gosec // the choice is no secret
	return true
}

// nthAvailable returns the available entry with n available entries before it.
func (p *proxyRequest) nthAvailable(n int) hipache.Backend {
	for _, b := range p.frontend.Backends {
		if !p.available(b) {
			continue
		}
		if n == 0 {
			return b
		}
		n--
	}
	panic("edge: fewer available entries than counted")
}

func (p *proxyRequest) available(b hipache.Backend) bool {
	return !b.Dead && !slices.Contains(p.tried, b.URL)
}

// attempt returns the request to the picked backend. Each attempt has its own copy, because
// the transport may still read the failed one.
func (p *proxyRequest) attempt(r *http.Request) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	p.ctx, p.cancel = r.Context(), cancel
	r = r.WithContext(ctx)
	u := *r.URL
	u.Host = p.addr
	r.URL = &u
	return r
}

// handleFailure decides the consequences of a failed attempt: whether the backend is marked,
// and whether another backend may get the request.
//
// Only a failed connection is certainly the backend's failure. The edge marks the backend and
// repeats the request. After the request was sent, the request itself may be the cause of any
// failure, and one visitor must not take a backend away from the others. A backend that resets,
// closes or does not answer in time is therefore announced without a mark, and its next probe
// decides. The edge repeats the request once if that is safe. It does not repeat it after a
// timeout, because the backend may still be processing it.
func (p *proxyRequest) handleFailure(r *http.Request, err error) (marked, repeatable bool) {
	if p.clientLeft(r) || len(p.frontend.Backends) < 2 || errors.Is(err, errNotHTTP) {
		return false, false
	}
	if dial, noConnection := errors.AsType[*dialError](err); noConnection {
		return dial.backendFailed() && p.edge.directory.mark(r.Context(), p.frontend, p.backend), true
	}
	p.edge.directory.announce(r.Context(), p.frontend, p.backend)
	return false, p.resend(r, err)
}

func (p *proxyRequest) clientLeft(r *http.Request) bool {
	return r.Context().Err() != nil || p.body.failed()
}

// resend reports whether a second backend may receive a request that the first may have received. It allows that once.
func (p *proxyRequest) resend(r *http.Request, err error) bool {
	if p.resent || timedOut(err) || !idempotent(r.Method) || p.body.touched() {
		return false
	}
	p.resent = true
	return true
}

// idempotent reports whether a client may send a request twice, by IANA's registry of methods.
// An unregistered method is not idempotent.
func idempotent(method string) bool {
	switch method {
	case "ACL", "BASELINE-CONTROL", "BIND", "CHECKIN", "CHECKOUT", "COPY", "DELETE", "GET", "HEAD", "LABEL", "LINK", "MERGE",
		"MKACTIVITY", "MKCALENDAR", "MKCOL", "MKREDIRECTREF", "MKWORKSPACE", "MOVE", "OPTIONS", "ORDERPATCH", "PROPFIND",
		"PROPPATCH", "PUT", "QUERY", "REBIND", "REPORT", "SEARCH", "TRACE", "UNBIND", "UNCHECKOUT", "UNLINK", "UPDATE",
		"UPDATEREDIRECTREF", "VERSION-CONTROL":
		return true
	}
	return false
}

// logFailure logs a failed attempt.
func (p *proxyRequest) logFailure(r *http.Request, err error, marked, again bool) {
	level := slog.LevelWarn
	if p.clientLeft(r) {
		level = slog.LevelDebug
	}
	p.logged = true
	p.edge.opt.Log.LogAttrs(context.WithoutCancel(r.Context()), level, "backend failed",
		slog.String("host", p.frontend.Requested), slog.String("backend", p.addr), slog.Int("position", p.backend.Position),
		slog.Any("err", err), slog.Bool("marked", marked), slog.Bool("retried", again))
}
