package edge

import (
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

// What keeps a request from a backend, in Hipache's words where it has some.
var (
	errMethod    = errors.New("CONNECT is not for reverse proxies")
	errNoHost    = errors.New("no host header")
	errMalformed = errors.New("the request cannot be written as HTTP/1.1")
	errLoop      = errors.New("the request has been here before")
	errNoBackend = errors.New("cannot find a valid backend")
	errInvalid   = errors.New("backend is invalid")
)

// passage is one request on its way to a backend.
type proxyRequest struct {
	edge     *Edge
	client   *http.ResponseController
	frontend hipache.Frontend
	debug    bool

	backend hipache.Backend // the slot being tried
	addr    string          // its address
	tried   []string        // URLs not to be tried again: all their slots
	resent  bool            // the request may have reached two backends
	body    *body           // what the client sends; nil if nothing
	cancel  func()          // ends the attempt under way, and its answer
	ctx     context.Context //nolint:containedctx // the request's, for its answer
	logged  bool            // the failure has been logged

	started, sent time.Time
}

const (
	maxHops = 20 // proxies before this one; beyond, an entry of the list leads back here
)

// find looks up who answers for the request's host.
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

// proxy passes the request on. ReverseProxy does what HTTP asks of a proxy; the
// passage is its transport, so that a retry is no business of the client's.
func (p *proxyRequest) proxy(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p,
		FlushInterval:  -1, // at once: an answer of known length may be a stream too
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

// RoundTrip tries backends until one answers or nothing is left to try.
func (p *proxyRequest) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error
	for attempt := 1; ; attempt++ {
		if err := p.pick(); err != nil {
			if last != nil {
				err = last
			}
			return nil, err
		}
		p.sent = time.Now()
		res, err := p.transport(r).RoundTrip(p.attempt(r))
		if err == nil {
			err = checkResponse(r, res)
		}
		if err == nil {
			return res, nil
		}
		marked, repeatable := p.handleFailure(r, err)
		again := repeatable && attempt < maxAttempts && len(p.frontend.Backends) > 1
		p.logFailure(r, err, marked, again)
		if !again {
			return nil, err
		}
		last = err
		p.tried = append(p.tried, p.backend.URL)
	}
}

// transport returns the connections for a request: one that asks for an upgrade gets
// a new connection without a time limit.
func (p *proxyRequest) transport(r *http.Request) *http.Transport {
	if r.Header.Get("Upgrade") != "" {
		return p.edge.tunnels
	}
	return p.edge.transport
}

// pick chooses at random among the slots that are neither dead nor tried, so that
// a URL in n slots gets n shares. Entries that are no address are passed over.
func (p *proxyRequest) pick() error {
	none := errNoBackend
	for {
		open := 0
		for _, b := range p.frontend.Backends {
			if p.available(b) {
				open++
			}
		}
		if open == 0 {
			return none
		}
		nth := rand.IntN(open) //nolint:gosec // spreading load needs no secrecy
		for _, b := range p.frontend.Backends {
			if !p.available(b) {
				continue
			}
			if nth == 0 {
				p.backend = b
				break
			}
			nth--
		}
		var ok bool
		if p.addr, ok = hipache.Target(p.backend.URL); ok {
			return nil
		}
		// Not the entry itself: it may hold a password.
		p.edge.opt.Log.Warn("entry is not an http URL", "host", p.frontend.Host, "slot", p.backend.Position)
		none = errInvalid
		p.tried = append(p.tried, p.backend.URL)
	}
}

func (p *proxyRequest) available(b hipache.Backend) bool {
	return !b.Dead && !slices.Contains(p.tried, b.URL)
}

// to returns the request as it goes to the backend that was picked. Each attempt
// has its own: the transport may still read the one that failed.
func (p *proxyRequest) attempt(r *http.Request) *http.Request {
	ctx, cancel := context.WithCancel(r.Context())
	p.ctx, p.cancel = r.Context(), cancel
	r = r.WithContext(ctx)
	u := *r.URL
	u.Host = p.addr
	r.URL = &u
	return r
}

// blame decides what follows from a failed attempt: whether the backend loses its
// traffic, and whether the request may go to another one.
//
// Only a connection that cannot be made is the backend's failure for certain: it is
// marked, and the request goes on. Whatever happens once the request has been sent,
// the request itself may be the cause, and one visitor must not take a backend away
// from the others. A backend that resets, closes or does not answer in time is
// therefore announced and not marked: its next probe decides. The request is repeated
// once if that is safe, but not after a timeout: it may still be running.
func (p *proxyRequest) handleFailure(r *http.Request, err error) (marked, repeatable bool) {
	if r.Context().Err() != nil || p.body.failed() {
		return false, false // the client went away
	}
	dial, noConnection := errors.AsType[*dialError](err)
	switch {
	case len(p.frontend.Backends) < 2:
		return false, false
	case noConnection && dial.backendFailed():
		return p.edge.directory.mark(r.Context(), p.frontend, p.backend), true
	case noConnection:
		return false, true
	case errors.Is(err, errNotHTTP):
		return false, false
	}
	p.edge.directory.announce(r.Context(), p.frontend, p.backend)
	if timedOut(err) || p.resent || !idempotent(r.Method) || p.body.touched() {
		return false, false
	}
	p.resent = true
	return false, true
}

// idempotent reports whether a client may send a request twice, by IANA's registry of
// methods. A method that is not registered is not idempotent.
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

// note writes the one line of a failed attempt.
func (p *proxyRequest) logFailure(r *http.Request, err error, marked, again bool) {
	level := slog.LevelWarn
	if r.Context().Err() != nil || p.body.failed() {
		level = slog.LevelDebug // the client went away
	}
	p.logged = true
	p.edge.opt.Log.LogAttrs(context.WithoutCancel(r.Context()), level, "backend failed",
		slog.String("host", p.frontend.Requested), slog.String("backend", p.addr), slog.Int("slot", p.backend.Position),
		slog.Any("err", err), slog.Bool("marked", marked), slog.Bool("retried", again))
}
