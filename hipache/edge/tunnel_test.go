package edge_test

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rollcall/hipache/edge"
)

// tunnel is a backend that accepts every upgrade and passes on the connection.
func tunnel(t testing.TB, serve func(*net.TCPConn, io.Reader)) string {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, r *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		_, _ = fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", r.Header.Get("Upgrade"))
		serve(c.(*net.TCPConn), rw)
	}).URL
}

// upgraded requests an upgrade and sends the first bytes of the new protocol with it.
func (s *stage) upgraded(protocol, first string) (*net.TCPConn, io.Reader) {
	s.Helper()
	c, r := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: " + protocol + "\r\n\r\n" + first)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 || res.Header.Get("Upgrade") != protocol {
		s.Fatalf("got %+v, %v; want the upgrade", res, err)
	}
	return c.(*net.TCPConn), r
}

func TestAClientThatHasSentEverythingGetsItsAnswer(t *testing.T) {
	t.Parallel()
	for _, protocol := range []string{"tcp", "websocket"} {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.frontend("a.test", tunnel(t, func(c *net.TCPConn, r io.Reader) {
				all, err := io.ReadAll(r)
				_, _ = fmt.Fprintf(c, "got %s, %v", all, err)
			}))
			c, r := s.upgraded(protocol, "")
			_, _ = io.WriteString(c, "the question")
			_ = c.CloseWrite()
			if got, err := io.ReadAll(r); string(got) != "got the question, <nil>" || err != nil {
				t.Errorf("got %q, %v", got, err)
			}
		})
	}
}

func TestABackendThatHasSentEverythingGetsTheRest(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	got := make(chan string, 1)
	s.frontend("a.test", tunnel(t, func(c *net.TCPConn, r io.Reader) {
		_, _ = io.WriteString(c, "all")
		_ = c.CloseWrite()
		rest, _ := io.ReadAll(r)
		got <- string(rest)
	}))
	c, r := s.upgraded("tcp", "")
	if all, err := io.ReadAll(r); string(all) != "all" || err != nil {
		t.Fatalf("got %q, %v; want the end of what the backend sends", all, err)
	}
	_, _ = io.WriteString(c, "the rest")
	_ = c.Close()
	if rest := <-got; rest != "the rest" {
		t.Errorf("the backend got %q", rest)
	}
}

func TestBytesAfterAnUpgradeRequestAreForwarded(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer c.Close()
		time.Sleep(20 * time.Millisecond) // the client's end arrives first
		_, _ = io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
		all, _ := io.ReadAll(rw)
		_, _ = fmt.Fprintf(c, "got %s", all)
	}).URL)
	c, r := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\nthe question")
	_ = c.(*net.TCPConn).CloseWrite()
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != 101 {
		t.Fatalf("got %+v, %v", res, err)
	}
	if got, err := io.ReadAll(r); string(got) != "got the question" || err != nil {
		t.Errorf("got %q, %v", got, err)
	}
}

// brief is a time limit that a test waits for. A busy machine does not exceed it between two steps of
// a transfer.
const brief = 500 * time.Millisecond

func shortly(o *edge.Options) { o.Timeout = brief }

func TestTunnelsAndEventStreamsMayBeSilent(t *testing.T) {
	t.Parallel()
	s := newStage(t, shortly)
	s.frontend("a.test", tunnel(t, func(c *net.TCPConn, r io.Reader) {
		time.Sleep(3 * brief)
		_, _ = io.WriteString(c, "late")
	}))
	s.frontend("events.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream; charset=utf-8")
		_ = http.NewResponseController(w).Flush()
		time.Sleep(3 * brief)
		_, _ = io.WriteString(w, "late")
	}).URL)
	_, r := s.upgraded("tcp", "")
	if got := s.get("events.test"); got.body != "late" {
		t.Errorf("events: got %q", got.body)
	}
	if got, err := io.ReadAll(r); string(got) != "late" || err != nil {
		t.Errorf("tunnel: got %q, %v", got, err)
	}
}

func TestATransferThatMovesMayTakeLong(t *testing.T) {
	t.Parallel()
	for version, transport := range map[string]func(testing.TB) *http.Transport{
		"HTTP/1.1": func(testing.TB) *http.Transport { return nil }, "HTTP/2": h2c,
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, shortly)
			if tr := transport(t); tr != nil {
				s.client.Transport = tr
			}
			slowly := func(write func()) {
				for range 12 {
					time.Sleep(brief / 5)
					write()
				}
			}
			s.frontend("down.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
				slowly(func() { _, _ = io.WriteString(w, "x"); _ = http.NewResponseController(w).Flush() })
			}).URL)
			s.frontend("up.test", echo(t).URL)
			if got := s.get("down.test"); got.body != strings.Repeat("x", 12) {
				t.Errorf("download: got %q", got.body)
			}
			pr, pw := io.Pipe()
			go slowly(func() { _, _ = io.WriteString(pw, "x") })
			body := io.MultiReader(io.LimitReader(pr, 12))
			if got := s.do("POST", "up.test", "/", body); got.body != strings.Repeat("x", 12) {
				t.Errorf("upload: got %d %q", got.StatusCode, got.body)
			}
			if got := s.do("POST", "down.test", "/", strings.NewReader("x")); got.body != strings.Repeat("x", 12) {
				t.Errorf("download that follows an upload: got %q", got.body)
			}
		})
	}
}

func TestATransferThatStandsStillEnds(t *testing.T) {
	t.Parallel()
	t.Run("backend, in its answer", func(t *testing.T) {
		t.Parallel()
		log := newJournal(t)
		s := newStage(t, shortly, func(o *edge.Options) { o.Log = slog.New(log) })
		left := make(chan struct{})
		s.frontend("a.test", handled(t, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
			close(left)
		}).URL)
		_, r := s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(res.Body); string(got) != "half" || err == nil {
			t.Errorf("got %q, %v; want to hear that there is more", got, err)
		}
		<-left
		if n := log.count("backend failed in the middle of an answer"); n != 1 {
			t.Errorf("got %d lines in the log, want one", n)
		}
	})
	t.Run("client, in its request", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, shortly)
		heard := s.announcements("b.test")
		s.frontend("b.test", echo(t).URL, echo(t).URL)
		for name, head := range map[string]string{
			"length": "Content-Length: 9\r\n\r\nhalf", "chunks": "Transfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
		} {
			_, r := s.raw("POST / HTTP/1.1\r\nHost: b.test\r\n" + head)
			res, err := http.ReadResponse(r, nil)
			if err != nil || res.StatusCode != 408 {
				t.Fatalf("%s: got %+v, %v; want 408", name, res, err)
			}
			_, _ = io.Copy(io.Discard, res.Body)
			if _, err := r.ReadByte(); err != io.EOF {
				t.Errorf("%s: got %v, want the connection's end", name, err)
			}
		}
		if got := s.marks("b.test"); got != "" {
			t.Errorf("got the marks %q for the client's fault", got)
		}
		s.silent("b.test", heard)
	})
	t.Run("client, in its answer", func(t *testing.T) {
		t.Parallel()
		s := newStage(t, shortly)
		left := make(chan struct{})
		s.frontend("a.test", handled(t, func(w http.ResponseWriter, r *http.Request) {
			defer close(left)
			for err := error(nil); err == nil; { // more than the socket buffers
				_, err = w.Write(make([]byte, 1<<20))
			}
		}).URL)
		s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n") // and reads no bytes
		select {
		case <-left:
		case <-time.After(patience):
			t.Error("the backend still writes")
		}
	})
}

// A limit of one answer does not apply to the next one on the same connection, of any backend.
func TestALimitEndsWithItsAnswer(t *testing.T) {
	t.Parallel()
	s := newStage(t, shortly)
	s.frontend("a.test", echo(t).URL)
	s.frontend("events.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		w.Header().Set("Content-Length", "2")
		_, _ = io.WriteString(w, "hi")
	}).URL)
	for _, next := range []string{"a.test", "events.test", "__ping__", "none.example"} {
		t.Run(next, func(t *testing.T) {
			t.Parallel()
			c, r := s.raw("")
			for _, host := range []string{"a.test", next} {
				_, _ = io.WriteString(c, "POST / HTTP/1.1\r\nHost: "+host+"\r\nContent-Length: 2\r\n\r\nhi")
				res, err := http.ReadResponse(r, nil)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := io.Copy(io.Discard, res.Body); err != nil {
					t.Fatal(err)
				}
				time.Sleep(brief + brief/5)
			}
		})
	}
}
