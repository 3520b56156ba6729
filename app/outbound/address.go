package outbound

import (
	"context"
	"net/netip"
	"syscall"
)

// alwaysRefused lists addresses that are never an instance or a receiver, whatever the
// policy: this host, link-local, multicast and broadcast addresses, and the metadata
// services of clouds. Most metadata services are link-local; the single addresses are the
// others.
var alwaysRefused = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("255.255.255.255/32"),
	netip.MustParsePrefix("100.100.100.200/32"), // Alibaba
	netip.MustParsePrefix("168.63.129.16/32"),   // Azure
	netip.MustParsePrefix("192.0.0.192/32"),     // Oracle
	netip.MustParsePrefix("::/128"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
	netip.MustParsePrefix("fd00:ec2::254/128"), // AWS
	netip.MustParsePrefix("fd20:ce::254/128"),  // Google

	// IPv6 addresses that lead to an IPv4 address which cannot be computed from them.
	netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64 with a local prefix
	netip.MustParsePrefix("2001::/32"),       // Teredo
	netip.MustParsePrefix("::ffff:0:0:0/96"), // SIIT
}

// IPv6 prefixes whose addresses contain the IPv4 address that a router forwards to.
var (
	compatible = netip.MustParsePrefix("::/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// An AddressError means that Rollcall must not call an address.
type AddressError struct{ Addr netip.Addr }

// Error returns the address.
func (e *AddressError) Error() string { return e.Addr.String() }

// Permitted returns a function that reports whether Rollcall may call an address. It refuses
// every address of alwaysRefused and every address that allow rejects; a nil allow permits
// all others. allow gets IPv4 addresses as IPv4, also if they were written as IPv6.
func Permitted(allow func(netip.Addr) bool) func(netip.Addr) bool {
	return func(addr netip.Addr) bool { return permitted(normal(addr), allow) }
}

// guard returns a ControlContext for a net.Dialer that refuses the same addresses as
// Permitted, with an *AddressError. The dialer calls it with each address after the lookup
// and before the first packet, so the answer of a name server cannot bypass it.
func guard(allow func(netip.Addr) bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return &AddressError{}
		}
		if addr := normal(ap.Addr()); !permitted(addr, allow) {
			return &AddressError{addr}
		}
		return nil
	}
}

// normal returns an address as permitted expects it: without a zone, because no prefix
// contains an address with a zone, and as IPv4 if it was written as IPv6.
func normal(addr netip.Addr) netip.Addr { return addr.Unmap().WithZone("") }

// permitted reports whether Rollcall may call addr and the IPv4 address embedded in it.
func permitted(addr netip.Addr, allow func(netip.Addr) bool) bool {
	if refused(addr) || allow != nil && !allow(addr) {
		return false
	}
	inner := embedded(addr)
	return !inner.IsValid() || permitted(inner, allow)
}

func refused(addr netip.Addr) bool {
	for _, p := range alwaysRefused {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a translated or tunnelled IPv6 address leads to,
// or the zero Addr.
func embedded(addr netip.Addr) netip.Addr {
	b := addr.As16()
	switch {
	case addr == netip.IPv6Loopback():
	case compatible.Contains(addr), nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}
