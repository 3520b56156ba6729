package probe_test

import (
	"encoding/binary"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
)

const (
	noError       = 0
	serverFailure = 2
	noSuchName    = 3
	refused       = 5
)

const typeA = 1 // of a question for IPv4 addresses

// question is the content of a query.
func question(query []byte) (name string, qtype byte) {
	end := 12
	for query[end] != 0 {
		n := int(query[end])
		name += string(query[end+1:end+1+n]) + "."
		end += 1 + n
	}
	return name, query[end+2]
}

// A failing name server proves no failure of the instance. Only the answer that the name has no
// address does, and only if every query gets it.
func TestAFailingNameServerIsNotTheInstancesFailure(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	nothing := netip.Addr{}
	fails := fail(app.NameServerFailed, "the name server fails")
	for name, c := range map[string]struct {
		a, aaaa byte // answers to the queries for IPv4 and IPv6 addresses
		ip      netip.Addr
		want    app.Result
	}{
		"both answered":                      {noError, noError, address.Addr(), pass(app.OK)},
		"IPv6 fails, IPv4 has an address":    {noError, serverFailure, address.Addr(), pass(app.OK)},
		"IPv6 refused, IPv4 has an address":  {noError, refused, address.Addr(), pass(app.OK)},
		"no such name":                       {noSuchName, noSuchName, nothing, fail(app.Unresolvable, "")},
		"a name without addresses":           {noError, noError, nothing, fail(app.Unresolvable, "")},
		"both fail":                          {serverFailure, serverFailure, nothing, fails},
		"both refused":                       {refused, refused, nothing, fails},
		"IPv4 fails, no IPv6 address":        {serverFailure, noError, nothing, fails},
		"IPv4 fails, no such name for IPv6":  {serverFailure, noSuchName, nothing, fails},
		"IPv4 refused, no IPv6 address":      {refused, noError, nothing, fails},
		"no IPv4 address, IPv6 fails":        {noError, serverFailure, nothing, fails},
		"not implemented, and no such name":  {4, noSuchName, nothing, fails},
		"no such name and a refusal at once": {noSuchName, refused, nothing, fails},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe.New(probe.Options{})
			p.SetNameServer(nameServer(t, func(query []byte) []byte {
				rcode := c.aaaa
				if _, qtype := question(query); qtype == typeA {
					rcode = c.a
				}
				return dnsAnswer(query, rcode, c.ip)
			}))
			same(t, run(t, p, named(address)), c.want)
		})
	}
}

// named returns an instance that is registered by name.
func named(address netip.AddrPort) app.Instance {
	i := instance(app.TCP, "web.rollcall.test:80", ample)
	i.Check.Port = int(address.Port())
	return i
}

func TestASecondNameServerIsAskedInTime(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	dead := nameServer(t, func([]byte) []byte { return nil })
	alive := nameServer(t, func(query []byte) []byte { return dnsAnswer(query, noError, address.Addr()) })
	p := probe.New(probe.Options{})
	p.SetNameServer(dead, dead, alive, alive) // each server gets a query for IPv4 and one for IPv6
	i := named(address)
	i.Check.Timeout = 3 * time.Second // less than the 5 s of the resolver
	same(t, run(t, p, i), pass(app.OK))
}

func TestNoNameServerListens(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	p := probe.New(probe.Options{})
	p.SetNameServer(closedPort(t))
	same(t, run(t, p, named(address)), fail(app.NameServerFailed, "the name server fails"))
}

// If an answer does not fit into a datagram, the resolver repeats the query over TCP.
func TestATruncatedAnswerIsReadOverTCP(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	truncated := func(query []byte) []byte {
		a := dnsAnswer(query, noError, netip.Addr{})
		a[2] |= 2 // TC
		return a
	}
	for name, overTCP := range map[string]bool{"TCP answers": true, "TCP is closed": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			at, want := nameServer(t, truncated), fail(app.NameServerFailed, "the name server fails")
			if overTCP {
				want = pass(app.OK)
				serveOn(t, at, func(c net.Conn) {
					for {
						var size [2]byte
						if _, err := io.ReadFull(c, size[:]); err != nil {
							return
						}
						query := make([]byte, binary.BigEndian.Uint16(size[:]))
						if _, err := io.ReadFull(c, query); err != nil {
							return
						}
						a := dnsAnswer(query, noError, address.Addr())
						_, _ = c.Write(binary.BigEndian.AppendUint16(nil, uint16(len(a))))
						_, _ = c.Write(a)
					}
				})
			}
			p := probe.New(probe.Options{})
			p.SetNameServer(at)
			same(t, run(t, p, named(address)), want)
		})
	}
}
