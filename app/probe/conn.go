package probe

import (
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

var errTooLong = errors.New("longer than a probe reads")

// longAgo is a deadline that ends reads and writes at once.
var longAgo = time.Unix(1, 0)

// conn is the connection of one probe. It ends with the probe's context and limits the number
// of bytes that its readers get.
type conn struct {
	net.Conn
	left   int                   // bytes that may still be read; the protocol sets it
	broken atomic.Pointer[error] // the error that ended reading
	stop   func() bool           // stops waiting for the end of the context

	// closing is set by a protocol once the server has answered and will close the connection
	// itself; see hangUp.
	closing bool
}

func (p *Prober) dial(ctx context.Context, target string) (*conn, error) {
	if end, ok := ctx.Deadline(); ok {
		ctx = context.WithValue(ctx, lookupTimeout{}, time.Until(end)/3)
	}
	nc, err := p.connect(ctx, target)
	if err != nil {
		return nil, p.confirm(ctx, err)
	}
	return &conn{Conn: nc, stop: endWith(ctx, nc)}, nil
}

// endWith ends reads and writes of c when ctx ends, unless stop is called before.
func endWith(ctx context.Context, c net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
}

// lookupTimeout is the context key of the time that a lookup waits for one answer of one name
// server: a third of the probe's time. A second server can then answer while there is still
// time to connect. The resolver itself would wait for the 5 s of resolv.conf.
type lookupTimeout struct{}

// useNameServers makes the prober look up names through connections of dial. It uses Go's
// resolver, because the C library's cannot be interrupted. The connections end with the last
// probe that waits for the answer.
func (p *Prober) useNameServers(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	timed := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		endWith(ctx, c)
		if d, ok := ctx.Value(lookupTimeout{}).(time.Duration); ok {
			time.AfterFunc(d, func() { _ = c.SetDeadline(longAgo) })
		}
		return c, nil
	}
	p.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: timed}
	p.strict = &net.Resolver{PreferGo: true, StrictErrors: true, Dial: timed}
}

// confirm verifies that a name without addresses does not exist. Go's resolver asks for IPv4 and
// IPv6 addresses in each search domain and reports one error for all queries. The error is often
// "no such host" although the name server failed to answer another query.
func (p *Prober) confirm(ctx context.Context, err error) error {
	e, ok := errors.AsType[*net.DNSError](err)
	if !ok || !e.IsNotFound {
		return err
	}
	for _, family := range []string{"ip4", "ip6"} {
		_, again := p.strict.LookupNetIP(ctx, family, e.Name)
		if other, ok := errors.AsType[*net.DNSError](again); ok && !other.IsNotFound {
			return again
		}
	}
	return err
}

// Read reads at most c.left bytes in total, then fails with errTooLong.
func (c *conn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.fail(errTooLong)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, c.fail(err)
}

// fail records the first error, except that Rollcall closed the connection, and returns err.
func (c *conn) fail(err error) error {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.broken.CompareAndSwap(nil, &err)
	}
	return err
}

// cause returns the error that ended reading if there is one, else err. A parser's error about an incomplete
// line would hide it.
func (c *conn) cause(err error) error {
	if broken := c.broken.Load(); err != nil && broken != nil {
		return *broken
	}
	return err
}

// serverClosed reports whether a read has found that the server closed the connection.
func (c *conn) serverClosed() bool {
	broken := c.broken.Load()
	return broken != nil && errors.Is(*broken, io.EOF)
}

// resetOnClose makes Close send a reset instead of FIN; see hangUp.
func (c *conn) resetOnClose() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
