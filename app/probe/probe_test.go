package probe_test

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
)

var kinds = []app.Kind{app.HTTP, app.TCP, app.GRPC, app.Memcached, app.Redis}

// talking are the kinds whose server must answer.
var talking = []app.Kind{app.HTTP, app.GRPC, app.Memcached, app.Redis}

func TestTCPPassesOnceConnected(t *testing.T) {
	t.Parallel()
	expect(t, instance(app.TCP, listen(t, silent), ample), pass(app.OK))
}

func TestProbeCallsTheCheckedPort(t *testing.T) {
	t.Parallel()
	checked := listen(t, answers("HTTP/1.1 204 No Content\r\n\r\n"))
	i := instance(app.HTTP, listen(t, resets), ample)
	i.Check.Port = int(netip.MustParseAddrPort(checked).Port())
	expect(t, i, pass(204))
}

func TestEveryKindReportsTheFailureOfTheConnection(t *testing.T) {
	t.Parallel()
	noAnswer := fail(app.Stalled, "connected, but no whole answer")
	for _, kind := range kinds {
		t.Run(string(kind)+"/refused", func(t *testing.T) {
			t.Parallel()
			expect(t, instance(kind, closedPort(t), ample), fail(app.Refused, ""))
		})
		t.Run(string(kind)+"/full backlog", func(t *testing.T) {
			t.Parallel()
			expect(t, instance(kind, fullBacklog(t), brief), fail(app.TimedOut, "connecting"))
		})
		t.Run(string(kind)+"/forbidden", func(t *testing.T) {
			t.Parallel()
			expect(t, instance(kind, "169.254.169.254:80", ample), fail(app.Forbidden, "169.254.169.254"))
		})
	}
	for _, kind := range talking {
		t.Run(string(kind)+"/hangs", func(t *testing.T) {
			t.Parallel()
			expect(t, instance(kind, listen(t, silent), brief), noAnswer)
		})
		t.Run(string(kind)+"/never accepted", func(t *testing.T) {
			t.Parallel()
			expect(t, instance(kind, unaccepting(t), brief), noAnswer)
		})
		t.Run(string(kind)+"/closed", func(t *testing.T) {
			t.Parallel()
			handle := func(c net.Conn) { // reads first, because closing with unread bytes would be a reset
				_, _ = c.Read(make([]byte, 4096))
				_ = c.(*net.TCPConn).CloseWrite()
				silent(c)
			}
			expect(t, instance(kind, listen(t, handle), ample), fail(app.ClosedEarly, ""))
		})
		t.Run(string(kind)+"/reset", func(t *testing.T) {
			t.Parallel()
			handle := func(c net.Conn) {
				_, _ = c.Read(make([]byte, 4096))
				resets(c)
			}
			expect(t, instance(kind, listen(t, handle), ample), fail(app.Reset, ""))
		})
	}
}

func TestProbeEndsWithItsContext(t *testing.T) {
	t.Parallel()
	for _, kind := range talking {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			address := listen(t, func(c net.Conn) {
				_, _ = c.Read(make([]byte, 1))
				cancel()
				silent(c)
			})
			began := time.Now()
			same(t, probe.New(probe.Options{}).Probe(ctx, instance(kind, address, time.Hour)), fail(app.Inconclusive, "interrupted"))
			if took := time.Since(began); took > slack {
				t.Errorf("probe ended %s after it began", took)
			}
		})
	}
}

func TestEveryProbeIsANewConnection(t *testing.T) {
	t.Parallel()
	for _, kind := range kinds {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			accepted := make(chan struct{}, 6) // memcached is probed twice
			address := listen(t, func(c net.Conn) { accepted <- struct{}{} })
			p := probe.New(probe.Options{})
			for range 3 {
				run(t, p, instance(kind, address, ample))
				<-accepted
			}
		})
	}
}

func TestResultCarriesTheInjectedTime(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	p := probe.New(probe.Options{Now: func() time.Time { return at }})
	r := p.Probe(t.Context(), instance(app.TCP, listen(t, silent), ample))
	if !r.At.Equal(at) || r.Latency <= 0 {
		t.Errorf("probe at %s says %s and took %s", at, r.At, r.Latency)
	}
}

func TestProbeNeverPanics(t *testing.T) {
	t.Parallel()
	r := run(t, probe.New(probe.Options{}), instance(app.HTTP, "no address", ample))
	if r.Code != app.BadAnswer && r.Code != app.Unreachable {
		t.Errorf("probing an address that is none: %s", r.Reason())
	}
	i := instance(app.TCP, "no address", ample)
	i.Check.Port = 80 // makes app.Instance.Target panic
	if r = run(t, probe.New(probe.Options{}), i); !strings.Contains(r.Detail, "panicked") {
		t.Errorf("probing an instance that panics: %s", r.Reason())
	}
	for _, kind := range []app.Kind{"smtp", ""} { // of a newer version
		expect(t, instance(kind, "127.0.0.1:25", ample), fail(app.NotUnderstood, fmt.Sprintf("kind %q", kind)))
	}
}

func TestProbeOverIPv6(t *testing.T) {
	t.Parallel()
	if l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "[::1]:0"); err != nil {
		t.Skip("no IPv6 here: ", err)
	} else {
		l.Close()
	}
	address := serveOn(t, "[::1]:0", answers("HTTP/1.1 200 OK\r\n\r\n"))
	expect(t, instance(app.HTTP, address, ample), pass(200))
	expect(t, instance(app.TCP, address, ample), pass(app.OK))
}

// closedPort returns an address of loopback that refuses connections. The socket stays bound, so
// that no other test gets the port.
func closedPort(t *testing.T) string {
	t.Helper()
	return boundPort(t, func(int) error { return nil })
}

// unaccepting returns an address whose connections the kernel accepts and no program.
func unaccepting(t *testing.T) string {
	t.Helper()
	return boundPort(t, func(fd int) error { return syscall.Listen(fd, 128) })
}

// fullBacklog returns an address that neither accepts nor refuses connections.
func fullBacklog(t *testing.T) string {
	t.Helper()
	address := boundPort(t, func(fd int) error { return syscall.Listen(fd, 0) })
	d := net.Dialer{Timeout: brief}
	for range 16 {
		c, err := d.DialContext(t.Context(), "tcp", address)
		if err != nil {
			return address
		}
		t.Cleanup(func() { c.Close() })
	}
	t.Fatal("a backlog of 0 took 16 connections")
	return ""
}

func boundPort(t *testing.T, prepare func(fd int) error) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := prepare(fd); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	own := name.(*syscall.SockaddrInet4)
	return netip.AddrPortFrom(netip.AddrFrom4(own.Addr), uint16(own.Port)).String()
}
