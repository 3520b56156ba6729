package probe_test

import (
	"bufio"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"go.uber.org/goleak"

	"rollcall/app"
	"rollcall/app/probe"
)

func TestMain(m *testing.M) {
	slog.SetDefault(slog.New(slog.DiscardHandler)) // net/http logs each unknown frame of a server
	goleak.VerifyTestMain(m)
}

const (
	ample = 20 * time.Second       // a timeout that does not expire
	brief = 250 * time.Millisecond // a timeout that expires
	slack = 10 * time.Second       // how much later than its timeout a probe may return on a busy machine
)

// listen accepts connections on loopback until the test ends, and passes each to handle in a
// goroutine. It returns the address.
func listen(t testing.TB, handle func(net.Conn)) string {
	t.Helper()
	return serveOn(t, "127.0.0.1:0", handle)
}

func serveOn(t testing.TB, address string, handle func(net.Conn)) string {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	stopped := make(chan struct{})
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				handle(c)
			})
			wg.Go(func() { // the end of the test ends handle
				<-stopped
				c.Close()
			})
		}
	})
	t.Cleanup(func() {
		close(stopped)
		l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// answers returns a handler that reads an HTTP request, answers and closes.
func answers(answer string) func(net.Conn) {
	return afterRequest(func(c net.Conn) { _, _ = c.Write([]byte(answer)) })
}

func afterRequest(handle func(net.Conn)) func(net.Conn) {
	return func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			handle(c)
		}
	}
}

// repeats returns a handler that writes first, and then more until the connection ends.
func repeats(first, more string) func(net.Conn) {
	more = strings.Repeat(more, 1+1000/len(more))
	return func(c net.Conn) {
		for _, err := c.Write([]byte(first)); err == nil; _, err = c.Write([]byte(more)) {
		}
	}
}

// silent reads until the connection ends.
func silent(c net.Conn) {
	for b := make([]byte, 512); ; {
		if _, err := c.Read(b); err != nil {
			return
		}
	}
}

func resets(c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0) }

func instance(kind app.Kind, address string, timeout time.Duration) app.Instance {
	i := app.Instance{ID: "a1", Service: "web", Address: address, Check: app.DefaultCheck(kind)}
	i.Check.Timeout = timeout
	return i
}

// run probes the instance once and checks the properties of every result.
func run(t *testing.T, p *probe.Prober, i app.Instance) app.Result {
	t.Helper()
	before := time.Now()
	r := p.Probe(t.Context(), i)
	if took := time.Since(before); took > i.Check.Timeout+slack {
		t.Errorf("probe took %s, its timeout is %s", took, i.Check.Timeout)
	}
	if r.At.Before(before) || r.Latency <= 0 || r.Latency > time.Since(before) {
		t.Errorf("probe at %s says it began at %s and took %s", before, r.At, r.Latency)
	}
	sane(t, r)
	return r
}

func sane(t *testing.T, r app.Result) {
	t.Helper()
	if len(r.Detail) > 200 || strings.ContainsFunc(r.Detail, func(c rune) bool { return c < ' ' || c > '~' }) {
		t.Errorf("detail is not a short printable line: %q", r.Detail)
	}
	if strings.HasPrefix(r.Code.String(), "code ") {
		t.Errorf("unknown %s", r.Code)
	}
}

// expect probes the instance once with a default Prober and compares the result.
func expect(t *testing.T, i app.Instance, want app.Result) {
	t.Helper()
	same(t, run(t, probe.New(probe.Options{}), i), want)
}

func same(t *testing.T, got, want app.Result) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(app.Result{}, "At", "Latency")); diff != "" {
		t.Errorf("result (-want +got):\n%s", diff)
	}
}

func pass(code app.Code) app.Result { return app.Result{Passed: true, Code: code} }

func fail(code app.Code, detail string) app.Result { return app.Result{Code: code, Detail: detail} }
