package edge_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"rollcall/hipache/edge"
)

// seen is a request as mirror received it.
type seen struct {
	Method, URI, Host string
	Header            http.Header
}

// mirror is a backend that answers with the request.
func mirror(t testing.TB) *server {
	t.Helper()
	return handled(t, func(w http.ResponseWriter, r *http.Request) {
		_ = json.NewEncoder(w).Encode(seen{r.Method, r.RequestURI, r.Host, r.Header})
	})
}

func (a answer) seen(t testing.TB) (s seen) {
	t.Helper()
	if err := json.Unmarshal([]byte(a.body), &s); err != nil {
		t.Fatalf("%d %q: %v", a.StatusCode, a.body, err)
	}
	return s
}

func TestURIAndHostArePassedAsSent(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", mirror(t).URL+"/base?x=1")
	for _, uri := range []string{
		"/", "/a/b?c=d", "/?", "/a%2Fb%20c", "/a|b^c{}", "/%E4%BD%A0", "/a;b=c;d", "/?a;b&c=%zz", "/a//b/../c", "//a/b", "/a?b?c", "/:80", "/\xc3\xa4",
	} {
		c, r := s.raw("GET " + uri + " HTTP/1.1\r\nHost: a.test:8080\r\n\r\n")
		res, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		var got seen
		if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
			t.Fatalf("%s: %d %v", uri, res.StatusCode, err)
		}
		if got.URI != uri || got.Host != "a.test:8080" {
			t.Errorf("the backend saw %q of %q, want %q", got.URI, got.Host, uri)
		}
		_ = c.Close()
	}
	if got := s.status("OPTIONS * HTTP/1.1\r\nHost: a.test\r\n\r\n"); got != 200 {
		t.Errorf("OPTIONS *: got %d", got)
	}
	if got := s.status("GET http://a.test/x HTTP/1.1\r\nHost: other.test\r\n\r\n"); got != 200 {
		t.Errorf("absolute form: got %d, want the host of the target to count", got)
	}
}

func TestForwardedHeaders(t *testing.T) {
	t.Parallel()
	claims := []string{
		"X-Forwarded-For", "9.9.9.9", "X-Forwarded-Proto", "https", "X-Forwarded-Protocol", "https", "X-Forwarded-Port", "443",
		"X-Forwarded-Host", "www.test", "X-Real-Ip", "9.9.9.9", "Forwarded", "for=9.9.9.9",
	}
	for name, c := range map[string]struct {
		host   string
		header []string
		want   map[string]string
	}{
		"nothing claimed": {"a.test:8080", nil, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Protocol": "http",
			"X-Forwarded-Port": "8080", "X-Forwarded-Host": "a.test:8080", "X-Real-Ip": "127.0.0.1",
		}},
		"claims not believed": {"a.test", claims, map[string]string{
			"X-Forwarded-For": "9.9.9.9, 127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Protocol": "http",
			"X-Forwarded-Port": "80", "X-Forwarded-Host": "a.test", "X-Real-Ip": "127.0.0.1",
		}},
		"a port that is no number": {"a.test:junk", nil, map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Protocol": "http",
			"X-Forwarded-Port": "80", "X-Forwarded-Host": "a.test:junk", "X-Real-Ip": "127.0.0.1",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newStage(t)
			s.frontend("a.test", mirror(t).URL)
			got := map[string]string{}
			for k, v := range s.get(c.host, c.header...).seen(t).Header {
				if strings.HasPrefix(k, "X-") || k == "Forwarded" {
					got[k] = strings.Join(v, "|")
				}
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestHopByHopHeadersStay(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	s.frontend("a.test", mirror(t).URL)
	got := s.get("a.test", "Connection", "X-Mine, Keep-Alive", "X-Mine", "1", "Keep-Alive", "5", "Proxy-Authorization", "x",
		"Authorization", "Bearer t", "Accept-Encoding", "gzip").seen(t).Header
	for _, h := range []string{"Connection", "X-Mine", "Keep-Alive", "Proxy-Authorization", "User-Agent-None"} {
		if v, ok := got[h]; ok {
			t.Errorf("%s: %q has got through", h, v)
		}
	}
	if got.Get("Authorization") != "Bearer t" || got.Get("Accept-Encoding") != "gzip" {
		t.Errorf("got %v, want the client's own headers", got)
	}
	got = s.get("a.test", "Connection", "Upgrade, HTTP2-Settings", "Upgrade", "h2c", "HTTP2-Settings", "AAMAAABkAAQAAP__").seen(t).Header
	for _, h := range []string{"Connection", "Upgrade", "Http2-Settings", "Accept-Encoding"} {
		if v, ok := got[h]; ok {
			t.Errorf("%s: %q was not for the backend", h, v)
		}
	}
}

func TestDebugHeaders(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	up := named(t, "up")
	s.frontend("*.test", "http://127.0.0.1:1", up.URL)
	s.redis.LSet(t.Context(), s.keys.Frontend("*.test"), 0, "the\r\nid\x01ü")
	s.redis.SAdd(t.Context(), s.keys.Dead("a.test"), 0)
	got := s.get("a.test:80", "X-Debug", "1").Header
	for h, want := range map[string]string{
		"X-Debug-Backend-Url": up.URL + "/", "X-Debug-Backend-Id": "1",
		"X-Debug-Frontend-Key": "a.test", "X-Debug-Vhost": "the??id?ü",
	} {
		if got.Get(h) != want {
			t.Errorf("%s: got %q, want %q", h, got.Get(h), want)
		}
	}
	if got.Get("X-Debug-Time-Total") == "" || got.Get("X-Debug-Time-Backend") == "" {
		t.Errorf("got no times: %v", got)
	}
	if got := s.get("none.example", "X-Debug", "1").Header.Get("X-Debug-Error"); !strings.Contains(got, "frontend not found") {
		t.Errorf("unknown host: got %q", got)
	}

	quiet := newStage(t, func(o *edge.Options) { o.Debug = false })
	quiet.frontend("a.test", up.URL)
	for _, a := range []answer{s.get("a.test"), quiet.get("a.test", "X-Debug", "1"), quiet.get("none.example", "X-Debug", "1")} {
		for h := range a.Header {
			if strings.HasPrefix(h, "X-Debug") {
				t.Errorf("got %s, want none", h)
			}
		}
	}
}

func TestErrorPages(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	got := s.get("none.example")
	if got.Header.Get("Content-Type") != "text/html; charset=utf-8" || got.Header.Get("Cache-Control") != "no-cache" ||
		!strings.HasPrefix(got.body, "<!doctype html>") || strings.Contains(got.body, "none.example") {
		t.Errorf("got %v %s", got.Header, got.body)
	}
	if head := s.do(http.MethodHead, "none.example", "/", nil); head.StatusCode != 400 || head.ContentLength != int64(len(got.body)) {
		t.Errorf("HEAD: got %d and a length of %d", head.StatusCode, head.ContentLength)
	}
}
