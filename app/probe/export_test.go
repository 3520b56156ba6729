package probe

import (
	"bytes"
	"context"
	"crypto/x509"
	"net"
	"sync/atomic"

	"rollcall/app"
)

var (
	Failure     = failure
	Printable   = printable
	ParseHealth = parseHealth
)

// SetNameServer makes p use only the name servers at addresses, in turn, as the resolver does.
func (p *Prober) SetNameServer(addresses ...string) {
	var asked atomic.Int64
	p.useNameServers(func(ctx context.Context, network, _ string) (net.Conn, error) {
		n := int(asked.Add(1)-1) % len(addresses)
		return new(net.Dialer).DialContext(ctx, network, addresses[n])
	})
}

// SetRoots makes p trust the issuers of roots instead of the system's.
func (p *Prober) SetRoots(roots *x509.CertPool) { p.roots = roots }

// Wait returns once the servers of finished probes have closed their connections or the limit
// has passed.
func (p *Prober) Wait() { p.hangUps.wg.Wait() }

// ResultOf returns the result of a probe of i if answer is the whole answer.
func ResultOf(i app.Instance, answer []byte) app.Result {
	c := &conn{Conn: canned{Reader: bytes.NewReader(answer)}}
	r, err := protocols[i.Check.Kind](context.Background(), c, i)
	if err != nil {
		r = failure(context.Background(), err)
	}
	r.Detail = printable(r.Detail)
	return r
}

// canned is a connection whose answer has already arrived.
type canned struct {
	net.Conn
	*bytes.Reader
}

func (c canned) Read(b []byte) (int, error)  { return c.Reader.Read(b) }
func (c canned) Write(b []byte) (int, error) { return len(b), nil }
