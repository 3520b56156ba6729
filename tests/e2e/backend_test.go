package e2e

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// mode is how a backend behaves.
type mode string

const (
	answers mode = "answers"
	refuses mode = "refuses"  // nobody listens
	slow502 mode = "slow 502" // answers 502, 1.2 s late
	errors5 mode = "500"      // answers 500
	resets  mode = "resets"   // resets the connection instead of answering
	hangs   mode = "hangs"    // accepts and never answers
)

const lateness = 1200 * time.Millisecond // of a slow 502

// backend is a server that can be told to fail. Every one has a loopback address of its
// own, where the system allows that: while it refuses nobody else gets its port.
type backend struct {
	t    testing.TB
	addr string // host:port

	mu     sync.Mutex
	mode   mode
	since  time.Time // when the mode was set
	server *http.Server
	served map[string]mode        // by the request's X-Id, when asked to keep it
	probes map[string][]time.Time // by the id in the probe's path

	ends context.Context // over when the test is
}

var loopbacks atomic.Int32

// newBackend starts a backend that answers.
func newBackend(t testing.TB) *backend {
	t.Helper()
	n := loopbacks.Add(1)
	return backendAt(t, fmt.Sprintf("127.77.%d.%d:0", n/250, 1+n%250))
}

func backendAt(t testing.TB, addr string) *backend {
	t.Helper()
	ends, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends after the test's own context
	b := &backend{t: t, addr: addr, served: map[string]mode{}, probes: map[string][]time.Time{}, ends: ends}
	if err := b.set(answers); err != nil {
		b.addr = "127.0.0.1:0" // a system with one loopback address
		if err := b.set(answers); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		cancel()
		_ = b.set(refuses)
	})
	return b
}

func (b *backend) port() string {
	_, port, _ := net.SplitHostPort(b.addr)
	return port
}

func (b *backend) url() string { return "http://" + b.addr }

// set changes how the backend behaves. One that refuses has its connections cut, as
// when its process is gone.
func (b *backend) set(m mode) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m == refuses && b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
	if m != refuses && b.server == nil {
		l, err := net.Listen("tcp", b.addr)
		if err != nil {
			return err
		}
		if strings.HasSuffix(b.addr, ":0") { // later it is the same again, and others read it
			b.addr = l.Addr().String()
		}
		b.server = &http.Server{Handler: b}
		go b.server.Serve(l) //nolint:errcheck // it ends when it is closed
	}
	b.mode, b.since = m, time.Now()
	return nil
}

// is sets a mode that must be possible.
func (b *backend) is(m mode) {
	b.t.Helper()
	if err := b.set(m); err != nil {
		b.t.Fatal(err)
	}
}

// now returns the mode, and for how long it has been that.
func (b *backend) now() (mode, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mode, time.Since(b.since)
}

func (b *backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	m := b.mode
	if id := r.Header.Get("X-Id"); id != "" {
		b.served[id] = m
	}
	if r.UserAgent() == "rollcall-probe" {
		id := r.URL.Query().Get("id")
		b.probes[id] = append(b.probes[id], time.Now())
	}
	b.mu.Unlock()
	switch m {
	case answers, refuses: // accepted just before
		_, _ = fmt.Fprintln(w, b.addr)
	case errors5:
		w.WriteHeader(http.StatusInternalServerError)
	case slow502:
		b.sleep(r, lateness)
		w.WriteHeader(http.StatusBadGateway)
	case resets:
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	case hangs:
		b.sleep(r, time.Hour)
	}
}

func (b *backend) sleep(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	case <-b.ends.Done():
	}
}

// answered is what the backend made of a request, and whether it got there at all.
func (b *backend) answered(id string) (m mode, got bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	m, got = b.served[id]
	return m, got
}

// probed returns when an instance was probed here.
func (b *backend) probed(id string) []time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]time.Time{}, b.probes[id]...)
}

// instanceOn describes an instance on a backend, for register; more fields may follow,
// and take the place of those here.
func instanceOn(b *backend, id, host string, fields ...string) url.Values {
	address, port, _ := net.SplitHostPort(b.addr)
	v := form("service", "web", "id", id, "address", address, "port", port, "health", "/health?id="+id)
	if host != "" {
		v.Set("host", host)
	}
	for n := 0; n < len(fields); n += 2 {
		v.Set(fields[n], fields[n+1])
	}
	return v
}
