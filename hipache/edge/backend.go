package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"syscall"
	"time"
)

// newTransport returns the transport to the backends. It speaks HTTP/1.1 without TLS, as
// Hipache does and as an entry promises.
func newTransport(o Options) *http.Transport {
	t := &http.Transport{
		Proxy:              nil,  // never from the environment: backends are in the local network
		DisableCompression: true, // else the transport would decompress answers
		// There is no MaxIdleConns: net/http counts a connection as idle just before it delivers an answer without a
		// body, and may then close it for another one, so that the answer is lost. dial closes idle connections when
		// the process has no free file.
		MaxIdleConnsPerHost: 256,
		// An idle connection blocks a single-threaded server, so it must end well within the timeout
		// of a probe. Common servers close idle connections after 5 s. The edge closes first, so that
		// a POST, which must not be repeated, does not meet a closed connection.
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

// newTunnels returns the transport for requests that ask for an upgrade. Each request has its
// own TCP connection, which can be closed in one direction and has no time limit.
func newTunnels(o Options, idle *http.Transport) *http.Transport {
	t := newTransport(o)
	t.DisableKeepAlives = true
	t.DialContext = func(ctx context.Context, network, addr string) (net.Conn, error) {
		return dial(ctx, o.DialTimeout, idle, network, addr)
	}
	return t
}

// dial connects to a backend. If the process has no free file, dial closes idle connections and
// tries again.
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

// conn ends a write of which the backend reads no bytes for the timeout. No other timeout runs
// while a request's body is being sent.
type conn struct {
	net.Conn
	timeout time.Duration
}

// Write fails if the backend reads no bytes for the timeout.
func (c *conn) Write(p []byte) (int, error) {
	if err := c.SetWriteDeadline(time.Now().Add(c.timeout)); err != nil {
		return 0, err
	}
	return c.Conn.Write(p)
}

// dialError is the error of a connection attempt: the backend has received no request.
type dialError struct{ err error }

// Error returns the message of the connection error.
func (e *dialError) Error() string { return e.err.Error() }

// Unwrap returns the connection error.
func (e *dialError) Unwrap() error { return e.err }

// backendFailed reports whether the backend caused the error: its port refuses or ignores
// connections, or its name does not exist. Missing ports or files of this machine and a failing
// name server are not the backend's failure, because they would make every backend look dead.
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
