// Package probe checks an instance once: it connects, asks, judges the answer and
// hangs up.
//
// The instances are strangers. A probe therefore has one deadline for everything,
// from the name's lookup to the last byte, reads a bounded number of bytes,
// follows no redirect, uses no proxy, and calls no address it must not call (see
// package outbound). Every probe opens a connection of its own: a kept one would miss a
// listener that accepts no more.
package probe

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"syscall"
	"time"

	"rollcall/app"
	"rollcall/app/outbound"
)

// userAgent is how the probed recognize a probe in their logs.
const userAgent = "rollcall-probe"

// Options of a Prober. The zero value is ready to use.
type Options struct {
	// Allow says whether an address may be called; see package outbound.
	Allow func(netip.Addr) bool
	// Now stamps the results; nil means time.Now.
	Now func() time.Time
}

// A Prober is an app.Prober. It keeps no state of an instance. Connections of finished
// probes may wait up to 5 s for their servers; Close ends them.
type Prober struct {
	dialer *net.Dialer
	strict *net.Resolver // as the dialer's, but one error of a name server fails the lookup
	now    func() time.Time

	hangUps hangUps
}

var _ app.Prober = (*Prober)(nil)

// New returns a Prober.
func New(o Options) *Prober {
	p := &Prober{now: o.Now}
	if p.now == nil {
		p.now = time.Now
	}
	p.dialer = outbound.Dialer(o.Allow)
	p.useNameServers(new(net.Dialer).DialContext)
	return p
}

// Close closes the connections that still wait for their servers, and returns once they
// are closed.
func (p *Prober) Close() { p.hangUps.end() }

// Probe checks the instance once. When ctx ends before the check's timeout, the
// result says nothing about the instance; the caller knows, since it ended ctx.
func (p *Prober) Probe(ctx context.Context, i app.Instance) (r app.Result) {
	at, began := p.now(), time.Now()
	defer func() {
		if v := recover(); v != nil {
			r = failed(app.BadAnswer, fmt.Sprint("the probe panicked: ", v))
		}
		r.At, r.Latency, r.Detail = at, time.Since(began), printable(r.Detail)
	}()
	timed, cancel := context.WithTimeout(ctx, i.Check.Timeout)
	defer cancel()
	r, err := p.ask(timed, i)
	if err != nil {
		return failure(ctx, err)
	}
	return r
}

// A judge asks the instance at the other end of a new connection how it is.
type judge func(context.Context, *conn, app.Instance) (app.Result, error)

var judges = map[app.Kind]judge{
	app.HTTP:      judgeHTTP,
	app.TCP:       judgeTCP,
	app.GRPC:      judgeGRPC,
	app.Memcached: judgeMemcached,
	app.Redis:     judgeRedis,
}

// judgeTCP passes: there is a connection.
func judgeTCP(context.Context, *conn, app.Instance) (app.Result, error) { return passed(app.OK), nil }

// ask returns what the instance answered, or why there was no answer.
func (p *Prober) ask(ctx context.Context, i app.Instance) (app.Result, error) {
	judge, ok := judges[i.Check.Kind]
	if !ok {
		return failed(app.NotUnderstood, fmt.Sprintf("kind %q", i.Check.Kind)), nil
	}
	r, err := p.askOn(ctx, i, judge)
	if i.Check.Kind == app.Memcached && (errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)) {
		if binary, err := p.askOn(ctx, i, judgeBinaryMemcached); err == nil && binary.Passed {
			return binary, nil
		}
	}
	return r, err
}

// askOn asks on a new connection.
func (p *Prober) askOn(ctx context.Context, i app.Instance, judge judge) (app.Result, error) {
	c, err := p.dial(ctx, i.Target())
	if err != nil {
		return app.Result{}, err
	}
	defer p.hangUps.hangUp(c)
	r, err := judge(ctx, c, i)
	if broken := c.broken.Load(); err != nil && broken != nil {
		err = *broken // rather than what a parser says of the half line it got
	}
	return r, err
}

func passed(code app.Code) app.Result { return app.Result{Passed: true, Code: code} }

func failed(code app.Code, detail string) app.Result { return app.Result{Code: code, Detail: detail} }
