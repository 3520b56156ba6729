package outbound_test

import (
	"net/netip"
	"testing"

	"rollcall/app/outbound"
)

func TestAnEmbeddedIPv4AddressMustBePermittedToo(t *testing.T) {
	t.Parallel()
	const forbidden = "100.100.100.200"
	allow := func(a netip.Addr) bool { return a.Is6() || a == netip.MustParseAddr("10.0.0.1") }
	for address, want := range map[string]bool{
		"::ffff:10.0.0.1":    true,
		"::10.0.0.1":         true,
		"64:ff9b::a00:1":     true,
		"2002:a00:1::1":      true,
		"::ffff:10.0.0.2":    false,
		"2002:a00:2::1":      false,
		"2002:6464:64c8::1":  false, // forbidden in 6to4
		"64:ff9b::6464:64c8": false,
		"fd00::1":            true,
	} {
		if got := outbound.Permitted(allow)(netip.MustParseAddr(address)); got != want {
			t.Errorf("%s permitted: %t, want %t", address, got, want)
		}
	}
	for _, address := range []string{forbidden, "2002:6464:64c8::1", "fe80::1%lo"} {
		if outbound.Permitted(nil)(netip.MustParseAddr(address)) {
			t.Errorf("%s is permitted without a policy", address)
		}
	}
}
