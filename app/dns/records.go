package dns

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"rollcall/app"
)

// service adds the records of a name below service.<zone>, and reports whether the name exists.
func (s *Server) service(m *dns.Msg, q dns.Question, name string) bool {
	asSRV := false
	if under, ok := strings.CutSuffix(name, "._tcp"); ok && strings.HasPrefix(under, "_") {
		name, asSRV = under[1:], true
	}
	instances, known := s.healthy(name)
	if !known {
		return s.nonTerminal(name)
	}
	switch {
	case q.Qtype == dns.TypeSRV:
		s.addSRV(m, q.Name, instances)
	case asSRV: // only the SRV records are at _web._tcp
	case q.Qtype == dns.TypeA, q.Qtype == dns.TypeAAAA:
		s.addAddresses(m, q, instances)
	}
	return true
}

// healthy returns the routable instances of a service, or of a service and a tag ("blue.web"), sorted by id. It
// reports whether the name is known: a service with any instance, or a tag of any of its instances.
func (s *Server) healthy(name string) (routable []app.Instance, known bool) {
	if service := s.replica.Service(name); service != nil {
		return service.Routable, true
	}
	tag, name, _ := strings.Cut(name, ".")
	service := s.replica.Service(name)
	if service == nil {
		return nil, false
	}
	tagged := func(i app.Instance) bool {
		return slices.ContainsFunc(i.Tags, func(t string) bool { return strings.EqualFold(t, tag) })
	}
	for _, i := range service.Routable {
		if tagged(i) {
			routable = append(routable, i)
		}
	}
	return routable, len(routable) > 0 || slices.ContainsFunc(service.Instances, tagged)
}

// nonTerminal reports whether a longer name exists, such as "a.web" for "web" (RFC 8020): then the name exists,
// without records.
func (s *Server) nonTerminal(name string) bool {
	return name == "_tcp" || slices.ContainsFunc(s.replica.Services(), func(service string) bool { return strings.HasSuffix(service, "."+name) })
}

// addSRV adds an SRV record for each instance, in the order of their ids, and the addresses of their targets.
func (s *Server) addSRV(m *dns.Msg, name string, instances []app.Instance) {
	targets := map[string]bool{}
	for _, i := range instances {
		host, port := hostPort(i.Address)
		target := dns.Fqdn(host)
		ip, err := netip.ParseAddr(host)
		if err == nil {
			target = label(ip) + ".addr." + s.zone
		}
		m.Answer = append(m.Answer, &dns.SRV{
			Hdr: s.header(name, dns.TypeSRV), Priority: 1, Weight: uint16(i.Slots()), Port: port, Target: target, //nolint:gosec // 1 to 100
		})
		if err == nil && !targets[target] {
			targets[target] = true
			m.Extra = append(m.Extra, s.record(target, ip))
		}
	}
}

// addAddresses adds the addresses of the instances, each once, in random order: many clients use the first one.
// An instance that is registered by name has no address here.
func (s *Server) addAddresses(m *dns.Msg, q dns.Question, instances []app.Instance) {
	seen := map[netip.Addr]bool{}
	for _, i := range instances {
		host, _ := hostPort(i.Address)
		ip, err := netip.ParseAddr(host)
		if err == nil && ip.Is4() == (q.Qtype == dns.TypeA) && !seen[ip] {
			seen[ip] = true
			m.Answer = append(m.Answer, s.record(q.Name, ip))
		}
	}
	rand.Shuffle(len(m.Answer), func(a, b int) { m.Answer[a], m.Answer[b] = m.Answer[b], m.Answer[a] }) //nolint:gosec // the order is not a secret
}

// address adds the record of a name below addr.<zone>, and reports whether the name is an address.
func (s *Server) address(m *dns.Msg, q dns.Question, name string) bool {
	ip, ok := unlabel(name)
	if !ok {
		return false
	}
	if record := s.record(q.Name, ip); record.Header().Rrtype == q.Qtype {
		m.Answer = []dns.RR{record}
	}
	return true
}

// record returns the A or AAAA record of an address.
func (s *Server) record(name string, ip netip.Addr) dns.RR {
	if ip.Is4() {
		return &dns.A{Hdr: s.header(name, dns.TypeA), A: ip.AsSlice()}
	}
	return &dns.AAAA{Hdr: s.header(name, dns.TypeAAAA), AAAA: ip.AsSlice()}
}

// label writes an address as one label: 10-0-0-5, or the eight groups fd00-0-0-0-0-0-0-2.
func label(ip netip.Addr) string {
	if ip.Is4() {
		return strings.ReplaceAll(ip.String(), ".", "-")
	}
	b := ip.As16()
	groups := make([]string, 8)
	for n := range groups {
		groups[n] = strconv.FormatUint(uint64(b[2*n])<<8|uint64(b[2*n+1]), 16)
	}
	return strings.Join(groups, "-")
}

// unlabel reads an address that label has written.
func unlabel(name string) (netip.Addr, bool) {
	separator := "."
	if strings.Count(name, "-") == 7 {
		separator = ":"
	}
	ip, err := netip.ParseAddr(strings.ReplaceAll(name, "-", separator))
	return ip, err == nil && label(ip) == name
}

// hostPort splits a canonical address.
func hostPort(address string) (host string, port uint16) {
	at := strings.LastIndexByte(address, ':')
	n, err := strconv.ParseUint(address[at+1:], 10, 16)
	if err != nil {
		panic(fmt.Sprintf("dns: %q is no canonical address", address)) // the registry has only canonical ones
	}
	return strings.Trim(address[:at], "[]"), uint16(n)
}
