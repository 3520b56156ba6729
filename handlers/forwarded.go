package handlers

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"rollcall/app"
	"rollcall/handlers/input"
)

// clientOf returns the address of the client. That is the connection's, unless it comes from
// a trusted proxy and has an X-Forwarded-For header, or else a Forwarded header (RFC 7239):
// then it is the last address in it that is not a trusted proxy's. When that element cannot
// be understood, clientOf returns a FieldError: a proxy's address is not the client's.
func (a *API) clientOf(r *http.Request) (string, error) {
	direct, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return "", nil // the call did not come over IP
	}
	if addr, err := netip.ParseAddr(direct); err != nil || !a.trusts(addr) {
		return direct, nil
	}
	name, elements := "X-Forwarded-For", listed(r.Header.Values("X-Forwarded-For"))
	if elements == nil {
		name, elements = "Forwarded", listed(r.Header.Values("Forwarded"))
	}
	if elements == nil {
		return direct, nil
	}
	client := ""
	for _, e := range slices.Backward(elements) {
		if name == "Forwarded" {
			e = forwardedFor(e)
		} else if e == "" {
			continue // RFC 9110 has readers skip empty elements of a list
		}
		addr, err := parseForwarded(e)
		if err != nil {
			return "", notForwarded(name, input.Quote(e))
		}
		if client = addr.String(); !a.trusts(addr) {
			return client, nil
		}
	}
	if client == "" {
		return "", notForwarded(name, "empty")
	}
	return client, nil
}

func notForwarded(name, is string) error {
	return &app.FieldError{
		Field: name, Problem: "is " + is + ", which is no address of a client",
		Want: "have the proxy send the client's IP address, or register with address",
	}
}

// listed returns the elements of a list in header lines, nil when there is no such header.
func listed(lines []string) []string {
	var elements []string
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			elements = append(elements, strings.TrimSpace(e))
		}
	}
	return elements
}

// forwardedFor returns the value of for= in an element of Forwarded, empty when there is none.
func forwardedFor(element string) string {
	for pair := range strings.SplitSeq(element, ";") {
		name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
		if strings.EqualFold(strings.TrimSpace(name), "for") {
			return strings.TrimSpace(value)
		}
	}
	return ""
}

// parseForwarded reads an address with or without quotes, brackets, a port and a zone. The
// port is that of the client's connection, and the zone means something to the proxy only.
func parseForwarded(s string) (netip.Addr, error) {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		s = s[1 : len(s)-1]
	}
	if host, port, err := net.SplitHostPort(s); err == nil {
		if port != "" && strings.Trim(port, "0123456789") != "" {
			return netip.Addr{}, fmt.Errorf("port %q", port)
		}
		s = host
	} else if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		s = s[1 : len(s)-1]
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Addr{}, err
	}
	if addr = addr.Unmap().WithZone(""); addr.IsUnspecified() {
		return netip.Addr{}, fmt.Errorf("%s is the unspecified address", addr)
	}
	return addr, nil
}

func (a *API) trusts(addr netip.Addr) bool {
	ip := net.IP(addr.Unmap().AsSlice())
	return slices.ContainsFunc(a.TrustedProxies, func(n *net.IPNet) bool { return n.Contains(ip) })
}
