package edge

import (
	"context"
	"errors"
	"net"
	"net/http"
	"os"
	"syscall"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// A single-threaded server answers a probe only after the idle connection is closed.
func TestAnIdleConnectionLeavesTimeForAProbe(t *testing.T) {
	t.Parallel()
	if idle, probe := newTransport(Options{}).IdleConnTimeout, app.DefaultCheck(app.HTTP).Timeout; idle > probe/2 {
		t.Errorf("connections may be idle for %s, want at most half of a probe's timeout of %s", idle, probe)
	}
}

// Go exempts loopback from http_proxy, so a test with backends would always pass.
func TestBackendsAreDialedDirectly(t *testing.T) {
	t.Setenv("http_proxy", "http://127.0.0.1:1")
	keeping := newTransport(Options{})
	for name, transport := range map[string]*http.Transport{"requests": keeping, "upgrades": newTunnels(Options{}, keeping)} {
		if transport.Proxy != nil {
			t.Errorf("%s may go through a proxy", name)
		}
	}
}

func TestMarkOutlivesTheRequest(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	r.RPush(t.Context(), keys.Frontend("a.test"), "id", "http://10.0.0.1:80", "http://10.0.0.2:80")
	e, err := New(Options{Redis: r, Keys: keys, RedisTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	f, err := e.directory.lookUp("a.test")
	if err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(t.Context())
	leave()
	if !e.directory.mark(gone, f, f.Backends[0]) || !r.SIsMember(t.Context(), keys.Dead("a.test"), 0).Val() {
		t.Error("the backend is not marked")
	}
}

func TestWhichConnectionErrorsMark(t *testing.T) {
	t.Parallel()
	syscallErr := func(e syscall.Errno) error {
		return &net.OpError{Op: "dial", Err: os.NewSyscallError("connect", e)}
	}
	for _, c := range []struct {
		err  error
		want bool
	}{
		{syscallErr(syscall.ECONNREFUSED), true},
		{syscallErr(syscall.EHOSTUNREACH), true},
		{syscallErr(syscall.ETIMEDOUT), true},
		{&net.OpError{Op: "dial", Err: os.ErrDeadlineExceeded}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsNotFound: true}}, true},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTimeout: true}}, false},
		{&net.OpError{Op: "dial", Err: &net.DNSError{IsTemporary: true}}, false},
		{syscallErr(syscall.EADDRNOTAVAIL), false},
		{syscallErr(syscall.EMFILE), false},
		{syscallErr(syscall.ENETUNREACH), false},
		{context.Canceled, false},
		{errors.New("anything"), false},
	} {
		if got := (&dialError{c.err}).backendFailed(); got != c.want {
			t.Errorf("%v: got %t, want %t", c.err, got, c.want)
		}
	}
}
