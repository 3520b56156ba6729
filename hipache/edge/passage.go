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
	errLoop      = errors.New("the request has been here before")
	errNoBackend = errors.New("cannot find a valid backend")
	errInvalid   = errors.New("backend is invalid")
)

// passage is one request on its way to a backend.
type passage struct {
	edge  *Edge
	front hipache.Frontend
	debug bool

	at     hipache.Backend // the slot being tried
	addr   string          // its address
	tried  []string        // URLs not to be tried again: all their slots
	body   *body           // what the client sends; nil if nothing
	logged bool            // the failure has been logged

	started, sent time.Time
}

const (
	maxHops = 20 // proxies before this one; beyond, an entry of the list leads back here
)

// find looks up who answers for the request's host.
func (p *passage) find(r *http.Request) (err error) {
	host := hipache.RequestedHost(r.Host)
	switch {
	case r.Method == http.MethodConnect:
		return errMethod
	case host == "":
		return errNoHost
	case strings.Count(strings.Join(r.Header["X-Forwarded-For"], ","), ",") >= maxHops:
		return errLoop
	case !hipache.Findable(host):
		return hipache.ErrNoFrontend
	}
	p.front, err = p.edge.directory.find(host)
	return err
}

// proxy passes the request on. ReverseProxy does what HTTP asks of a proxy; the
// passage is its transport, so that a retry is no business of the client's.
func (p *passage) proxy(w http.ResponseWriter, r *http.Request) {
	proxy := httputil.ReverseProxy{
		Rewrite:        p.rewrite,
		Transport:      p,
		FlushInterval:  -1, // at once: an answer of known length may be a stream too
		BufferPool:     &buffers,
		ModifyResponse: p.explain,
		ErrorHandler:   p.fail,
		ErrorLog:       p.edge.errorLog,
	}
	proxy.ServeHTTP(w, r)
}

// RoundTrip tries backends until one answers or nothing is left to try.
func (p *passage) RoundTrip(r *http.Request) (*http.Response, error) {
	var last error
	for attempt := 1; ; attempt++ {
		if err := p.pick(); err != nil {
			if last != nil {
				err = last
			}
			return nil, err
		}
		p.sent = time.Now()
		res, err := p.edge.transport.RoundTrip(p.to(r))
		if err == nil {
			if deadStatus(res.StatusCode) {
				p.note(r, slog.Int("status", res.StatusCode), p.blame(r.Context()), false)
			}
			return res, nil
		}
		blamed, repeatable := p.judge(r, err)
		again := repeatable && attempt < p.edge.opt.Attempts && len(p.front.Backends) > 1
		p.note(r, slog.Any("err", err), blamed && p.blame(r.Context()), again)
		if !again {
			return nil, err
		}
		last = err
		p.tried = append(p.tried, p.at.URL)
	}
}

// pick chooses at random among the slots that are neither dead nor tried, so that
// a URL in n slots gets n shares. Entries that are no address are passed over.
func (p *passage) pick() error {
	none := errNoBackend
	for {
		open := 0
		for _, b := range p.front.Backends {
			if p.open(b) {
				open++
			}
		}
		if open == 0 {
			return none
		}
		nth := rand.IntN(open) //nolint:gosec // spreading load needs no secrecy
		for _, b := range p.front.Backends {
			if !p.open(b) {
				continue
			}
			if nth == 0 {
				p.at = b
				break
			}
			nth--
		}
		var ok bool
		if p.addr, ok = hipache.Target(p.at.URL); ok {
			return nil
		}
		// Not the entry itself: it may hold a password.
		p.edge.opt.Log.Warn("entry is not an http URL", "host", p.front.Host, "slot", p.at.Slot)
		none = errInvalid
		p.tried = append(p.tried, p.at.URL)
	}
}

func (p *passage) open(b hipache.Backend) bool {
	return !b.Dead && !slices.Contains(p.tried, b.URL)
}

// to returns the request as it goes to the backend that was picked. Each attempt
// has its own: the transport may still read the one that failed.
func (p *passage) to(r *http.Request) *http.Request {
	r = r.WithContext(r.Context())
	u := *r.URL
	u.Host = p.addr
	r.URL = &u
	return r
}

// judge decides what follows from a failed attempt: whether the backend is to
// blame, and whether the request may go to another. It may if nothing was sent,
// or if all was that a client may send twice.
//
// A backend that takes too long is not blamed. It may be one slow page of a
// healthy site, and marking would spread the outage to all the others; finding
// hanging backends is for active checks. Nor is the request repeated: it may be
// running.
func (p *passage) judge(r *http.Request, err error) (blamed, repeatable bool) {
	if r.Context().Err() != nil {
		return false, false // the client went away
	}
	if dial, ok := errors.AsType[*dialError](err); ok {
		return dial.blames(), true
	}
	if timedOut(err) {
		return false, false
	}
	return false, idempotent(r.Method) && !p.body.touched()
}

func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// blame marks the slot the passage has just failed with. The last URL of a list is
// never marked: there is nobody to go to, and it would stay away after it is back.
func (p *passage) blame(ctx context.Context) (marked bool) {
	if len(p.front.Backends) < 2 {
		return false
	}
	return p.edge.directory.mark(ctx, p.front, p.at)
}

// note writes the one line of a failed attempt.
func (p *passage) note(r *http.Request, what slog.Attr, marked, again bool) {
	level := slog.LevelWarn
	if r.Context().Err() != nil {
		level = slog.LevelDebug // the client went away
	}
	p.logged = true
	p.edge.opt.Log.LogAttrs(context.WithoutCancel(r.Context()), level, "backend failed",
		slog.String("host", p.front.Requested), slog.String("backend", p.addr), slog.Int("slot", p.at.Slot),
		what, slog.Bool("marked", marked), slog.Bool("retried", again))
}
