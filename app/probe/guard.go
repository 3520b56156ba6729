package probe

import (
	"context"
	"net/netip"
	"syscall"
)

// never lists what is not an instance's address whatever the policy: this host,
// the link, everybody, and the addresses where clouds hand out credentials (most
// are link-local; the single ones are those that are not).
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
}

// nat64 and sixToFour are IPv6 prefixes behind which a router finds an IPv4 address.
var (
	nat64     = netip.MustParsePrefix("64:ff9b::/96")
	sixToFour = netip.MustParsePrefix("2002::/16")
)

type forbiddenError struct{ addr netip.Addr }

func (e forbiddenError) Error() string { return e.addr.String() }

// guard is a net.Dialer's ControlContext: it sees each address after the lookup of
// the name and before the first packet.
func guard(allow func(netip.Addr) bool) func(context.Context, string, string, syscall.RawConn) error {
	return func(_ context.Context, _, address string, _ syscall.RawConn) error {
		ap, err := netip.ParseAddrPort(address)
		if err != nil {
			return forbiddenError{}
		}
		addr := ap.Addr().Unmap().WithZone("") // no prefix contains an address with a zone
		if refused(addr) || refused(embedded(addr)) || (allow != nil && !allow(addr)) {
			return forbiddenError{addr}
		}
		return nil
	}
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
	case nat64.Contains(addr):
		return netip.AddrFrom4([4]byte(b[12:]))
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:6]))
	}
	return netip.Addr{}
}
