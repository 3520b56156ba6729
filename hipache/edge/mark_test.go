package edge_test

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/hipache"
	"rollcall/hipache/edge"
)

func TestRefusedIsMarkedAnnouncedAndRetried(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	heard := s.announcements("refused.test")
	gone := refused(t)
	s.frontend("*.test", gone, named(t, "up").URL)
	for i := 0; s.marks("refused.test") == ""; i++ {
		if got := s.get("refused.test"); got.body != "up" || i > 200 {
			t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
		}
	}
	if got := s.marks("refused.test"); got != "0" {
		t.Errorf("got the marks %s, want 0", got)
	}
	if got := <-heard; got != "refused.test;"+gone+";0;2" {
		t.Errorf("heard %q", got)
	}
	if ttl := s.redis.TTL(t.Context(), s.keys.Dead("refused.test")).Val(); ttl < 20*time.Second || ttl > hipache.PassiveTTL {
		t.Errorf("got a time to live of %s, want %s", ttl, hipache.PassiveTTL)
	}
	if got := s.get("other.test"); got.body != "up" {
		t.Errorf("marks are of one requested host: got %d %q", got.StatusCode, got.body)
	}
}

func TestOneURLIsNeverMarked(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	heard := s.announcements("one.test")
	bad := status(t, 502)
	s.frontend("one.test", refused(t))
	s.frontend("bad.one.test", bad.URL)
	for range 3 {
		if got := s.get("one.test"); got.StatusCode != 502 || !strings.Contains(got.body, "Site unavailable") {
			t.Errorf("refused: got %d %q", got.StatusCode, got.body)
		}
		if got := s.get("bad.one.test"); got.StatusCode != 502 || got.body != "says 502" {
			t.Errorf("502: got %d %q", got.StatusCode, got.body)
		}
	}
	if got := s.marks("one.test") + s.marks("bad.one.test"); got != "" {
		t.Errorf("got the marks %q, want none", got)
	}
	s.silent("one.test", heard)
	if bad.hits.Load() != 3 {
		t.Errorf("got %d requests for 3", bad.hits.Load())
	}
}

// A status depends on the request: Python answers 501 to every "FOO /".
func TestNoStatusMarks(t *testing.T) {
	t.Parallel()
	for _, code := range []int{404, 500, 501, 502, 503, 504, 505, 599, 600, 999} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			host := fmt.Sprintf("%d.test", code)
			heard := s.announcements(host)
			a, b := status(t, code), status(t, code)
			s.frontend(host, a.URL, b.URL)
			got := s.do("FOO", host, "/", nil)
			if got.StatusCode != code || got.body != fmt.Sprintf("says %d", code) {
				t.Errorf("got %d %q, want the backend's answer", got.StatusCode, got.body)
			}
			if n := a.hits.Load() + b.hits.Load(); n != 1 {
				t.Errorf("got %d requests, want no retry", n)
			}
			if got := s.marks(host); got != "" {
				t.Errorf("got the marks %q, want none", got)
			}
			s.silent(host, heard)
		})
	}
}

// Whichever request one visitor sends, and however the backends react, 20 of 20 other visitors are
// served, by both backends.
func TestNoRequestTakesABackendAwayFromTheOthers(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]func(c net.Conn){
		"501": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 501 No\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
		},
		"502": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 502 No\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
		},
		"504": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 504 No\r\nContent-Length: 0\r\n\r\n")
			_ = c.Close()
		},
		"reset":       func(c net.Conn) { reset(c.(*net.TCPConn)) },
		"closed":      func(c net.Conn) { _ = c.Close() },
		"no answer":   func(net.Conn) {},
		"nonsense":    func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-OpenSSH\r\n"); _ = c.Close() },
		"no status":   func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 000 No\r\n\r\n"); _ = c.Close() },
		"half a head": func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-"); _ = c.Close() },
		"half a body": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx")
			_ = c.Close()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t, func(o *edge.Options) {
				if name == "no answer" {
					o.Timeout = 500 * time.Millisecond
				}
			})
			backend := func(name string) string {
				return handled(t, func(w http.ResponseWriter, r *http.Request) {
					if r.URL.Path != "/bad" {
						_, _ = io.WriteString(w, name)
						return
					}
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					t.Cleanup(func() { _ = c.Close() })
					answer(c)
				}).URL
			}
			s.frontend("a.test", backend("one"), backend("two"))
			for range 2 {
				for _, method := range []string{"GET", "POST", "FOO"} {
					c, r := s.raw(method + " /bad HTTP/1.1\r\nHost: a.test\r\nConnection: close\r\n\r\n")
					_, _ = io.Copy(io.Discard, r) // any answer
					_ = c.Close()
				}
			}
			if got := s.shares("a.test", 20); got["one"]+got["two"] != 20 {
				t.Errorf("got %v, want 20 of 20 served", got)
			}
			if got := s.marks("a.test"); got != "" {
				t.Errorf("got the marks %s, want none", got)
			}
		})
	}
}

// A request that kills a backend kills at most two, not one after the other.
func TestARequestThatBackendsResetIsRepeatedOnce(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	var hits [4]*atomic.Int64
	entries := make([]string, 4)
	for i := range entries {
		entries[i], hits[i] = rude(t, reset)
	}
	s.frontend("a.test", entries...)
	if got := s.get("a.test"); got.StatusCode != 502 {
		t.Errorf("got %d", got.StatusCode)
	}
	n := hits[0].Load() + hits[1].Load() + hits[2].Load() + hits[3].Load()
	if n != 2 {
		t.Errorf("%d backends got the request, want 2", n)
	}
}

// The last backend is not marked, so it serves at once when it is back.
func TestAllRefused(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", refused(t), refused(t), refused(t), refused(t), refused(t))
	if got := s.get("a.test"); got.StatusCode != 502 {
		t.Errorf("got %d", got.StatusCode)
	}
	if n := s.redis.SCard(t.Context(), s.keys.Dead("a.test")).Val(); n != 4 {
		t.Errorf("got %d marks, want one for each of 4 attempts", n)
	}
	for range 5 {
		if got := s.get("a.test"); got.StatusCode != 502 {
			t.Errorf("got %d", got.StatusCode)
		}
	}
	if n := s.redis.SCard(t.Context(), s.keys.Dead("a.test")).Val(); n != 4 {
		t.Errorf("got %d marks of 5, want the last one open", n)
	}
}

func TestEveryMethodIsRetriedAfterARefusedConnection(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := echo(t)
	gone := refused(t)
	s.frontend("a.test", gone, gone, gone, up.URL)
	for _, method := range []string{http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete} {
		for range 5 {
			if got := s.do(method, "a.test", "/", strings.NewReader("the body")); got.body != "the body" {
				t.Errorf("%s: got %d %q", method, got.StatusCode, got.body)
			}
			s.redis.Del(t.Context(), s.keys.Dead("a.test"))
		}
	}
}

func TestConnectionTimeoutMarks(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *edge.Options) { o.DialTimeout = 100 * time.Millisecond })
	s.frontend("a.test", blackHole(t), named(t, "up").URL)
	for s.marks("a.test") != "0" {
		if got := s.get("a.test"); got.body != "up" {
			t.Fatalf("got %d %q", got.StatusCode, got.body)
		}
	}
	s.frontend("one.test", blackHole(t))
	if got := s.get("one.test"); got.StatusCode != 504 {
		t.Errorf("nobody else to ask: got %d, want 504", got.StatusCode)
	}
}

func TestResetGoesToAnotherBackend(t *testing.T) {
	t.Parallel()
	for name, then := range map[string]func(*net.TCPConn){"reset": reset, "closed": closed} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			bad, hits := rude(t, then)
			heard := s.announcements(name + ".test")
			s.frontend(name+".test", bad, named(t, "up").URL)
			for i := 0; hits.Load() < 3; i++ {
				if got := s.get(name + ".test"); got.body != "up" || i > 500 {
					t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
				}
			}
			if got := s.marks(name + ".test"); got != "" {
				t.Errorf("got the marks %s, want none", got)
			}
			if got := <-heard; got != name+".test;"+bad+";0;2" { // so that it is probed
				t.Errorf("heard %q", got)
			}
		})
	}
}

func TestARequestThatMayHaveRunIsNotRepeated(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, hitsA := rude(t, reset)
	b, hitsB := rude(t, reset)
	s.frontend("a.test", a, b)
	for i, c := range []struct{ method, body string }{
		{http.MethodPost, "x"},
		{http.MethodPost, ""},
		{http.MethodPatch, "x"},
		{http.MethodPut, strings.Repeat("x", 64<<10)}, // so long that the head is sent before the whole body is read
	} {
		got := s.do(c.method, "a.test", "/", strings.NewReader(c.body))
		if n := hitsA.Load() + hitsB.Load(); got.StatusCode != 502 || n != int64(i+1) {
			t.Errorf("%s of %d bytes: got %d and %d requests, want %d", c.method, len(c.body), got.StatusCode, n, i+1)
		}
	}
}

func TestHangingBackendIsNeitherMarkedNorTriedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *edge.Options) { o.Timeout = 100 * time.Millisecond })
	a, hitsA := rude(t, hang)
	b, hitsB := rude(t, hang)
	s.frontend("a.test", a, b)
	if got := s.get("a.test"); got.StatusCode != 504 || !strings.Contains(got.body, "No answer in time") {
		t.Errorf("got %d %q", got.StatusCode, got.body)
	}
	// More than the socket buffers, so that the upload itself stalls.
	if got := s.do(http.MethodPost, "a.test", "/", strings.NewReader(strings.Repeat("x", 32<<20))); got.StatusCode != 504 {
		t.Errorf("upload: got %d", got.StatusCode)
	}
	if n := hitsA.Load() + hitsB.Load(); n != 2 || s.marks("a.test") != "" {
		t.Errorf("got %d requests and the marks %q", n, s.marks("a.test"))
	}
}
