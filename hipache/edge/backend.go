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
	t := &http.Transport{
		Proxy:               nil,  // never from the environment: backends are ours
		DisableCompression:  true, // what the client did not ask for would be undone here
		MaxIdleConns:        maxIdleBackends(o.files),
		MaxIdleConnsPerHost: 256,
		// An idle connection occupies a server with a single thread, so it ends well within
		// the timeout of a probe. Common servers close one after 5 s: closing first keeps a
		// POST, which must not be sent twice, from meeting a connection just closed.
		IdleConnTimeout:        500 * time.Millisecond,
		ResponseHeaderTimeout:  o.Timeout,
		ExpectContinueTimeout:  time.Second,
		MaxResponseHeaderBytes: 1 << 20,
	}
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, o.DialTimeout, t, network, addr)
		if err != nil {
			return nil, err
		}
		return &conn{c, o.Timeout}, nil
	}
	return t
}

// newTunnels returns the connections for requests that ask for an upgrade. Each has its
// own connection, a plain TCP one: it can be closed in one direction, and nothing on it
// has a time limit.
func newTunnels(o Options, idle *http.Transport) *http.Transport {
	t := newTransport(o)
	t.DisableKeepAlives = true
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dial(ctx, o.DialTimeout, idle, network, addr)
	}
	return t
}

// dial connects to a backend. While the process has no file left for the connection, it
// gives up the idle ones and tries again.
func dial(ctx context.Context, timeout time.Duration, idle *http.Transport, network, addr string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(ctx, network, addr)
		if err == nil {
			return c, nil
		}
		if !outOfFiles(err) {
			return nil, &dialError{err}
		}
		idle.CloseIdleConnections()
		select {
		case <-ctx.Done():
			return nil, &dialError{err}
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// conn gives up a write nobody takes anything of: while a request's body is being
// sent no other timeout runs.
type conn struct {
	net.Conn
	timeout time.Duration
}

func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
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
func (e *dialError) backendFailed() bool {
	if dns, ok := errors.AsType[*net.DNSError](e.err); ok {
		return dns.IsNotFound
	}
	return errors.Is(e.err, syscall.ECONNREFUSED) || errors.Is(e.err, syscall.EHOSTUNREACH) || timedOut(e.err)
}

func timedOut(err error) bool {
	n, ok := errors.AsType[net.Error](err)
	return ok && n.Timeout()
}
