package probe_test

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"

	"rollcall/app"
	"rollcall/app/outbound"
	"rollcall/app/probe"
)

// hostileAddresses are addresses that a registration may contain to make Rollcall call another
// system. PORT is a port that must not be reached.
var hostileAddresses = []string{
	// this machine
	"127.0.0.1", "127.0.0.3", "127.255.255.254", "127.1", "127.0.1", "127.00.0.1", "127.0.0.01", "0127.0.0.1", "127.0.0.1.",
	"2130706433", "0x7f000001", "0x7f.0.0.1", "0x7f.1", "017700000001", "0177.0.0.1", "0177.1", "127.0.0.1%00", "127。0。0。1", "１２７.0.0.1",
	"localhost", "LOCALHOST", "localhost.", "0", "0.0.0.0", "00.0.0.0", "0.1.2.3",
	"::1", "0:0:0:0:0:0:0:1", "::", "::ffff:127.0.0.1", "::ffff:7f00:1", "0:0:0:0:0:ffff:127.0.0.1", "::127.0.0.1", "::7f00:1", "::ffff:0:127.0.0.1",
	"::1%lo", "::1%25lo", "64:ff9b::127.0.0.1", "64:ff9b:1::7f00:1", "2002:7f00:1::", "2001:0:7f00:1::1", "::ffff:0.0.0.0",
	// link-local addresses and metadata services
	"169.254.169.254", "169.254.0.1", "2852039166", "0xa9fea9fe", "0xa9.0xfe.0xa9.0xfe", "0251.0376.0251.0376", "169.254.43518", "::ffff:169.254.169.254",
	"::ffff:a9fe:a9fe", "64:ff9b::a9fe:a9fe", "2002:a9fe:a9fe::1", "fe80::1", "fe80::1%lo", "fd00:ec2::254", "fd20:ce::254", "100.100.100.200",
	"168.63.129.16", "192.0.0.192",
	// multicast, broadcast and public addresses
	"224.0.0.1", "239.255.255.250", "255.255.255.255", "ff02::1", "8.8.8.8", "2620:fe::fe",
	// two addresses in one
	"10.0.0.1@127.0.0.1", "user:pw@127.0.0.1", "10.0.0.1#@127.0.0.1", "10.0.0.1/127.0.0.1", `10.0.0.1\@127.0.0.1`, "10.0.0.1 127.0.0.1",
	"10.0.0.1\r\nHost: 127.0.0.1", "10.0.0.1\t", "10.0.0.1%0d%0a", "10.0.0.1?", "http://127.0.0.1", "[127.0.0.1]", "127.0.0.1:PORT:PORT", "10.0.0.1,127.0.0.1",
}

// hostileHealth are health URLs of the same kind for an instance at 10.0.0.1.
var hostileHealth = []string{
	"http://127.0.0.1:PORT/", "HTTP://127.0.0.1:PORT/", "http://127.1:PORT/", "http://2130706433:PORT/", "http://0x7f.1:PORT/", "http://0177.1:PORT/",
	"http://localhost:PORT/", "http://[::1]:PORT/", "http://[::ffff:127.0.0.1]:PORT/", "http://[::1%25lo]:PORT/", "http://169.254.169.254/latest/meta-data/",
	"http://10.0.0.1@127.0.0.1:PORT/", "http://10.0.0.1:80@127.0.0.1:PORT/", "http://user:pw@10.0.0.1/", "http://10.0.0.1#@127.0.0.1:PORT/",
	`http://10.0.0.1\@127.0.0.1:PORT/`, "http://10.0.0.1%00@127.0.0.1:PORT/", "http://10.0.0.1%2f@127.0.0.1:PORT/", "http://10.0.0.1:80/#x", "http://１０.0.0.1/",
	"http:/127.0.0.1:PORT/", "http:127.0.0.1:PORT", "http:///127.0.0.1:PORT/", "http://10.0.0.1 127.0.0.1:PORT/", "http://10.0.0.1:80/\r\nHost: 127.0.0.1",
	"https://127.0.0.1:PORT/", "https://10.0.0.1@127.0.0.1:PORT/", "https:127.0.0.1:PORT/", "https:/127.0.0.1:PORT/x#", "https::PORT/", "ftp://10.0.0.1/", "file:///etc/passwd", "gopher://127.0.0.1:PORT/_x", "unix:///run/docker.sock", "dict://127.0.0.1:PORT/",
	"tcp:127.0.0.1:PORT", "tcp://127.0.0.1:PORT", "grpc:127.0.0.1:PORT", "redis://127.0.0.1:PORT", "memcached:127.0.0.1:PORT", ":127.0.0.1:PORT/", ":PORT@127.0.0.1/",
	":080/", ":0x50/", ":70000/", "/\r\nHost: 127.0.0.1", "/ HTTP/1.1\r\nX: y", "/a b", "/\x00", "/#x", "exec:true", "|true",
}

// allowed permits private networks and one address of this machine.
func allowed(a netip.Addr) bool { return a.IsPrivate() || a == netip.MustParseAddr("127.0.0.2") }

var rules = app.Rules{Allow: outbound.Permitted(allowed)}

// trap returns a port of this machine. A connection to it fails the test.
func trap(t *testing.T) string {
	t.Helper()
	sprung := func(c net.Conn) { t.Errorf("%s was called", c.LocalAddr()) }
	_, port, _ := net.SplitHostPort(listen(t, sprung))
	if l, err := net.Listen("tcp", "[::1]:"+port); err == nil { // the port may be taken, or IPv6 missing
		l.Close()
		serveOn(t, "[::1]:"+port, sprung)
	}
	return port
}

func TestHostileAddressesAreNotCalled(t *testing.T) {
	t.Parallel()
	open := trap(t)
	const closed = "47" // nobody listens there, and no address here has a 47 in it
	p := probe.New(probe.Options{Allow: allowed})
	// try returns the error of a registration, or the result of its probe.
	try := func(address, health, port string) string {
		number, _ := strconv.Atoi(port)
		set := func(s string) string { return strings.ReplaceAll(s, "PORT", port) }
		i, _, err := app.Registration{
			Service: "web", Address: set(address), Port: number, Health: set(health), Rules: rules,
		}.Instance()
		if err != nil {
			return strings.ReplaceAll(err.Error(), port, "PORT")
		}
		i.Check.Timeout = ample
		r := run(t, p, i)
		if r.Code != app.Forbidden {
			t.Errorf("address %q, health %q: %s", address, health, r.Reason())
		}
		return r.Reason()
	}
	tried := 0
	check := func(address, health string) {
		tried++
		if is, would := try(address, health, open), try(address, health, closed); is != would {
			t.Errorf("address %q, health %q: %q, and if nobody listened %q", address, health, is, would)
		}
	}
	for _, address := range hostileAddresses {
		check(address, "tcp")
	}
	for _, health := range hostileHealth {
		check("10.0.0.1", health)
	}
	t.Logf("%d tried", tried)
}

func TestAnAddressThatWouldNotBeCalledIsNotRegistered(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"127.0.0.1", "::1", "169.254.169.254", "8.8.8.8", "::ffff:127.0.0.1", "64:ff9b::10.0.0.1"} {
		_, _, err := app.Registration{Service: "web", Caller: address, Port: 80, Health: "none", Rules: rules}.Instance()
		if err == nil || !strings.Contains(err.Error(), "must not be called") {
			t.Errorf("from %s: %v", address, err)
		}
	}
	for _, address := range []string{"10.0.0.1", "127.0.0.2", "::ffff:10.0.0.1", "fd00::1", "some.name"} {
		if _, _, err := (app.Registration{Service: "web", Address: address, Port: 80, Rules: rules}).Instance(); err != nil {
			t.Errorf("at %s: %v", address, err)
		}
	}
	for _, address := range []string{"127.0.0.1", "::1", "64:ff9b::8.8.8.8"} { // with every address permitted that is not always refused
		if _, _, err := (app.Registration{Service: "web", Address: address, Port: 80, Rules: app.Rules{Allow: outbound.Permitted(nil)}}).Instance(); err != nil {
			t.Errorf("at %s: %v", address, err)
		}
	}
}

// TestANameServerThatChangesItsAnswerDoesNotHelp registers a name that leads to a backend, and then
// lets the name lead to forbidden addresses.
func TestANameServerThatChangesItsAnswerDoesNotHelp(t *testing.T) {
	t.Parallel()
	_, port, _ := net.SplitHostPort(serveOn(t, "127.0.0.2:0", silent))
	number, _ := strconv.Atoi(port)
	serveOn(t, "127.0.0.1:"+port, func(c net.Conn) { t.Errorf("%s was called", c.LocalAddr()) })
	var now atomic.Value
	p := probe.New(probe.Options{Allow: allowed})
	p.SetNameServer(nameServer(t, func(query []byte) []byte { return dnsAnswer(query, 0, now.Load().(netip.Addr)) }))
	i, _, err := app.Registration{Service: "web", Address: "web.rollcall.test", Port: number, Rules: rules}.Instance()
	if err != nil {
		t.Fatal(err)
	}
	i.Check.Timeout = ample
	for _, c := range []struct {
		leads string
		want  app.Result
	}{
		{"127.0.0.2", pass(app.OK)},
		{"127.0.0.1", fail(app.Forbidden, "127.0.0.1")},
		{"0.0.0.0", fail(app.Forbidden, "0.0.0.0")},
		{"169.254.169.254", fail(app.Forbidden, "169.254.169.254")},
		{"8.8.8.8", fail(app.Forbidden, "8.8.8.8")},
		{"127.0.0.2", pass(app.OK)},
	} {
		now.Store(netip.MustParseAddr(c.leads))
		same(t, run(t, p, i), c.want)
	}
}

func TestARedirectIsAnAnswerAndNotFollowed(t *testing.T) {
	t.Parallel()
	to := trap(t)
	p := probe.New(probe.Options{Allow: allowed})
	for _, status := range []int{301, 302, 303, 307, 308} {
		address := serveOn(t, "127.0.0.2:0", answers(fmt.Sprintf("HTTP/1.1 %d %s\r\nLocation: http://127.0.0.1:%s/\r\nContent-Length: 0\r\n\r\n",
			status, http.StatusText(status), to)))
		i := instance(app.HTTP, address, ample)
		same(t, run(t, p, i), pass(app.Code(status)))
	}
}

func TestHostileInputsAreManyAndDistinct(t *testing.T) {
	t.Parallel()
	all := slices.Concat(hostileAddresses, hostileHealth)
	slices.Sort(all)
	if got := len(slices.Compact(all)); got < 60 || got != len(hostileAddresses)+len(hostileHealth) {
		t.Errorf("%d of %d", got, len(hostileAddresses)+len(hostileHealth))
	}
}
