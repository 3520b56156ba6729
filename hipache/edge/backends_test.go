package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// server is a backend that counts requests and answers with its name or by a handler.
type server struct {
	*httptest.Server
	hits atomic.Int64
}

func named(t testing.TB, name string) *server {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, name) })
}

func status(t testing.TB, code int) *server {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(code)
		_, _ = fmt.Fprintf(w, "says %d", code)
	})
}

func handled(t testing.TB, h http.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	s.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		s.hits.Add(1)
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return s
}

// boundSocket returns a TCP socket on a port of loopback that does not listen, and its port.
func boundSocket(t testing.TB) (fd, port int) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, name.(*syscall.SockaddrInet4).Port
}

// refused returns the URL of a port that refuses connections until the test ends.
func refused(t testing.TB) string {
	t.Helper()
	_, port := boundSocket(t)
	return fmt.Sprintf("http://127.0.0.1:%d", port)
}

// rude is a backend that reads the head of a request and then calls then with the
// connection.
func rude(t testing.TB, then func(*net.TCPConn)) (url string, hits *atomic.Int64) {
	t.Helper()
	hits = new(atomic.Int64)
	return accepts(t, func(c *net.TCPConn) {
		t.Cleanup(func() { _ = c.Close() })
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			hits.Add(1)
			then(c)
		}
	}), hits
}

// accepts calls handle with each connection to the URL that it returns, one at a time.
func accepts(t testing.TB, handle func(*net.TCPConn)) (url string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			handle(c.(*net.TCPConn))
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

func reset(c *net.TCPConn)  { _ = c.SetLinger(0); _ = c.Close() }
func closed(c *net.TCPConn) { _ = c.Close() }
func hang(*net.TCPConn)     {}

// blackHole returns the URL of a port with a full backlog. It neither accepts nor refuses
// connections.
func blackHole(t testing.TB) string {
	t.Helper()
	fd, port := boundSocket(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	for {
		c, err := net.DialTimeout("tcp", addr, 100*time.Millisecond)
		if err != nil {
			return "http://" + addr
		}
		t.Cleanup(func() { _ = c.Close() })
	}
}

// echo is a backend that answers with the body of the request.
func echo(t testing.TB) *server {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			w.WriteHeader(http.StatusTeapot)
		}
		_, _ = w.Write(body)
	})
}
