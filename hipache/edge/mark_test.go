package edge_test

import (
	"fmt"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"rollcall/hipache/edge"
)

func TestRefusedIsMarkedAnnouncedAndRetried(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *edge.Options) { o.MarkTTL = 20 * time.Second })
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
	if ttl := s.redis.TTL(t.Context(), s.keys.Dead("refused.test")).Val(); ttl < 10*time.Second || ttl > 20*time.Second {
		t.Errorf("got a time to live of %s, want 20s", ttl)
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
	if got := s.marks("one.test") + s.marks("bad.one.test"); got != "" || len(heard) != 0 {
		t.Errorf("got the marks %q and %d announcements, want none", got, len(heard))
	}
	if bad.hits.Load() != 3 {
		t.Errorf("got %d requests for 3", bad.hits.Load())
	}
}

func TestStatusesThatMark(t *testing.T) {
	t.Parallel()
	for code, marks := range map[int]bool{
		200: false, 404: false, 500: false, 501: true, 502: true, 503: false, 504: true, 505: true, 599: true, 600: false,
	} {
		t.Run(fmt.Sprint(code), func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			host := fmt.Sprintf("%d.test", code)
			heard := s.announcements(host)
			a, b := status(t, code), status(t, code)
			s.frontend(host, a.URL, b.URL)
			got := s.get(host)
			if got.StatusCode != code || got.body != fmt.Sprintf("says %d", code) {
				t.Errorf("got %d %q, want the backend's answer", got.StatusCode, got.body)
			}
			if n := a.hits.Load() + b.hits.Load(); n != 1 {
				t.Errorf("got %d requests, want no retry", n)
			}
			want := ""
			if marks {
				slot, url := "0", a.URL
				if b.hits.Load() == 1 {
					slot, url = "1", b.URL
				}
				want = slot
				if said := <-heard; said != host+";"+url+";"+slot+";2" {
					t.Errorf("heard %q", said)
				}
			}
			if got := s.marks(host); got != want {
				t.Errorf("got the marks %q, want %q", got, want)
			}
		})
	}
}

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
	if got := s.get("a.test", "X-Debug", "1"); got.StatusCode != 502 {
		t.Errorf("got %d", got.StatusCode)
	}
	if got := s.get("a.test", "X-Debug", "1"); got.Header.Get("X-Debug-Error") != "cannot find a valid backend" {
		t.Errorf("with all marked: got %d %v", got.StatusCode, got.Header)
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
			s.frontend("a.test", bad, named(t, "up").URL)
			for i := 0; hits.Load() < 3; i++ {
				if got := s.get("a.test"); got.body != "up" || i > 500 {
					t.Fatalf("request %d: got %d %q", i, got.StatusCode, got.body)
				}
			}
			if got := s.marks("a.test"); got != "" {
				t.Errorf("got the marks %s, want none", got)
			}
		})
	}
}

func TestWhatMayHaveBeenDoneIsNotDoneAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	a, hitsA := rude(t, reset)
	b, hitsB := rude(t, reset)
	s.frontend("a.test", a, b)
	for i, c := range []struct{ method, body string }{
		{http.MethodPost, "x"},
		{http.MethodPost, ""},
		{http.MethodPatch, "x"},
		{http.MethodPut, strings.Repeat("x", 64<<10)}, // so long that its head is sent before all of it is read
	} {
		got := s.do(c.method, "a.test", "/", strings.NewReader(c.body))
		if n := hitsA.Load() + hitsB.Load(); got.StatusCode != 502 || n != int64(i+1) {
			t.Errorf("%s of %d bytes: got %d and %d requests, want %d", c.method, len(c.body), got.StatusCode, n, i+1)
		}
	}
}

func TestHangingBackendIsNotMarkedNorAskedAgain(t *testing.T) {
	t.Parallel()
	s := newStage(t, func(o *edge.Options) { o.ResponseTimeout = 100 * time.Millisecond })
	a, hitsA := rude(t, hang)
	b, hitsB := rude(t, hang)
	s.frontend("a.test", a, b)
	if got := s.get("a.test"); got.StatusCode != 504 || !strings.Contains(got.body, "No answer in time") {
		t.Errorf("got %d %q", got.StatusCode, got.body)
	}
	// More than the sockets between can hold: the upload itself stands still.
	if got := s.do(http.MethodPost, "a.test", "/", strings.NewReader(strings.Repeat("x", 32<<20))); got.StatusCode != 504 {
		t.Errorf("upload: got %d", got.StatusCode)
	}
	if n := hitsA.Load() + hitsB.Load(); n != 2 || s.marks("a.test") != "" {
		t.Errorf("got %d requests and the marks %q", n, s.marks("a.test"))
	}
}
