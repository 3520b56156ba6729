package probe

import (
	"context"
	"errors"
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
}

func (p *Prober) dial(ctx context.Context, target string) (*conn, error) {
	nc, err := p.dialer.DialContext(ctx, "tcp", target)
	if err != nil {
		return nil, err
	}
	return &conn{Conn: nc, stop: endWith(ctx, nc)}, nil
}

// endWith ends reads and writes of c when ctx ends, unless stop is called before.
func endWith(ctx context.Context, c net.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.SetDeadline(longAgo) })
}

// newResolver returns a resolver that asks name servers through dial. It is Go's own,
// because the C library's cannot be interrupted; and what Go's cannot do by itself, its
// connections end as soon as the last probe that waits for the answer does.
func newResolver(dial func(ctx context.Context, network, address string) (net.Conn, error)) *net.Resolver {
	return &net.Resolver{
		PreferGo: true,
		Dial: func(ctx context.Context, network, address string) (net.Conn, error) {
			c, err := dial(ctx, network, address)
			if err == nil {
				endWith(ctx, c)
			}
			return c, err
		},
	}
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

// Close resets the connection instead of saying goodbye: the answer is read, nothing
// is left to send. A normal close keeps a port in TIME_WAIT for a minute and an entry
// in the host's connection tracking table for two, and a table of 262,144 is full at
// 2,200 probes a second; then it drops everybody's packets. After a reset the entry
// lives ten seconds.
func (c *conn) Close() error {
	c.stop()
	if tcp, ok := c.Conn.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0)
	}
	return c.Conn.Close()
}
