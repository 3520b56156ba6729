package app

import (
	"context"
	"net/netip"
	"syscall"
)

// never lists what is not the address of an instance or a receiver whatever the
// policy: this host, the link, everybody, and the addresses where clouds hand out
// credentials (most are link-local; the single ones are those that are not).
var never = []netip.Prefix{
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

	// IPv6 behind which there is an IPv4 address that cannot be told from it.
	netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64 of a network's own
	netip.MustParsePrefix("2001::/32"),       // Teredo
	netip.MustParsePrefix("::ffff:0:0:0/96"), // SIIT
}

// compatible, nat64 and sixToFour are IPv6 prefixes behind which a router finds an IPv4
// address.
var (
	compatible = netip.MustParsePrefix("::/96")
	nat64      = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour  = netip.MustParsePrefix("2002::/16")
)

// An AddressError means that an address is not to be called.
type AddressError struct{ Addr netip.Addr }

func (e *AddressError) Error() string { return e.Addr.String() }

// Guard makes a net.Dialer's ControlContext, which sees each address after the lookup
// of the name and before the first packet, so that no answer of a name server slips
// past it. It refuses with an *AddressError what is never to be called and what allow,
// unless that is nil, does not. IPv4 addresses come to allow as such, even when they were
// written as IPv6.
func Guard(allow func(netip.Addr) bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return &AddressError{}
		}
		if addr := ap.Addr().Unmap().WithZone(""); !callable(addr, allow) {
			return &AddressError{addr}
		}
		return nil
	}
}

// callable reports whether an address may be called, and so may the one that it leads to.
// It has no zone: no prefix contains one that has.
func callable(addr netip.Addr, allow func(netip.Addr) bool) bool {
	if refused(addr) || allow != nil && !allow(addr) {
		return false
	}
	inner := embedded(addr)
	return !inner.IsValid() || callable(inner, allow)
}

func refused(addr netip.Addr) bool {
	for _, p := range never {
		if p.Contains(addr) {
			return true
		}
	}
	return false
}

// embedded returns the IPv4 address that a translated or tunnelled IPv6 address
// leads to, or the zero Addr.
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
