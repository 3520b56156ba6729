package dns

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"rollcall/app"
	"rollcall/app/replica"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// healthy returns a healthy instance of weight 1.
func healthy(id, service, address string, tags ...string) app.Instance {
	return app.Instance{ID: id, Service: service, Address: address, Weight: 1, State: app.Healthy, Tags: tags}
}

// newServer returns a server of the zone rollcall with these instances.
func newServer(t *testing.T, instances ...app.Instance) *Server {
	t.Helper()
	r := replica.New()
	r.Reset(instances, "1-0")
	r.SetCurrent(time.Now().Add(time.Hour)) // the test may take its time
	return New(r, "rollcall", time.Second, slog.New(slog.DiscardHandler))
}

// ask sends a query over UDP with EDNS.
func ask(s *Server, name string, rrtype uint16) *dns.Msg {
	return s.Answer(new(dns.Msg).SetQuestion(name, rrtype).SetEdns0(4096, false), true)
}

// texts returns records without their names and TTLs: "SRV 1 1 80 10-0-0-1.addr.rollcall.".
func texts(records []dns.RR) []string {
	var all []string
	for _, r := range records {
		if r.Header().Rrtype != dns.TypeOPT {
			all = append(all, dns.TypeToString[r.Header().Rrtype]+" "+strings.TrimPrefix(r.String(), r.Header().String()))
		}
	}
	return all
}

func TestAnswers(t *testing.T) {
	t.Parallel()
	heavy := healthy("w2", "web", "10.0.0.2:8080", "Blue")
	heavy.Weight = 5
	down := healthy("d1", "down", "10.0.0.9:80", "blue")
	down.State = app.Unhealthy
	maintained := healthy("w4", "web", "10.0.0.4:80")
	maintained.Override.Maintenance = true
	s := newServer(t, healthy("w1", "web", "10.0.0.1:80"), heavy, healthy("w3", "web", "[fd00::2]:80"), maintained, down,
		healthy("two-1", "two-ports", "10.0.0.5:80"), healthy("two-2", "two-ports", "10.0.0.5:81"),
		healthy("n1", "named", "db.internal:5432"), healthy("dots", "a.b_c.web-2", "10.0.0.7:80"))
	for _, c := range []struct {
		name   string
		rrtype uint16
		code   int
		answer []string
	}{
		{"web.service.rollcall.", dns.TypeA, 0, []string{"A 10.0.0.1", "A 10.0.0.2"}},
		{"WEB.sErViCe.RollCall.", dns.TypeA, 0, []string{"A 10.0.0.1", "A 10.0.0.2"}},
		{"web.service.rollcall.", dns.TypeAAAA, 0, []string{"AAAA fd00::2"}},
		{"web.service.rollcall.", dns.TypeMX, 0, nil},
		{"web.service.rollcall.", dns.TypeSRV, 0, []string{
			"SRV 1 1 80 10-0-0-1.addr.rollcall.", "SRV 1 5 8080 10-0-0-2.addr.rollcall.",
			"SRV 1 1 80 fd00-0-0-0-0-0-0-2.addr.rollcall.",
		}},
		{"_web._tcp.service.rollcall.", dns.TypeSRV, 0, []string{
			"SRV 1 1 80 10-0-0-1.addr.rollcall.", "SRV 1 5 8080 10-0-0-2.addr.rollcall.",
			"SRV 1 1 80 fd00-0-0-0-0-0-0-2.addr.rollcall.",
		}},
		{"_web._tcp.service.rollcall.", dns.TypeA, 0, nil},
		{"_tcp.service.rollcall.", dns.TypeA, 0, nil},
		{"_other._tcp.service.rollcall.", dns.TypeSRV, dns.RcodeNameError, nil},
		{"blue.web.service.rollcall.", dns.TypeA, 0, []string{"A 10.0.0.2"}},
		{"blue.down.service.rollcall.", dns.TypeA, 0, nil}, // known, and not healthy
		{"green.web.service.rollcall.", dns.TypeA, dns.RcodeNameError, nil},
		{"down.service.rollcall.", dns.TypeA, 0, nil},
		{"two-ports.service.rollcall.", dns.TypeA, 0, []string{"A 10.0.0.5"}},
		{"two-ports.service.rollcall.", dns.TypeSRV, 0, []string{"SRV 1 1 80 10-0-0-5.addr.rollcall.", "SRV 1 1 81 10-0-0-5.addr.rollcall."}},
		{"named.service.rollcall.", dns.TypeSRV, 0, []string{"SRV 1 1 5432 db.internal."}},
		{"named.service.rollcall.", dns.TypeA, 0, nil},
		{"a.b_c.web-2.service.rollcall.", dns.TypeA, 0, []string{"A 10.0.0.7"}},
		{"b_c.web-2.service.rollcall.", dns.TypeA, 0, nil}, // RFC 8020: a longer name exists
		{"unknown.service.rollcall.", dns.TypeA, dns.RcodeNameError, nil},
		{"service.rollcall.", dns.TypeA, 0, nil},
		{"other.rollcall.", dns.TypeA, dns.RcodeNameError, nil},
		{"10-0-0-1.addr.rollcall.", dns.TypeA, 0, []string{"A 10.0.0.1"}},
		{"10-0-0-1.addr.rollcall.", dns.TypeAAAA, 0, nil},
		{"fd00-0-0-0-0-0-0-2.addr.rollcall.", dns.TypeAAAA, 0, []string{"AAAA fd00::2"}},
		{"10-0-0-256.addr.rollcall.", dns.TypeA, dns.RcodeNameError, nil},
		{"10-0-0-01.addr.rollcall.", dns.TypeA, dns.RcodeNameError, nil},
		{"web.service.rollcall.", dns.TypeANY, 0, []string{`HINFO "RFC8482" ""`}},
		{"rollcall.", dns.TypeAXFR, dns.RcodeRefused, nil}, // no zone transfer
		{"example.com.", dns.TypeA, dns.RcodeRefused, nil},
		{"xrollcall.", dns.TypeA, dns.RcodeRefused, nil},
		{".", dns.TypeNS, dns.RcodeRefused, nil},
	} {
		m := ask(s, c.name, c.rrtype)
		got := texts(m.Answer)
		if c.rrtype != dns.TypeSRV {
			slices.Sort(got) // addresses are in random order
		}
		what := fmt.Sprintf("%s %s", c.name, dns.TypeToString[c.rrtype])
		if m.Rcode != c.code || !slices.Equal(got, c.answer) {
			t.Errorf("%s is %s %q, want %s %q", what, dns.RcodeToString[m.Rcode], got, dns.RcodeToString[c.code], c.answer)
		}
		if refused := c.code == dns.RcodeRefused; m.Authoritative == refused || m.RecursionAvailable == refused {
			t.Errorf("%s has AA %t and RA %t", what, m.Authoritative, m.RecursionAvailable)
		}
		if m.Question[0].Name != c.name {
			t.Errorf("%s echoes the question as %s", what, m.Question[0].Name)
		}
		if negative := len(c.answer) == 0 && c.code != dns.RcodeRefused; negative != (len(m.Ns) == 1) {
			t.Errorf("%s has the authority %q", what, texts(m.Ns))
		}
		for _, r := range slices.Concat(m.Answer, m.Ns) {
			if r.Header().Ttl != 1 {
				t.Errorf("%s has the TTL %d", what, r.Header().Ttl)
			}
		}
	}
	m := ask(s, "two-ports.service.rollcall.", dns.TypeSRV)
	if got := texts(m.Extra); !slices.Equal(got, []string{"A 10.0.0.5"}) {
		t.Errorf("the additional section of two ports of one address is %q", got)
	}
	if soa := ask(s, "rollcall.", dns.TypeSOA); len(soa.Answer) != 1 || soa.Answer[0].(*dns.SOA).Minttl != 1 {
		t.Errorf("SOA is %q", texts(soa.Answer))
	}
}

func TestTheTTLIsAtLeastASecond(t *testing.T) {
	t.Parallel()
	for ttl, want := range map[time.Duration]uint32{0: 1, 500 * time.Millisecond: 1, 30 * time.Second: 30} {
		s := newServer(t, healthy("w1", "web", "10.0.0.1:80"))
		s = New(s.replica, "Example.Net.", ttl, s.log)
		m := ask(s, "web.service.example.net.", dns.TypeA)
		if len(m.Answer) != 1 || m.Answer[0].Header().Ttl != want {
			t.Errorf("with %s the answer is %q, want a TTL of %d", ttl, m.Answer, want)
		}
		if m = ask(s, "other.service.example.net.", dns.TypeA); m.Ns[0].(*dns.SOA).Minttl != want {
			t.Errorf("with %s the SOA is %q", ttl, m.Ns)
		}
	}
}

func TestAStaleReplicaIsSERVFAIL(t *testing.T) {
	t.Parallel()
	s := newServer(t, healthy("w1", "web", "10.0.0.1:80"))
	s.now = func() time.Time { return time.Now().Add(2 * time.Hour) }
	for _, name := range []string{"web.service.rollcall.", "unknown.service.rollcall.", "rollcall."} {
		if m := ask(s, name, dns.TypeA); m.Rcode != dns.RcodeServerFailure || len(m.Answer)+len(m.Ns) != 0 {
			t.Errorf("%s is %s", name, m)
		}
	}
	if m := ask(s, "example.com.", dns.TypeA); m.Rcode != dns.RcodeRefused {
		t.Errorf("another zone is %s", dns.RcodeToString[m.Rcode])
	}
}

func TestAddressesAreShuffled(t *testing.T) {
	t.Parallel()
	s := newServer(t, healthy("w1", "web", "10.0.0.1:80"), healthy("w2", "web", "10.0.0.2:80"))
	first := map[string]bool{}
	for range 100 {
		first[texts(ask(s, "web.service.rollcall.", dns.TypeA).Answer)[0]] = true
	}
	if len(first) != 2 {
		t.Errorf("a hundred answers begin with %v", first)
	}
}

// crowd returns n instances of the service web.
func crowd(n int) []app.Instance {
	var all []app.Instance
	for i := range n {
		ip := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		all = append(all, healthy(fmt.Sprintf("w%05d", i), "web", ip.String()+":80"))
	}
	return all
}

func TestLargeAnswersAreTruncated(t *testing.T) {
	t.Parallel()
	s := newServer(t, crowd(20_000)...)
	for _, rrtype := range []uint16{dns.TypeA, dns.TypeSRV} {
		query := new(dns.Msg).SetQuestion("web.service.rollcall.", rrtype)
		for size, m := range map[int]*dns.Msg{
			dns.MinMsgSize: s.Answer(query, true),
			MaxUDP:         s.Answer(query.Copy().SetEdns0(4096, false), true),
			maxTCP:         s.Answer(query, false),
		} {
			packed, err := m.Pack()
			if err != nil || len(packed) > size || len(packed) < size*8/10 {
				t.Errorf("%s: %d bytes, %v; want close to %d", dns.TypeToString[rrtype], len(packed), err, size)
			}
			if m.Truncated != (size != maxTCP) || len(texts(m.Extra)) != 0 {
				t.Errorf("%s of %d bytes: TC %t, additional %d", dns.TypeToString[rrtype], size, m.Truncated, len(m.Extra))
			}
		}
	}
	first, again := ask(s, "web.service.rollcall.", dns.TypeSRV), ask(s, "web.service.rollcall.", dns.TypeSRV)
	if !slices.Equal(texts(first.Answer), texts(again.Answer)) {
		t.Error("the order of SRV records changes") // HAProxy's servers would flap
	}
}

// A complete answer whose additional section does not fit is not truncated.
func TestTheAdditionalSectionGoesFirst(t *testing.T) {
	t.Parallel()
	m := newServer(t, crowd(9)...).Answer(new(dns.Msg).SetQuestion("web.service.rollcall.", dns.TypeSRV), true)
	if len(m.Answer) != 9 || len(m.Extra) != 0 || m.Truncated {
		t.Errorf("%d answers, %d additional, TC %t", len(m.Answer), len(m.Extra), m.Truncated)
	}
}

func TestEDNSIsAnsweredOnlyWhenAsked(t *testing.T) {
	t.Parallel()
	s := newServer(t, healthy("w1", "web", "10.0.0.1:80"))
	query := new(dns.Msg).SetQuestion("web.service.rollcall.", dns.TypeA)
	if m := s.Answer(query, true); m.IsEdns0() != nil {
		t.Error("OPT in an answer to a query without it")
	}
	if m := s.Answer(query.Copy().SetEdns0(512, false), true); m.IsEdns0() == nil || m.IsEdns0().UDPSize() != MaxUDP {
		t.Errorf("OPT is %v", m.IsEdns0())
	}
	query.SetEdns0(1232, false)
	query.IsEdns0().SetVersion(1)
	if m := s.Answer(query, true); m.Rcode != dns.RcodeBadVers || len(m.Answer) != 0 {
		t.Errorf("version 1 of EDNS is %s", m)
	}
}

// serve serves on free ports of loopback, and returns the address.
func serve(t *testing.T, s *Server) string {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	udp, err := net.ListenPacket("udp", tcp.Addr().String())
	if err != nil {
		t.Skip("the port is in use for UDP: ", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- s.Serve(ctx, udp, tcp) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return tcp.Addr().String()
}

func TestServeAnswersOverUDPAndTCP(t *testing.T) {
	t.Parallel()
	addr := serve(t, newServer(t, crowd(200)...))
	for _, network := range []string{"udp", "tcp"} {
		m, _, err := (&dns.Client{Net: network}).ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("web.service.rollcall.", dns.TypeA), addr)
		if err != nil || m.Rcode != 0 || m.Truncated != (network == "udp") || (network == "tcp" && len(m.Answer) != 200) {
			t.Errorf("%s: %v, %v", network, m, err)
		}
	}
	update := new(dns.Msg).SetUpdate("rollcall.")
	if m, _, err := new(dns.Client).ExchangeContext(t.Context(), update, addr); err != nil || m.Rcode != dns.RcodeNotImplemented {
		t.Errorf("an update is answered with %v, %v", m, err)
	}
}

// TestHostileMessages sends random and damaged messages, which must not stop the server, and then asks.
func TestHostileMessages(t *testing.T) {
	t.Parallel()
	addr := serve(t, newServer(t, crowd(3)...))
	c, err := net.Dial("udp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	random := rand.New(rand.NewPCG(1, 2))
	packed, err := new(dns.Msg).SetQuestion("_web._tcp.service.rollcall.", dns.TypeSRV).SetEdns0(512, true).Pack()
	if err != nil {
		t.Fatal(err)
	}
	for range 5_000 {
		message := slices.Clone(packed)
		for range 1 + random.IntN(8) {
			message[random.IntN(len(message))] = byte(random.Uint32())
		}
		if _, err := c.Write(message[:random.IntN(len(message)+1)]); err != nil {
			t.Fatal(err)
		}
	}
	client := dns.Client{Timeout: 5 * time.Second}
	for try := 1; ; try++ { // the socket's queue may be full
		m, _, err := client.ExchangeContext(t.Context(), new(dns.Msg).SetQuestion("web.service.rollcall.", dns.TypeA), addr)
		if err == nil && len(m.Answer) == 3 {
			return
		}
		if try == 5 {
			t.Fatalf("no answer after hostile messages: %v", err)
		}
	}
}

func TestEveryNameGetsAnAnswerThatFits(t *testing.T) {
	t.Parallel()
	s := newServer(t, append(crowd(40), healthy("x", "a.b", "[fd00::1]:80", "blue", "_tcp"))...)
	labels := rapid.SliceOfN(rapid.SampledFrom([]string{"web", "a", "b", "_web", "_tcp", "service", "addr", "blue", "10-0-0-1", "\\255", "*", "x"}), 0, 6)
	rapid.Check(t, func(t *rapid.T) {
		name := dns.Fqdn(strings.Join(append(labels.Draw(t, "labels"), "rollcall"), "."))
		query := new(dns.Msg).SetQuestion(name, rapid.Uint16().Draw(t, "type"))
		if rapid.Bool().Draw(t, "edns") {
			query.SetEdns0(rapid.Uint16().Draw(t, "size"), rapid.Bool().Draw(t, "do"))
		}
		m := s.Answer(query, true)
		packed, err := m.Pack()
		if err != nil || len(packed) > MaxUDP {
			t.Fatalf("%s: %d bytes, %v", name, len(packed), err)
		}
		if len(m.Answer) == 0 && len(m.Ns) == 0 && !m.Truncated && m.Rcode != dns.RcodeRefused {
			t.Fatalf("%s has neither records nor an SOA: %s", name, m)
		}
	})
}

func TestLabelsOfAddresses(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		ip, ok := netip.AddrFromSlice(rapid.SliceOfN(rapid.Byte(), 16, 16).Draw(t, "ip"))
		if rapid.Bool().Draw(t, "v4") {
			ip = netip.AddrFrom4([4]byte(ip.AsSlice()))
		}
		if back, known := unlabel(label(ip)); !ok || (!ip.Is4In6() && (!known || back != ip)) {
			t.Fatalf("%s is %s is %s", ip, label(ip), back)
		}
	})
}
