package edge_test

import (
	"net/http"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

func TestHostFindsItsFrontend(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	for _, host := range []string{"a.test", "A.ONLY", "dot.test.", "*.wild.test", "*.deep.wild.test", "*.test"} {
		s.frontend(host, named(t, host).URL)
	}
	s.frontend("id.wild.test") // a list with an identifier only does not hide the wildcard
	for _, c := range []struct {
		host string
		code int
		body string
	}{
		{"a.test", 200, "a.test"},
		{"a.test:80", 200, "a.test"},
		{"A.test:8080", 200, "a.test"}, // lower case if and only if there is a port
		{"a.test:", 200, "a.test"},
		{"A.ONLY", 200, "A.ONLY"},
		{"A.ONLY:80", 400, "No such site"},
		{"A.TEST", 400, "No such site"},
		{"dot.test.", 200, "dot.test."},
		{"x.wild.test", 200, "*.wild.test"},
		{"x.deep.wild.test", 200, "*.deep.wild.test"},
		{"y.x.deep.wild.test", 200, "*.deep.wild.test"},
		{"1.2.3.4.5.6.7.8.wild.test", 200, "*.wild.test"},
		{"wild.test", 200, "*.test"},
		{"id.wild.test", 502, "Site unavailable"},
		{"other.example", 400, "No such site"},
		{strings.Repeat("a", 250) + ".test", 200, "*.test"},
		{strings.Repeat("a", 251) + ".test", 400, "No such site"},
		{"a;b.test", 400, "No such site"}, // would separate fields of an announcement
	} {
		got := s.get(c.host)
		if got.StatusCode != c.code || !strings.Contains(got.body, c.body) {
			t.Errorf("%s: got %d %q, want %d %q", c.host, got.StatusCode, got.body, c.code, c.body)
		}
	}
}

func TestCatchAll(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("*", named(t, "all").URL)
	for _, host := range []string{"a.test", "localhost", "[::1]", "[::1]:80", "1.2.3.4.5.6.7.8.9"} {
		if got := s.get(host); got.body != "all" {
			t.Errorf("%s: got %d %q", host, got.StatusCode, got.body)
		}
	}
}

func TestRequestsWithoutAHost(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("*", named(t, "all").URL)
	for _, text := range []string{
		"GET / HTTP/1.0\r\n\r\n",
		"GET / HTTP/1.1\r\n\r\n",
		"GET / HTTP/1.1\r\nHost:\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
		"GET / HTTP/1.1\r\nHost: a.test\r\nHost: b.test\r\n\r\n",
	} {
		if got := s.status(text); got != 400 {
			t.Errorf("%q: got %d, want 400", text, got)
		}
	}
	if got := s.status("CONNECT a.test:80 HTTP/1.1\r\nHost: a.test:80\r\n\r\n"); got != 405 {
		t.Errorf("CONNECT: got %d, want 405", got)
	}
}

func TestPingNeedsNoRedis(t *testing.T) {
	t.Parallel()
	r := harness.StartRedis(t)
	s := newStageOn(t, r.Client(t))
	r.Kill()
	if got := s.do(http.MethodGet, "__ping__", "/any/path", nil); got.StatusCode != 200 || got.body != "OK" {
		t.Errorf("got %d %q", got.StatusCode, got.body)
	}
}

func TestEntries(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	good := named(t, "good").URL
	hostport := strings.TrimPrefix(good, "http://")
	for i, entry := range []string{
		good, good + "/", good + "/base?x#f", "HTTP://" + hostport, "http://user:pw@" + hostport, "  " + good + " ",
	} {
		host := string(rune('a'+i)) + ".good.test"
		s.frontend(host, entry)
		if got := s.do(http.MethodGet, host, "/x?q=1", nil); got.body != "good" {
			t.Errorf("%q: got %d %q", entry, got.StatusCode, got.body)
		}
	}
	for i, entry := range []string{
		hostport, "//" + hostport, "http:/" + hostport, "http://", "", "https://" + hostport, "ftp://" + hostport,
		"http://127.0.0.1:99999", "http://127.0.0.1:0", "http://127.0.0.1:x", "http://a b", "http://\x01:80", "garbage",
	} {
		host := string(rune('a'+i)) + ".bad.test"
		s.frontend(host, entry)
		if got := s.get(host, "X-Debug", "1"); got.StatusCode != 502 || got.Header.Get("X-Debug-Error") != "backend is invalid" {
			t.Errorf("%q: got %d %v", entry, got.StatusCode, got.Header)
		}
		s.frontend("with."+host, entry, good, entry)
		for range 5 {
			if got := s.get("with." + host); got.body != "good" {
				t.Errorf("%q beside a good one: got %d %q", entry, got.StatusCode, got.body)
			}
		}
		if got := s.marks("with." + host); got != "" {
			t.Errorf("%q is marked: %s", entry, got)
		}
	}
}

func TestKeysOfTheWrongType(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	good := named(t, "good").URL
	s.redis.Set(t.Context(), s.keys.Frontend("string.test"), good, 0)
	s.frontend("*", good)
	if got := s.get("string.test", "X-Debug", "1"); got.StatusCode != 502 || !strings.Contains(got.Header.Get("X-Debug-Error"), "frontend:string.test") {
		t.Errorf("a string for a list: got %d %v", got.StatusCode, got.Header)
	}
	s.redis.HSet(t.Context(), s.keys.Frontend("*.hash.test"), "k", "v")
	if got := s.get("x.hash.test"); got.body != "good" {
		t.Errorf("a hash for a wildcard: got %d %q", got.StatusCode, got.body)
	}
	s.frontend("dead.test", good)
	s.redis.Set(t.Context(), s.keys.Dead("dead.test"), "0", 0)
	if got := s.get("dead.test"); got.body != "good" {
		t.Errorf("a string for a dead set: got %d %q", got.StatusCode, got.body)
	}
}

func TestAnEntryThatNamesTheEdgeIsALoop(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("loop.test", "http://"+s.addr)
	if got := s.get("loop.test"); got.StatusCode != http.StatusLoopDetected {
		t.Errorf("got %d", got.StatusCode)
	}
}
