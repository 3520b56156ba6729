package probe_test

import (
	"net"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
)

func TestSomeAddressesAreNeverCalled(t *testing.T) {
	t.Parallel()
	p := probe.New(probe.Options{Allow: func(netip.Addr) bool { return true }})
	for address, detail := range map[string]string{
		"0.0.0.0:80":                    "0.0.0.0",
		"0.1.2.3:80":                    "0.1.2.3",
		"169.254.0.1:80":                "169.254.0.1",
		"169.254.169.254:80":            "169.254.169.254",
		"224.0.0.1:80":                  "224.0.0.1",
		"255.255.255.255:80":            "255.255.255.255",
		"100.100.100.200:80":            "100.100.100.200",
		"[::]:80":                       "::",
		"[::ffff:0.0.0.0]:80":           "0.0.0.0",
		"[::ffff:169.254.169.254]:80":   "169.254.169.254",
		"[::ffff:a9fe:a9fe]:80":         "169.254.169.254",
		"[fe80::1]:80":                  "fe80::1",
		"[fe80::1%lo]:80":               "fe80::1",
		"[ff02::1]:80":                  "ff02::1",
		"[fd00:ec2::254]:80":            "fd00:ec2::254",
		"[64:ff9b::169.254.169.254]:80": "64:ff9b::a9fe:a9fe",
		"[2002:a9fe:a9fe::1]:80":        "2002:a9fe:a9fe::1",
	} {
		t.Run(address, func(t *testing.T) {
			t.Parallel()
			same(t, run(t, p, instance(app.TCP, address, ample)), fail(app.Forbidden, detail))
		})
	}
}

func TestAllowIsAskedAboutTheAddressConnectedTo(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	for name, target := range map[string]string{
		"IPv4":         address.String(),
		"IPv4 as IPv6": netip.AddrPortFrom(netip.AddrFrom16(address.Addr().As16()), address.Port()).String(),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked := make(chan netip.Addr, 2)
			answer := true
			p := probe.New(probe.Options{Allow: func(a netip.Addr) bool { asked <- a; return answer }})
			same(t, run(t, p, instance(app.TCP, target, ample)), pass(app.OK))
			answer = false
			same(t, run(t, p, instance(app.TCP, target, ample)), fail(app.Forbidden, "127.0.0.1"))
			for range 2 {
				if got := <-asked; got != address.Addr() {
					t.Errorf("Allow was asked about %s, want %s", got, address.Addr())
				}
			}
		})
	}
}

func TestNames(t *testing.T) {
	t.Parallel()
	address := netip.MustParseAddrPort(listen(t, silent))
	for name, c := range map[string]struct {
		rcode byte
		ip    netip.Addr
		want  app.Result
	}{
		"found":      {noError, address.Addr(), pass(app.OK)},
		"rebound":    {noError, netip.MustParseAddr("169.254.169.254"), fail(app.Forbidden, "169.254.169.254")},
		"not found":  {noSuchName, netip.Addr{}, fail(app.Unresolvable, "")},
		"no address": {noError, netip.Addr{}, fail(app.Unresolvable, "")},
		"failure":    {serverFailure, netip.Addr{}, fail(app.NameServerFailed, "the name server fails")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe.New(probe.Options{})
			p.SetNameServer(nameServer(t, func(query []byte) []byte { return dnsAnswer(query, c.rcode, c.ip) }))
			i := instance(app.TCP, "web.rollcall.test:80", ample)
			i.Check.Port = int(address.Port())
			same(t, run(t, p, i), c.want)
		})
	}
	t.Run("silence", func(t *testing.T) {
		t.Parallel()
		p := probe.New(probe.Options{})
		p.SetNameServer(nameServer(t, func([]byte) []byte { return nil }))
		i := instance(app.TCP, "web.rollcall.test:80", brief)
		same(t, run(t, p, i), fail(app.NameServerFailed, "the name server does not answer"))
	})
}

func TestTheNextAddressOfANameIsTriedInTime(t *testing.T) {
	t.Parallel()
	full := netip.MustParseAddrPort(fullBacklog(t))
	drops, port := full.Addr(), strconv.Itoa(int(full.Port()))
	serveOn(t, "127.0.0.2:"+port, answers("HTTP/1.1 200 OK\r\n\r\n"))
	alive, refuses := netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.4")
	forbidden := netip.MustParseAddr("169.254.169.254")
	for name, c := range map[string]struct {
		ips     []netip.Addr
		timeout time.Duration
		want    app.Result
	}{
		"the first drops packets":     {[]netip.Addr{drops, alive}, ample, pass(200)},
		"so do more":                  {[]netip.Addr{drops, drops, drops, alive}, ample, pass(200)},
		"the first refuses":           {[]netip.Addr{refuses, alive}, ample, pass(200)},
		"the first is forbidden":      {[]netip.Addr{forbidden, alive}, ample, pass(200)},
		"the first answers":           {[]netip.Addr{alive, drops}, ample, pass(200)},
		"all drop packets":            {[]netip.Addr{drops, drops}, brief, fail(app.TimedOut, "connecting")},
		"all refuse":                  {[]netip.Addr{refuses, refuses}, ample, fail(app.Refused, "")},
		"one drops, the next refuses": {[]netip.Addr{drops, refuses}, brief, fail(app.Refused, "")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := probe.New(probe.Options{})
			p.SetNameServer(nameServer(t, func(query []byte) []byte { return dnsAnswer(query, 0, c.ips...) }))
			r := run(t, p, instance(app.HTTP, "web.rollcall.test:"+port, c.timeout))
			same(t, r, c.want)
			if c.want.Passed && r.Latency > ample/4 {
				t.Errorf("it took %s: the first address had a share of its own", r.Latency)
			}
		})
	}
}

// nameServer answers each query with answer, or ignores it if that is nil. It returns its address.
func nameServer(t *testing.T, answer func(query []byte) []byte) string {
	t.Helper()
	pc, err := new(net.ListenConfig).ListenPacket(t.Context(), "udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for b := make([]byte, 1500); ; {
			n, from, err := pc.ReadFrom(b)
			if err != nil {
				return
			}
			if a := answer(b[:n]); a != nil {
				_, _ = pc.WriteTo(a, from)
			}
		}
	}()
	t.Cleanup(func() { pc.Close(); <-done })
	return pc.LocalAddr().String()
}

// dnsAnswer answers a query (RFC 1035, section 4.1) with a code and, if the query is for IPv4
// addresses, with the IPv4 addresses of ips.
func dnsAnswer(query []byte, rcode byte, ips ...netip.Addr) []byte {
	end := 12 // of the header, then of the question: labels, 0, type, class
	for query[end] != 0 {
		end += 1 + int(query[end])
	}
	end += 5
	a := append([]byte{}, query[:end]...)
	a[2], a[3] = 0x81, 0x80|rcode  // an answer, recursion available
	copy(a[6:12], make([]byte, 6)) // no records so far
	asksIPv4 := a[end-3] == 1
	for _, ip := range ips {
		if !asksIPv4 || !ip.Is4() {
			continue
		}
		a[7]++
		a = append(a, 0xc0, 12, 0, 1, 0, 1, 0, 0, 0, 1, 0, 4) // the same name, A, IN, 1 s, 4 bytes
		a = append(a, ip.AsSlice()...)
	}
	return a
}
