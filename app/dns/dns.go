// Package dns answers DNS queries from a replica of the registry: A, AAAA and SRV records of the healthy
// instances of a service.
//
// With the zone "rollcall", these names exist:
//
//	web.service.rollcall          A, AAAA, SRV   the healthy instances of the service web
//	_web._tcp.service.rollcall    SRV            the same, as RFC 2782 writes it
//	blue.web.service.rollcall     A, AAAA, SRV   the healthy instances of web with the tag blue
//	10-0-0-5.addr.rollcall        A              10.0.0.5: the target of an SRV record
//	fd00-0-0-0-0-0-0-2.addr.…     AAAA           fd00::2
//
// A known service without a healthy instance gets NOERROR without records, an unknown name NXDOMAIN, a name
// of another zone REFUSED, and every query SERVFAIL while the replica is stale.
package dns

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"rollcall/app/replica"
)

// MaxUDP is the size of the largest UDP answer in bytes: without fragments on every usual network (DNS Flag
// Day 2020).
const MaxUDP = 1232

// maxTCP is the size of the largest TCP answer in bytes: a message has a length of 16 bits.
const maxTCP = dns.MaxMsgSize - 1

// Server answers the queries of one zone. Its methods are safe for concurrent use.
type Server struct {
	replica *replica.Replica
	now     func() time.Time
	zone    string // fully qualified, lower case: "rollcall."
	ttl     uint32 // seconds
	log     *slog.Logger
}

// New returns a server of a zone, such as "rollcall", that answers from a replica. Records have the TTL ttl,
// in whole seconds and at least 1 s: some resolvers do not cache a TTL of 0, others ignore the record.
func New(r *replica.Replica, zone string, ttl time.Duration, log *slog.Logger) *Server {
	return &Server{
		replica: r, now: time.Now, log: log,
		zone: dns.CanonicalName(zone), ttl: max(1, uint32(ttl/time.Second)), //nolint:gosec // the configuration bounds it
	}
}

// Serve answers queries on a UDP socket and a TCP listener until the context ends. It closes both.
func (s *Server) Serve(ctx context.Context, udp net.PacketConn, tcp net.Listener) error {
	servers := []*dns.Server{{PacketConn: udp, Handler: s, UDPSize: dns.DefaultMsgSize}, {Listener: tcp, Handler: s}}
	ended := make(chan error, len(servers))
	for _, server := range servers {
		server.MsgAcceptFunc = accept
		go func() { ended <- server.ActivateAndServe() }()
	}
	stop := context.AfterFunc(ctx, func() { _, _ = udp.Close(), tcp.Close() })
	defer stop()
	err := <-ended
	_, _ = udp.Close(), tcp.Close()
	err = errors.Join(err, <-ended)
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// accept drops answers, and refuses messages that are not a plain query for one name.
func accept(h dns.Header) dns.MsgAcceptAction {
	const response = 1 << 15
	switch opcode := int(h.Bits>>11) & 0xf; {
	case h.Bits&response != 0:
		return dns.MsgIgnore
	case opcode != dns.OpcodeQuery:
		return dns.MsgRejectNotImplemented
	case h.Qdcount != 1:
		return dns.MsgReject
	}
	return dns.MsgAccept
}

// ServeDNS answers one query.
func (s *Server) ServeDNS(w dns.ResponseWriter, query *dns.Msg) {
	_, udp := w.RemoteAddr().(*net.UDPAddr)
	if err := w.WriteMsg(s.Answer(query, udp)); err != nil {
		s.log.Debug("a DNS answer could not be sent", "client", w.RemoteAddr().String(), "err", err)
	}
}

// Answer returns the answer to a query, small enough for UDP or for TCP. A query without exactly one question,
// such as a header whose question is cut off, gets FORMERR.
func (s *Server) Answer(query *dns.Msg, udp bool) *dns.Msg {
	if len(query.Question) != 1 {
		return new(dns.Msg).SetRcodeFormatError(query)
	}
	m := new(dns.Msg).SetReply(query)
	m.Authoritative = true
	m.RecursionAvailable = true // dnsmasq caches no answer without it
	m.Compress = true
	size := maxTCP
	if udp {
		size = dns.MinMsgSize
	}
	if opt := query.IsEdns0(); opt != nil {
		if udp {
			size = min(max(int(opt.UDPSize()), dns.MinMsgSize), MaxUDP)
		}
		m.SetEdns0(MaxUDP, false)
		if opt.Version() != 0 {
			m.Rcode = dns.RcodeBadVers
			return m
		}
	}
	s.resolve(m, query.Question[0])
	fit(m, size, udp)
	return m
}

// resolve fills in the records and the code of the answer.
func (s *Server) resolve(m *dns.Msg, q dns.Question) {
	name, in := s.within(q.Name)
	switch _, err := s.replica.Age(s.now()); {
	case !in || !answerable(q):
		m.Rcode, m.Authoritative, m.RecursionAvailable = dns.RcodeRefused, false, false
		return
	case err != nil:
		m.Rcode, m.Authoritative = dns.RcodeServerFailure, false
		return
	case q.Qtype == dns.TypeANY: // RFC 8482
		m.Answer = []dns.RR{&dns.HINFO{Hdr: s.header(q.Name, dns.TypeHINFO), Cpu: "RFC8482"}}
		return
	}
	if !s.addRecords(m, q, name) {
		m.Rcode = dns.RcodeNameError
	}
	if len(m.Answer) == 0 { // RFC 2308: both kinds of negative answers have the SOA
		m.Ns = []dns.RR{s.soa(s.zone)}
	}
}

// answerable reports whether a question is for records of the Internet, and not for the whole zone.
func answerable(q dns.Question) bool {
	return q.Qclass == dns.ClassINET && q.Qtype != dns.TypeAXFR && q.Qtype != dns.TypeIXFR
}

// addRecords adds the records of a name in the zone. It reports whether the name exists.
func (s *Server) addRecords(m *dns.Msg, q dns.Question, name string) bool {
	if service, ok := strings.CutSuffix(name, ".service"); ok {
		return s.service(m, q, service)
	}
	if address, ok := strings.CutSuffix(name, ".addr"); ok {
		return s.address(m, q, address)
	}
	if name == "" && q.Qtype == dns.TypeSOA {
		m.Answer = []dns.RR{s.soa(q.Name)}
	}
	return slices.Contains([]string{"", "service", "addr"}, name)
}

// within returns the part of a name left of the zone, in lower case and without the last dot, and whether the
// name is in the zone.
func (s *Server) within(name string) (string, bool) {
	name = dns.CanonicalName(name)
	if name == s.zone {
		return "", true
	}
	return strings.CutSuffix(name, "."+s.zone)
}

func (s *Server) header(name string, rrtype uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: rrtype, Class: dns.ClassINET, Ttl: s.ttl}
}

// soa returns the SOA record. Its MINIMUM is how long resolvers cache a negative answer.
func (s *Server) soa(name string) *dns.SOA {
	return &dns.SOA{
		Hdr: s.header(name, dns.TypeSOA), Ns: "ns." + s.zone, Mbox: "hostmaster." + s.zone,
		Serial:  uint32(s.now().Unix()), //nolint:gosec // serial numbers wrap around (RFC 1982)
		Refresh: 3600, Retry: 600, Expire: 86400, Minttl: s.ttl,
	}
}

// fit drops records until the answer has at most size bytes: first the additional ones, except OPT, then
// answers. Over UDP it sets TC when it drops answers, so that the client retries over TCP.
func fit(m *dns.Msg, size int, udp bool) {
	if m.Len() <= size {
		return
	}
	opt := m.IsEdns0()
	m.Extra = nil
	if opt != nil {
		m.Extra = []dns.RR{opt}
	}
	all := m.Answer
	fits := func(n int) bool { m.Answer = all[:n]; return m.Len() <= size }
	if fits(len(all)) {
		return
	}
	low, high := 0, len(all) // fits(low), not fits(high)
	for low+1 < high {
		if middle := (low + high) / 2; fits(middle) {
			low = middle
		} else {
			high = middle
		}
	}
	fits(low)
	m.Truncated = udp
}
