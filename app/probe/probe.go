// Package probe executes checks. A Prober connects to an instance, speaks the protocol of the
// check (HTTP, TCP, gRPC, Redis or memcached), decides whether the instance passes, and closes the
// connection.
//
// Instances are not trusted. A probe has one deadline for everything from the lookup to the last
// byte, reads a limited number of bytes, follows no redirect, uses no proxy, and connects only to
// permitted addresses (see package outbound). Every probe opens a new connection, because a kept
// connection does not show that a listener has stopped accepting.
package probe

import (
	"context"
	"crypto/x509"
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

// userAgent identifies probes in the logs of applications.
const userAgent = "rollcall-probe"

// Options configures a Prober. The zero value is ready to use.
type Options struct {
	// Allow reports whether the prober may call an address; see outbound.Permitted. nil permits
	// every address that is not always refused.
	Allow func(netip.Addr) bool
	// Now returns the time of a result; nil means time.Now.
	Now func() time.Time
}

// A Prober is an app.Prober. It keeps no state of instances, and is safe for concurrent use.
// Connections of finished probes may wait up to 5 s for their servers; Close ends them.
type Prober struct {
	dialer *net.Dialer
	strict *net.Resolver  // like the dialer's, but one error of a name server fails the lookup
	roots  *x509.CertPool // nil: the system's
	now    func() time.Time

	hangUps hangUps
}

var _ app.Prober = (*Prober)(nil)

// New returns a Prober. The caller must close it.
func New(o Options) *Prober {
	p := &Prober{now: o.Now}
	if p.now == nil {
		p.now = time.Now
	}
	p.dialer = outbound.Dialer(o.Allow)
	p.useNameServers(new(net.Dialer).DialContext)
	return p
}

// Close closes the connections that still wait for their servers. It returns after they are
// closed.
func (p *Prober) Close() { p.hangUps.end() }

// Probe checks the instance once. If the caller ends ctx before the timeout of the check, the
// result is inconclusive.
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
	r, err := p.probe(timed, i)
	if err != nil {
		return failure(ctx, err)
	}
	return r
}

// A protocol probes an instance on a new connection. Its error means that the instance gave no
// complete answer.
type protocol func(context.Context, *conn, app.Instance) (app.Result, error)

var protocols = map[app.Kind]protocol{
	app.HTTP:      probeHTTP,
	app.TCP:       probeTCP,
	app.GRPC:      probeGRPC,
	app.Memcached: probeMemcached,
	app.Redis:     probeRedis,
}

// probeTCP passes, because the connection exists.
func probeTCP(context.Context, *conn, app.Instance) (app.Result, error) { return passed(app.OK), nil }

// probe probes the instance. A memcached server may need a second connection with the binary
// protocol, and an HTTP server one with HTTP/2.
func (p *Prober) probe(ctx context.Context, i app.Instance) (app.Result, error) {
	run, ok := protocols[i.Check.Kind]
	if !ok {
		return failed(app.NotUnderstood, fmt.Sprintf("kind %q", i.Check.Kind)), nil
	}
	if i.Check.TLS {
		run = p.probeTLS
	}
	r, err := p.probeOn(ctx, i, run)
	if next := otherVersion(i.Check, err); next != nil {
		if second, err := p.probeOn(ctx, i, next); err == nil && (second.Passed || i.Check.Kind == app.HTTP) {
			return second, nil
		}
	}
	return r, err
}

// otherVersion returns the protocol that a server may speak which has ended the first connection; nil: none.
func otherVersion(c app.Check, err error) protocol {
	_, isHTTP2 := errors.AsType[http2Error](err)
	closed := errors.Is(err, io.EOF) || errors.Is(err, syscall.ECONNRESET)
	switch {
	case c.Kind == app.HTTP && !c.TLS && (isHTTP2 || closed):
		return probeH2C
	case c.Kind == app.Memcached && closed:
		return probeBinaryMemcached
	}
	return nil
}

// probeOn probes the instance on a new connection.
func (p *Prober) probeOn(ctx context.Context, i app.Instance, run protocol) (app.Result, error) {
	c, err := p.dial(ctx, i.Target())
	if err != nil {
		return app.Result{}, err
	}
	defer p.hangUps.hangUp(c)
	r, err := run(ctx, c, i)
	return r, c.cause(err)
}

func passed(code app.Code) app.Result { return app.Result{Passed: true, Code: code} }

func failed(code app.Code, detail string) app.Result { return app.Result{Code: code, Detail: detail} }
