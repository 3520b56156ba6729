package edge_test

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/hipache/edge"
)

// scripted returns the URL of a backend that answers each request with the given bytes and closes the
// connection.
func scripted(t testing.TB, answer func() string) string {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, _ *http.Request) {
		if c, _, err := http.NewResponseController(w).Hijack(); err == nil {
			_, _ = io.WriteString(c, answer())
			_ = c.Close()
		}
	}).URL
}

func TestAnswersThatAreNotHTTP(t *testing.T) {
	t.Parallel()
	const upgrade = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
	for name, c := range map[string]struct {
		answer, ask string
		want        int
	}{
		"000":                          {"HTTP/1.1 000 No\r\n\r\n", "", 502},
		"001":                          {"HTTP/1.1 001 No\r\nContent-Length: 0\r\n\r\n", "", 502},
		"099":                          {"HTTP/1.1 099 No\r\nContent-Length: 2\r\n\r\nxx", "", 502},
		"99":                           {"HTTP/1.1 99 No\r\n\r\n", "", 502},
		"-10":                          {"HTTP/1.1 -10 No\r\n\r\n", "", 502},
		"1000":                         {"HTTP/1.1 1000 No\r\n\r\n", "", 502},
		"nothing":                      {"", "", 502},
		"another protocol":             {"220 ESMTP\r\n", "", 502},
		"100 and no more":              {"HTTP/1.1 100 Continue\r\n\r\n", "", 502},
		"101 unasked":                  {"HTTP/1.1 101 Switching\r\n\r\n", "", 502},
		"101 unasked, with a protocol": {"HTTP/1.1 101 Switching\r\n" + upgrade + "\r\n", "", 502},
		"101 without a protocol":       {"HTTP/1.1 101 Switching\r\n\r\n", upgrade, 502},
		"101 with another protocol":    {"HTTP/1.1 101 Switching\r\nConnection: Upgrade\r\nUpgrade: other\r\n\r\n", upgrade, 502},
		"999":                          {"HTTP/1.1 999 Denied\r\nContent-Length: 0\r\n\r\n", "", 999},
		"199, then 200":                {"HTTP/1.1 199 Wait\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "", 200},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := newJournal(t)
			s := newStage(t, func(o *edge.Options) { o.Log = slog.New(log) })
			s.frontend("a.test", scripted(t, func() string { return c.answer }))
			_, r := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n" + c.ask + "\r\n")
			res, err := http.ReadResponse(r, nil)
			for err == nil && res.StatusCode < 200 { // interim answers are passed on
				res, err = http.ReadResponse(r, nil)
			}
			if err != nil || res.StatusCode != c.want {
				t.Fatalf("got %+v, %v; want %d", res, err, c.want)
			}
			if lines := log.count("backend failed"); c.want == 502 && lines != 1 {
				t.Errorf("got %d lines in the log, want one", lines)
			}
		})
	}
}

// Any bytes of a backend give an answer or the end of the connection, never a panic. Every go test
// runs the seeds.
func FuzzAnswers(f *testing.F) {
	for status := range 1000 {
		if status%100 < 5 || status%100 == 99 {
			f.Add(fmt.Appendf(nil, "HTTP/1.1 %03d X\r\nContent-Length: 1\r\n\r\nx", status), status%2 == 0)
		}
	}
	for _, head := range []string{
		"HTTP/1.1 204 No\r\nContent-Length: 5\r\n\r\nhello", "HTTP/1.1 304 No\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
		"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 200 OK\r\nTrailer: X, Content-Length\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX: 1\r\nContent-Length: 4\r\nY: 2\r\n\r\n",
		"HTTP/1.1 200 OK\r\nX: a\x00b\r\n\r\n", "HTTP/1.1 200 OK\r\n: x\r\n\r\n", "HTTP/1.1 200 OK\r\nX Y: x\r\n Z\r\n\r\n", "HTTP/0.9 200 OK\r\n\r\n",
		"HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 103 Hints\r\n\r\nHTTP/1.1 000 X\r\n\r\n", "HTTP/2.0 200 OK\r\n\r\n", "HTTP/1.1 200", "\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\ndata", "HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: \x7f\r\n\r\n",
		"HTTP/1.1 101 X\r\nConnection: Upgrade\r\nUpgrade: TCP\r\n\r\nhello", "HTTP/1.1 200 OK\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n",
	} {
		f.Add([]byte(head), false)
		f.Add([]byte(head), true)
	}
	s := newStage(f)
	var next atomic.Pointer[string]
	s.frontend("a.test", scripted(f, func() string { return *next.Load() }))
	server := s.edge.Server()
	server.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() {
			if v := recover(); v != nil {
				if v != http.ErrAbortHandler { //nolint:errorlint // as net/http compares it
					f.Errorf("panic: %v after %q", v, *next.Load())
				}
				panic(v)
			}
		}()
		s.edge.ServeHTTP(w, r)
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		f.Fatal(err)
	}
	var serving sync.WaitGroup
	serving.Go(func() { _ = server.Serve(l) })
	f.Cleanup(func() {
		_ = server.Close()
		serving.Wait()
	})
	f.Fuzz(func(t *testing.T, answer []byte, upgrade bool) {
		text := string(answer)
		next.Store(&text)
		c, err := net.Dial("tcp", l.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		_ = c.SetDeadline(time.Now().Add(patience))
		ask := "Connection: close\r\n"
		if upgrade {
			ask = "Connection: Upgrade\r\nUpgrade: tcp\r\n"
		}
		_, _ = io.WriteString(c, "GET / HTTP/1.1\r\nHost: a.test\r\n"+ask+"\r\n")
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // the body ended before its first byte
			return
		}
		if err != nil {
			t.Fatalf("to the client of a backend that says %q: %v", answer, err)
		}
		if res.StatusCode < 100 || strings.Contains(res.Status, "\n") {
			t.Errorf("got %q", res.Status)
		}
	})
}
