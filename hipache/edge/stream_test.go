package edge_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestWebSocket(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := handled(t, func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Upgrade") != "websocket" || r.Header.Get("Sec-WebSocket-Key") != "k" {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: a\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(c, rw)
	})
	s.frontend("a.test", refused(t), up.URL)
	for range 5 { // a refused connection must not refuse the upgrade
		c, r := s.raw("GET /ws HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: k\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if res.StatusCode != 101 || res.Header.Get("Sec-WebSocket-Accept") != "a" {
			t.Fatalf("got %d %v", res.StatusCode, res.Header)
		}
		for i := range 3 {
			frame := fmt.Sprintf("frame %d\n", i)
			_, _ = io.WriteString(c, frame)
			if got, err := r.ReadString('\n'); got != frame {
				t.Fatalf("got %q, %v; want %q", got, err, frame)
			}
		}
		_ = c.Close()
	}
}

func TestStreamsArriveAsTheyAreSent(t *testing.T) {
	t.Parallel()
	for name, header := range map[string][]string{
		"events":       {"Content-Type", "text/event-stream"},
		"known length": {"Content-Length", "4"},
		"neither":      {"Content-Type", "text/plain"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			read := make(chan struct{})
			s.frontend("a.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set(header[0], header[1])
				_, _ = io.WriteString(w, "1\n")
				_ = http.NewResponseController(w).Flush()
				<-read
				_, _ = io.WriteString(w, "2\n")
			}).URL)
			_, r := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
			res, err := http.ReadResponse(r, nil)
			if err != nil {
				t.Fatal(err)
			}
			lines := bufio.NewReader(res.Body)
			got, err := lines.ReadString('\n') // the backend waits until this line has arrived
			close(read)
			rest, _ := lines.ReadString('\n')
			if got != "1\n" || rest != "2\n" {
				t.Errorf("got %q and %q, %v", got, rest, err)
			}
		})
	}
}

func h2c(t testing.TB) *http.Transport {
	transport := &http.Transport{Protocols: new(http.Protocols)}
	transport.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(transport.CloseIdleConnections)
	return transport
}

func TestHTTP2(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.client.Transport = h2c(t)
	s.frontend("a.test", refused(t), mirror(t).URL)
	for range 5 {
		got := s.do(http.MethodGet, "a.test", "/x?y", nil)
		if got.ProtoMajor != 2 || got.seen(t).Host != "a.test" || got.seen(t).URI != "/x?y" {
			t.Errorf("got %s %d %s", got.Proto, got.StatusCode, got.body)
		}
	}
}

func TestTrailers(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"HTTP/1.1", "HTTP/2"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			if version == "HTTP/2" {
				s.client.Transport = h2c(t)
			}
			s.frontend("a.test", handled(t, func(w http.ResponseWriter, r *http.Request) {
				w.Header().Set("Trailer", "X-Announced")
				_, _ = io.Copy(w, r.Body)
				w.Header().Set("X-Announced", r.Trailer.Get("X-Sum"))
				w.Header().Set(http.TrailerPrefix+"X-Late", "too")
			}).URL)
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+s.addr, io.MultiReader(strings.NewReader("body")))
			if err != nil {
				t.Fatal(err)
			}
			r.Host, r.Trailer = "a.test", http.Header{"X-Sum": {"42"}}
			res, err := s.client.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			defer res.Body.Close()
			body, _ := io.ReadAll(res.Body)
			if string(body) != "body" || res.Trailer.Get("X-Announced") != "42" || res.Trailer.Get("X-Late") != "too" {
				t.Errorf("got %q with %v, want the request's trailer and the late one", body, res.Trailer)
			}
		})
	}
}

func TestBigBodies(t *testing.T) {
	t.Parallel()
	big := make([]byte, 1<<20)
	random := rand.NewChaCha8([32]byte{})
	_, _ = random.Read(big)
	for name, transport := range map[string]func(testing.TB) *http.Transport{
		"HTTP/1.1": func(testing.TB) *http.Transport { return nil }, "HTTP/2": h2c,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			if tr := transport(t); tr != nil {
				s.client.Transport = tr
			}
			s.frontend("a.test", echo(t).URL)
			for what, body := range map[string]io.Reader{
				"known length": bytes.NewReader(big), "chunked": io.MultiReader(bytes.NewReader(big)),
			} {
				if got := s.do(http.MethodPost, "a.test", "/", body); got.body != string(big) {
					t.Errorf("%s: got %d and %d bytes of %d", what, got.StatusCode, len(got.body), len(big))
				}
			}
		})
	}
}

func TestExpectContinue(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", echo(t).URL)
	head := "POST / HTTP/1.1\r\nHost: a.test\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n"
	c, r := s.raw(head)
	line, err := r.ReadString('\n')
	if line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	_, _ = io.WriteString(c, "body")
	_, _ = r.ReadString('\n')
	res := &http.Response{StatusCode: http.StatusContinue}
	for res.StatusCode == http.StatusContinue { // interim answers of the edge and of the backend may both arrive
		if res, err = http.ReadResponse(r, nil); err != nil {
			t.Fatal(err)
		}
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "body" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}

	s.frontend("strict.test", status(t, 417).URL) // answers without reading
	if got := s.status(strings.Replace(head, "a.test", "strict.test", 1)); got != 417 {
		t.Errorf("got %d before the body was sent, want the backend's 417", got)
	}
}

func TestABrokenUploadDoesNotMark(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	heard := s.announcements("broken.test")
	s.frontend("broken.test", echo(t).URL, echo(t).URL)
	if got := s.status("POST / HTTP/1.1\r\nHost: broken.test\r\nTransfer-Encoding: chunked\r\n\r\nnot a chunk\r\n"); got != 400 {
		t.Errorf("got %d, want 400", got)
	}
	if got := s.marks("broken.test"); got != "" {
		t.Errorf("got the marks %s", got)
	}
	s.silent("broken.test", heard)
}

func TestAClientThatLeavesDoesNotMark(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	asked, left := make(chan struct{}), make(chan struct{})
	wait := handled(t, func(_ http.ResponseWriter, r *http.Request) {
		close(asked)
		<-r.Context().Done()
		close(left)
	}).URL
	s.frontend("a.test", wait, wait)
	c, _ := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	<-asked
	_ = c.Close()
	<-left // the backend has seen the end
	if got := s.marks("a.test"); got != "" {
		t.Errorf("got the marks %s", got)
	}
}

func TestConnectionsABackendHasClosedAreNotUsed(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := named(t, "up")
	s.frontend("a.test", up.URL)
	for i := range 50 {
		if got := s.get("a.test"); got.body != "up" {
			t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
		}
		up.CloseClientConnections()
	}
}

func TestIPv6Backend(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "[::1]:0")
	if err != nil {
		t.Skip("no IPv6 here: ", err)
	}
	six := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "six") }))
	six.Listener = l
	six.Start()
	t.Cleanup(six.Close)
	s := newStage(t)
	s.frontend("a.test", "http://"+l.Addr().String())
	if got := s.get("a.test"); got.body != "six" {
		t.Errorf("got %d %q", got.StatusCode, got.body)
	}
}
