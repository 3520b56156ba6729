package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// newTransport returns the connections to the backends. They are plain HTTP/1.1:
// that is what Hipache speaks and what an entry promises.
func newTransport(o Options) *http.Transport {
	dialer := &net.Dialer{Timeout: o.DialTimeout}
	return &http.Transport{
		Proxy: nil, // never from the environment: backends are ours
		DialContext: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := dialer.DialContext(ctx, network, addr)
			if err != nil {
				return nil, &dialError{err}
			}
			return &conn{c, o.ResponseTimeout}, nil
		},
		DisableCompression:  true, // what the client did not ask for would be undone here
		MaxIdleConnsPerHost: 256,
		// Common servers close an idle connection after 5 s. Closing first keeps a
		// POST, which nobody may send twice, from meeting a connection just closed.
		IdleConnTimeout:        4 * time.Second,
		ResponseHeaderTimeout:  o.ResponseTimeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
}

// conn gives up a write nobody takes anything of: while a request's body is being
// sent no other timeout runs.
type conn struct {
	net.Conn
	patience time.Duration
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.patience)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// dialError is a connection that did not come about: nothing was sent.
type dialError struct{ err error }

func (e *dialError) Error() string { return e.err.Error() }
func (e *dialError) Unwrap() error { return e.err }

// blames reports whether the backend is at fault: nobody listens, nobody answers,
// or its name does not exist. Not so when this machine has run out of ports or
// files or its resolver is away: every backend would look dead.
func (e *dialError) blames() bool {
	if dns, ok := errors.AsType[*net.DNSError](e.err); ok {
		return dns.IsNotFound
	}
	return errors.Is(e.err, syscall.ECONNREFUSED) || errors.Is(e.err, syscall.EHOSTUNREACH) || timedOut(e.err)
}

func timedOut(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}

// deadStatus reports whether an answer makes Hipache mark the backend. It is not
// true of 500 and 503: an application's own error, and one that asks for patience.
func deadStatus(code int) bool {
	return code == 501 || code == 502 || code >= 504 && code <= 599
}
