package edge_test

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"
)

// http2 sends the fields of one HTTP/2 request that a client would refuse to send. It returns the
// status, from HPACK's table, "reset", or "closed".
func (s *stage) http2(fields ...string) string {
	s.Helper()
	var block []byte
	for _, f := range fields { // literal, not indexed, not compressed
		name, value, _ := strings.Cut(f[1:], ":")
		name = f[:1] + name
		block = append(append(block, 0, byte(len(name))), name...)
		block = append(append(block, byte(len(value))), value...)
	}
	frame := func(kind, flags byte, stream uint32, payload []byte) string {
		head := binary.BigEndian.AppendUint32(nil, uint32(len(payload))<<8|uint32(kind))
		return string(binary.BigEndian.AppendUint32(append(head, flags), stream)) + string(payload)
	}
	const settings, headers, reset, goaway, endOfStream = 4, 1, 3, 7, 1 | 4
	_, r := s.raw("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + frame(settings, 0, 0, nil) + frame(headers, endOfStream, 1, block))
	for {
		var head [9]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return "closed"
		}
		payload := make([]byte, binary.BigEndian.Uint32(head[:4])>>8)
		if _, err := io.ReadFull(r, payload); err != nil {
			return "closed"
		}
		switch head[3] {
		case headers:
			if status, ok := map[byte]string{0x88: "200", 0x8c: "400"}[payload[0]]; ok {
				return status
			}
			return fmt.Sprintf("%q", payload)
		case reset, goaway:
			return "reset"
		}
	}
}

// HTTP/2 can carry a request that would be another one, or two, in HTTP/1.1.
func TestHTTP2RequestsThatHTTP1CannotCarry(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := mirror(t)
	s.frontend("a.test", up.URL)
	s.frontend("*", up.URL)
	with := func(field string) []string {
		request := []string{":method:GET", ":scheme:http", ":path:/", ":authority:a.test"}
		for i, f := range request {
			if name, _, _ := strings.Cut(field[1:], ":"); strings.HasPrefix(f[1:], name+":") {
				request[i] = field
				return request
			}
		}
		return append(request, field)
	}
	for _, field := range []string{":path:/", ":path:/a%20b?c", ":method:PROPFIND", ":authority:a.test:80", "host:a.test", "host:A.TEST", "x-any:a\tb"} {
		if got := s.http2(with(field)...); got != "200" {
			t.Errorf("%q: got %s, want 200", field, got)
		}
	}
	served := up.hits.Load()
	for _, field := range []string{
		":path:/x HTTP/1.0", ":path:/ ", ":path:/?a b", ":path:/a#b", ":path:*", ":path:http://other.test/",
	} {
		if got := s.http2(with(field)...); got != "400" {
			t.Errorf("%q: got %s, want 400", field, got)
		}
	}
	for _, field := range []string{ // net/http itself resets some of these
		":path: /", ":path:", ":path:/a\r\nX-A: b", ":path:/a\x00", ":path:/a\x7f", ":path:/a\tb", ":method:GET /x", ":method:GE\r\nT", ":method:GET\x00", ":method:", ":method:G(T", ":authority:a b", ":authority:a.test\r\nX: y", ":authority:u@a.test",
		":authority:a.test/x", ":authority:a\x00", "host:b.test", "host:", "host:a.test\r\n", "x-any:a\r\nX-B: c", "x-any:a\nb", "x-any:a\x00b", "x any:a", "x-any\r\n:a",
		"connection:close", "transfer-encoding:chunked", "upgrade:tcp",
	} {
		if got := s.http2(with(field)...); got != "400" && got != "reset" && got != "closed" {
			t.Errorf("%q: got %s, want it refused", field, got)
		}
	}
	if n := up.hits.Load() - served; n != 0 {
		t.Errorf("%d requests have reached the backend", n)
	}
}

func TestHTTP1RequestsThatAreNotWellFormed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := mirror(t)
	s.frontend("*", up.URL)
	for _, head := range []string{
		"GET /x HTTP/1.0 HTTP/1.1\r\nHost: a.test", "GET /a#b HTTP/1.1\r\nHost: a.test", "GET * HTTP/1.1\r\nHost: a.test",
		"GET /a\x00 HTTP/1.1\r\nHost: a.test", "GET /a\tb HTTP/1.1\r\nHost: a.test", "G(T / HTTP/1.1\r\nHost: a.test", "GET / HTTP/1.1\r\nHost: a.test\r\nX: a\x00b",
		"GET / HTTP/1.1\r\nHost: a.test\r\nX : b", "GET / HTTP/1.1\r\nHost: a.test/x", "GET / HTTP/1.1\r\nHost: u@a.test", "GET http://a.test:x/ HTTP/1.1\r\nHost: a.test",
	} {
		if got := s.status(head + "\r\n\r\n"); got != 400 {
			t.Errorf("%q: got %d, want 400", head, got)
		}
	}
	if n := up.hits.Load(); n != 0 {
		t.Errorf("%d requests have reached the backend", n)
	}
}

// All proxies must agree on the end of a body: else the following bytes are a request to one proxy and
// a body to another.
func TestABodyOfAmbiguousLengthEndsTheConnection(t *testing.T) {
	t.Parallel()
	const smuggled = "GET /smuggled HTTP/1.1\r\nHost: a.test\r\n\r\n"
	const chunked = "Transfer-Encoding: chunked\r\n"
	for name, c := range map[string]struct {
		request string
		want    int
	}{
		"both lengths":               {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n" + chunked + "\r\n0\r\n\r\n", 200},
		"both, the other way round":  {"POST / HTTP/1.1\r\nHost: a.test\r\n" + chunked + "Content-Length: 6\r\n\r\n0\r\n\r\n", 200},
		"both, to the edge itself":   {"POST / HTTP/1.1\r\nHost: __ping__\r\nContent-Length: 6\r\n" + chunked + "\r\n0\r\n\r\n", 200},
		"both, without a backend":    {"POST / HTTP/1.1\r\nHost: b.test\r\nContent-Length: 6\r\n" + chunked + "\r\n0\r\n\r\n", 400},
		"both, with hints":           {"POST /hints HTTP/1.1\r\nHost: a.test\r\nContent-Length: 6\r\n" + chunked + "\r\n0\r\n\r\n", 103},
		"chunks in HTTP/1.0":         {"POST / HTTP/1.0\r\nHost: a.test\r\nConnection: keep-alive\r\n" + chunked + "\r\n0\r\n\r\n", 200},
		"two lengths":                {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", 400},
		"two lengths in one line":    {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 5, 6\r\n\r\n0\r\n\r\n", 400},
		"a length with a sign":       {"POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: +5\r\n\r\n0\r\n\r\n", 400},
		"another coding":             {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501},
		"identity":                   {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: identity\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", 501},
		"chunked twice":              {"POST / HTTP/1.1\r\nHost: a.test\r\n" + chunked + chunked + "\r\n0\r\n\r\n", 501},
		"a space before the colon":   {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400},
		"a folded line":              {"POST / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding:\r\n chunked\r\nContent-Length: 6\r\n\r\n0\r\n\r\n", 200},
		"a bare line feed in chunks": {"POST / HTTP/1.1\r\nHost: a.test\r\n" + chunked + "\r\n1;a\nx\r\n0\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.frontend("a.test", handled(t, func(w http.ResponseWriter, r *http.Request) {
				switch r.URL.Path {
				case "/smuggled":
					t.Error("the second request was served")
				case "/hints":
					w.WriteHeader(http.StatusEarlyHints)
				}
				_, _ = io.Copy(w, r.Body)
			}).URL)
			_, r := s.raw(c.request + smuggled)
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != c.want {
				t.Fatalf("got %+v, %v; want %d", res, err, c.want)
			}
			rest, err := io.ReadAll(r)
			if n := strings.Count(string(rest), "HTTP/1."); err != nil || n > 1 || n == 1 && c.want != 103 {
				t.Errorf("the connection goes on with %q, %v", rest, err)
			}
		})
	}
}

func TestABodyOfKnownLengthKeepsTheConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", echo(t).URL)
	c, r := s.raw("")
	for range 3 {
		_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 2\r\n\r\nhi")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if body, err := io.ReadAll(res.Body); string(body) != "hi" || err != nil {
			t.Errorf("got %q, %v", body, err)
		}
	}
}

// secondReset is a backend that answers the first request of each connection and resets the
// second. seen returns the number of requests that it read.
func secondReset(t testing.TB) (url string, seen func() int) {
	t.Helper()
	requests := make(chan struct{}, 1000)
	url = accepts(t, func(c *net.TCPConn) {
		go func() {
			r := bufio.NewReader(c)
			for n := range 2 {
				req, err := http.ReadRequest(r)
				if err != nil {
					break
				}
				requests <- struct{}{}
				_, _ = io.Copy(io.Discard, req.Body)
				if n == 1 {
					break
				}
				_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
			reset(c)
		}()
	})
	return url, func() int { return len(requests) }
}

func TestAnIdempotentRequestIsSentAgainOnANewConnection(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method, body string
		want, sent   int
	}{
		{"GET", "", 200, 3},
		{"HEAD", "", 200, 3},
		{"OPTIONS", "", 200, 3},
		{"DELETE", "", 200, 3},
		{"PUT", "", 200, 3},
		{"PROPFIND", "", 200, 3},
		{"REPORT", "", 200, 3},
		{"POST", "", 502, 2},
		{"PATCH", "", 502, 2},
		{"LOCK", "", 502, 2},
		{"FOO", "", 502, 2},
		{"PUT", "its body", 502, 2}, // the transport had sent it
	} {
		t.Run(c.method+" "+c.body, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			url, seen := secondReset(t)
			s.frontend("a.test", url)
			if got := s.get("a.test"); got.StatusCode != 200 {
				t.Fatalf("got %d", got.StatusCode)
			}
			var body io.Reader
			if c.body != "" {
				body = strings.NewReader(c.body)
			}
			if got := s.do(c.method, "a.test", "/", body); got.StatusCode != c.want || seen() != c.sent {
				t.Errorf("got %d and %d requests, want %d and %d", got.StatusCode, seen(), c.want, c.sent)
			}
		})
	}
}

// The transport itself repeats requests on a connection that the backend has closed.
func TestABodySentOnAConnectionThatBreaksIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	url, seen := secondReset(t)
	s.frontend("a.test", url)
	if got := s.get("a.test"); got.StatusCode != 200 {
		t.Fatalf("got %d", got.StatusCode)
	}
	body := io.MultiReader(strings.NewReader("of unknown length"))
	if got := s.do(http.MethodPut, "a.test", "/", body); got.StatusCode != 502 || seen() != 2 {
		t.Errorf("got %d and %d requests, want 502 and 2", got.StatusCode, seen())
	}
}

// The rest of a body would be a whole body to another backend.
func TestABodySentInPartIsNotSentAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	started := make(chan struct{}, 2)
	breaking := func() *server {
		return handled(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.ReadFull(r.Body, make([]byte, 4))
			c, _, err := http.NewResponseController(w).Hijack()
			started <- struct{}{}
			if err == nil {
				reset(c.(*net.TCPConn))
			}
		})
	}
	one, other := breaking(), breaking()
	s.frontend("a.test", one.URL, other.URL)
	c, r := s.raw("PUT / HTTP/1.1\r\nHost: a.test\r\nTransfer-Encoding: chunked\r\n\r\n")
	_, _ = io.WriteString(c, "4\r\nhalf\r\n")
	select {
	case <-started:
	case <-time.After(patience):
		t.Fatal("the body is not sent as it arrives")
	}
	_, _ = io.WriteString(c, "4\r\nrest\r\n0\r\n\r\n")
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 502 {
		t.Errorf("got %+v, %v; want 502", res, err)
	}
	if n := one.hits.Load() + other.hits.Load(); n != 1 {
		t.Errorf("%d backends got the request", n)
	}
}
