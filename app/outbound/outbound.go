// Package outbound restricts and explains connections to addresses that users choose:
// targets of checks and URLs of webhooks.
//
// Dialer refuses addresses that Rollcall must not call. Failure translates a network error
// into a result.
package outbound

import (
	"net"
	"net/netip"
)

// Dialer returns a dialer that connects only to permitted addresses; see guard. It uses
// Go's own resolver, because a lookup by the C library cannot be interrupted. Its
// connections send no keep-alive packets. They end with the probe or the delivery attempt.
func Dialer(allow func(netip.Addr) bool) *net.Dialer {
	return &net.Dialer{
		KeepAlive:      -1,
		ControlContext: guard(allow),
		Resolver:       &net.Resolver{PreferGo: true},
	}
}
