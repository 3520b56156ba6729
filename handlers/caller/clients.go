// Package caller identifies the clients of a request and limits their rate.
package caller

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

// Clients finds the addresses of clients. Trusted are the networks of proxies whose headers name the client.
type Clients struct{ Trusted []*net.IPNet }

// Address returns the address of the client: the last address in the X-Forwarded-For header, or else in the Forwarded header
// (RFC 7239), that is not a trusted proxy's. Without such a header, or on a connection from another host than a trusted proxy, it
// returns the address of the connection. It returns a FieldError if it cannot parse that element of the header, because the
// address of a proxy is not the client's.
func (t Clients) Address(r *http.Request) (string, error) {
	direct, _, _ := net.SplitHostPort(r.RemoteAddr) // empty if the connection is not over IP
	if addr, _ := netip.ParseAddr(direct); !t.trusts(addr) {
		return direct, nil
	}
	name, elements := "X-Forwarded-For", listed(r.Header.Values("X-Forwarded-For"))
	if elements == nil {
		name, elements = "Forwarded", forwardedFor(listed(r.Header.Values("Forwarded")))
	}
	if elements == nil {
		return direct, nil
	}
	return t.lastUntrusted(name, elements)
}

// lastUntrusted returns the last address that is not a trusted proxy's, or the first address if all are.
func (t Clients) lastUntrusted(name string, elements []string) (client string, err error) {
	for _, e := range slices.Backward(elements) {
		if e == "" && name != "Forwarded" {
			continue // RFC 9110: readers skip empty elements of a list
		}
		addr, err := parseForwarded(e)
		if err != nil {
			return "", notForwarded(name, input.Quote(e))
		}
		if client = addr.String(); !t.trusts(addr) {
			return client, nil
		}
	}
	if client == "" {
		return "", notForwarded(name, "empty")
	}
	return client, nil
}

func (t Clients) trusts(addr netip.Addr) bool {
	ip := net.IP(addr.Unmap().AsSlice())
	return slices.ContainsFunc(t.Trusted, func(n *net.IPNet) bool { return n.Contains(ip) })
}

func notForwarded(name, is string) error {
	return &app.FieldError{
		Field: name, Problem: "is " + is + ", which is no address of a client",
		Want: "have the proxy send the client's IP address, or register with address",
	}
}

// listed returns the elements of a list in header lines, nil without such a header.
func listed(lines []string) []string {
	var elements []string
	for _, line := range lines {
		for e := range strings.SplitSeq(line, ",") {
			elements = append(elements, strings.TrimSpace(e))
		}
	}
	return elements
}

// forwardedFor returns the value of for= of each element of Forwarded, empty if there is none.
func forwardedFor(elements []string) []string {
	for n, e := range elements {
		elements[n] = ""
		for pair := range strings.SplitSeq(e, ";") {
			name, value, _ := strings.Cut(strings.TrimSpace(pair), "=")
			if strings.EqualFold(strings.TrimSpace(name), "for") {
				elements[n] = strings.TrimSpace(value)
				break
			}
		}
	}
	return elements
}

// parseForwarded parses an address with or without quotes, brackets, a port and a zone. It drops the port, which is that of the
// client's connection, and the zone, which has a meaning on the proxy only.
func parseForwarded(s string) (netip.Addr, error) {
	host, err := withoutPort(withoutQuotes(s))
	if err != nil {
		return netip.Addr{}, err
	}
	addr, err := netip.ParseAddr(host)
	if err != nil {
		return netip.Addr{}, err
	}
	if addr = addr.Unmap().WithZone(""); addr.IsUnspecified() {
		return netip.Addr{}, fmt.Errorf("%s is the unspecified address", addr)
	}
	return addr, nil
}

func withoutQuotes(s string) string {
	if len(s) > 1 && s[0] == '"' && s[len(s)-1] == '"' {
		return s[1 : len(s)-1]
	}
	return s
}

func withoutPort(s string) (string, error) {
	if host, port, err := net.SplitHostPort(s); err == nil {
		if strings.Trim(port, "0123456789") != "" {
			return "", fmt.Errorf("port %q", port)
		}
		return host, nil
	}
	if strings.HasPrefix(s, "[") && strings.HasSuffix(s, "]") {
		return s[1 : len(s)-1], nil
	}
	return s, nil
}
