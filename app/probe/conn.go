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

// conn is the connection of one probe. It ends with the probe's context and reads
// a bounded number of bytes, whoever does the reading.
type conn struct {
	net.Conn
	left   int                   // bytes that may still be read; the protocol sets it
	broken atomic.Pointer[error] // what ended the reading
	stop   func() bool           // ends the wait for the context's end

	// closing is set by a judge once the server has answered and is going to close the
	// connection by itself; see hangUp.
	closing bool
}

func (p *Prober) dial(ctx context.Context, target string) (*conn, error) {
	if end, ok := ctx.Deadline(); ok {
		ctx = context.WithValue(ctx, patience{}, time.Until(end)/3)
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

// patience is the context's key of how long a lookup waits for one answer of one name
// server: a third of the probe's time, so that a second server is asked while there is still
// time to connect. The resolver itself would wait for the 5 s of resolv.conf.
type patience struct{}

// useNameServers has names looked up at the name servers that dial connects to. The resolver
// is Go's own, because the C library's cannot be interrupted. Its connections end as soon as
// the last probe that waits for the answer does.
func (p *Prober) useNameServers(dial func(ctx context.Context, network, address string) (net.Conn, error)) {
	timed := func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dial(ctx, network, address)
		if err != nil {
			return nil, err
		}
		endWith(ctx, c)
		if d, ok := ctx.Value(patience{}).(time.Duration); ok {
			time.AfterFunc(d, func() { _ = c.SetDeadline(longAgo) })
		}
		return c, nil
	}
	p.dialer.Resolver = &net.Resolver{PreferGo: true, Dial: timed}
	p.strict = &net.Resolver{PreferGo: true, StrictErrors: true, Dial: timed}
}

// confirm makes sure of a name that is said to have no address. Go's resolver asks for
// IPv4 and for IPv6 addresses, in each search domain, and reports one error for all of it:
// often "no such host", although the name server failed to answer another of the questions.
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

func (c *conn) Read(b []byte) (int, error) {
	if c.left <= 0 {
		return 0, c.fail(errTooLong)
	}
	n, err := c.Conn.Read(b[:min(len(b), c.left)])
	c.left -= n
	return n, c.fail(err)
}

// fail keeps the first error, other than that we hung up, and returns err.
func (c *conn) fail(err error) error {
	if err != nil && !errors.Is(err, net.ErrClosed) {
		c.broken.CompareAndSwap(nil, &err)
	}
	return err
}

// serverClosed reports whether the server is known to have closed the connection.
func (c *conn) serverClosed() bool {
	broken := c.broken.Load()
	return broken != nil && errors.Is(*broken, io.EOF)
}

// resetOnClose has the connection end with a reset rather than with FIN; see hangUp.
func (c *conn) resetOnClose() {
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
}
