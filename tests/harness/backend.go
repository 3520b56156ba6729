package harness

import (
	"context"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Mode is the behaviour of a backend.
type Mode string

// The modes.
const (
	Answers  Mode = "answers"
	Refuses  Mode = "refuses"  // has no listener
	Slow502  Mode = "slow 502" // answers 502 after 1.2 s
	Errors5  Mode = "500"      // answers 500
	Resets   Mode = "resets"   // resets the connection instead of answering
	Hangs    Mode = "hangs"    // accepts and never answers
	Endless  Mode = "endless"  // answers 500 with a body that does not end
	Trickles Mode = "trickles" // answers with a byte of the body every 100 ms
)

const lateness = 1200 * time.Millisecond // of Slow502

// Backend is a server whose failures a test controls. Each has a loopback address of its own, where the system allows
// that, so that no other process gets its port while it refuses.
type Backend struct {
	Addr string // host:port

	t      testing.TB
	mu     sync.Mutex
	mode   Mode
	since  time.Time // when the mode was set
	server *http.Server
	served map[string]Visit   // by the X-Id of the request
	probes map[string][]Visit // by the id in the path of the probe

	ends context.Context // ends with the test
}

// Visit is the handling of a request: when, and in which mode.
type Visit struct {
	At   time.Time
	Mode Mode
}

var loopbacks atomic.Int32

// NewBackend starts a backend that answers.
func NewBackend(t testing.TB) *Backend {
	t.Helper()
	n := loopbacks.Add(1)
	return BackendAt(t, fmt.Sprintf("127.77.%d.%d:0", n/250, 1+n%250))
}

// BackendAt starts a backend at an address. It answers.
func BackendAt(t testing.TB, addr string) *Backend {
	t.Helper()
	ends, cancel := context.WithCancel(context.Background()) //nolint:usetesting // ends after the test's own context
	b := &Backend{t: t, Addr: addr, served: map[string]Visit{}, probes: map[string][]Visit{}, ends: ends}
	if err := b.Set(Answers); err != nil {
		b.Addr = "127.0.0.1:0" // a system with one loopback address
		if err := b.Set(Answers); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		cancel()
		_ = b.Set(Refuses)
	})
	return b
}

// Port returns the port of its address.
func (b *Backend) Port() string {
	_, port, _ := net.SplitHostPort(b.Addr)
	return port
}

// URL returns the backend in the lists of the proxy.
func (b *Backend) URL() string { return "http://" + b.Addr }

// Set changes the mode. Refuses also closes the connections, like the end of a process.
func (b *Backend) Set(m Mode) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if m == Refuses && b.server != nil {
		_ = b.server.Close()
		b.server = nil
	}
	if m != Refuses && b.server == nil {
		l, err := net.Listen("tcp", b.Addr)
		if err != nil {
			return err
		}
		if strings.HasSuffix(b.Addr, ":0") { // it stays the same from now on, and other goroutines read it
			b.Addr = l.Addr().String()
		}
		b.server = &http.Server{Handler: b}
		go b.server.Serve(l) //nolint:errcheck // Close ends it
	}
	b.mode, b.since = m, time.Now()
	return nil
}

// Is sets the mode, and fails the test if that is not possible.
func (b *Backend) Is(m Mode) {
	b.t.Helper()
	if err := b.Set(m); err != nil {
		b.t.Fatal(err)
	}
}

// Now returns the mode, and the time since it was set.
func (b *Backend) Now() (Mode, time.Duration) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.mode, time.Since(b.since)
}

// ServeHTTP answers in the current mode.
func (b *Backend) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	b.mu.Lock()
	m := b.mode
	if id := r.Header.Get("X-Id"); id != "" {
		b.served[id] = Visit{time.Now(), m}
	}
	if r.UserAgent() == "rollcall-probe" {
		id := r.URL.Query().Get("id")
		b.probes[id] = append(b.probes[id], Visit{time.Now(), m})
	}
	b.mu.Unlock()
	switch m {
	case Answers, Refuses: // accepted before the mode changed
		_, _ = fmt.Fprintln(w, b.Addr)
	case Errors5:
		w.WriteHeader(http.StatusInternalServerError)
	case Slow502:
		b.sleep(r, lateness)
		w.WriteHeader(http.StatusBadGateway)
	case Resets:
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		_ = c.(*net.TCPConn).SetLinger(0)
		_ = c.Close()
	case Hangs:
		b.sleep(r, time.Hour)
	case Endless:
		w.WriteHeader(http.StatusInternalServerError)
		b.pour(w, r, make([]byte, 4096), 10*time.Millisecond)
	case Trickles:
		w.WriteHeader(http.StatusOK)
		b.pour(w, r, []byte("."), 100*time.Millisecond)
	}
}

// pour sends a piece of a body repeatedly.
func (b *Backend) pour(w http.ResponseWriter, r *http.Request, piece []byte, every time.Duration) {
	for r.Context().Err() == nil && b.ends.Err() == nil {
		_, err := w.Write(piece)
		if err != nil || http.NewResponseController(w).Flush() != nil {
			return
		}
		b.sleep(r, every)
	}
}

func (b *Backend) sleep(r *http.Request, d time.Duration) {
	select {
	case <-time.After(d):
	case <-r.Context().Done():
	case <-b.ends.Done():
	}
}

// Answered returns the visit of the request with an X-Id. got is false if the request did not arrive.
func (b *Backend) Answered(id string) (v Visit, got bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	v, got = b.served[id]
	return v, got
}

// Served returns the visits by X-Id.
func (b *Backend) Served() map[string]Visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return maps.Clone(b.served)
}

// Probed returns the times of the probes of an instance.
func (b *Backend) Probed(id string) []time.Time { return b.Probes()[id] }

// Probes returns the times of the probes of each instance, by id.
func (b *Backend) Probes() map[string][]time.Time {
	b.mu.Lock()
	defer b.mu.Unlock()
	all := make(map[string][]time.Time, len(b.probes))
	for id, visits := range b.probes {
		for _, v := range visits {
			all[id] = append(all[id], v.At)
		}
	}
	return all
}

// Probing returns the probes of an instance, oldest first.
func (b *Backend) Probing(id string) []Visit {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.probes[id]) // the backend appends to it
}

// Registration returns the registration of an instance of the service web on a backend. fields are further names and
// values; they replace the defaults.
func Registration(b *Backend, id, host string, fields ...string) url.Values {
	address, port, _ := net.SplitHostPort(b.Addr)
	v := url.Values{
		"service": {"web"}, "id": {id}, "address": {address}, "port": {port}, "health": {"/health?id=" + id},
	}
	if host != "" {
		v.Set("host", host)
	}
	for n := 0; n < len(fields); n += 2 {
		v.Set(fields[n], fields[n+1])
	}
	return v
}
