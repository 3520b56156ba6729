package probe_test

import (
	"crypto/tls"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
)

func TestHTTPRequest(t *testing.T) {
	t.Parallel()
	seen := make(chan *http.Request, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r }))
	t.Cleanup(s.Close)
	i := instance(app.HTTP, s.Listener.Addr().String(), ample)
	i.Check.Path = "/healthz?full=1"
	expect(t, i, pass(200))

	r := <-seen
	got := fmt.Sprint(r.Proto, " ", r.Method, " ", r.RequestURI, " ", r.Host, " close=", r.Close, " length=", r.ContentLength)
	if want := "HTTP/1.1 GET /healthz?full=1 " + i.Address + " close=true length=0"; got != want {
		t.Errorf("request is %s, want %s", got, want)
	}
	want := http.Header{"User-Agent": {"rollcall-probe"}, "Accept": {"*/*"}, "Connection": {"close"}}
	if diff := cmp.Diff(want, r.Header); diff != "" {
		t.Errorf("header (-want +got):\n%s", diff)
	}
}

func TestHostHeaderIsTheGivenOneElseTheFirstVhostElseTheAddress(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Host }))
	t.Cleanup(s.Close)
	address := s.Listener.Addr().String()
	for _, row := range []struct {
		given string
		hosts []string
		want  string
	}{
		{"", nil, address},
		{"", []string{"*"}, address},
		{"", []string{"*.shop.example", "a.example", "b.example"}, "a.example"},
		{"own.example:81", []string{"a.example"}, "own.example:81"},
	} {
		i := instance(app.HTTP, address, ample)
		i.Hosts, i.Check.Host = row.hosts, row.given
		expect(t, i, pass(200))
		if got := <-seen; got != row.want {
			t.Errorf("with the vhosts %q the Host header is %s, want %s", row.hosts, got, row.want)
		}
	}
}

func TestHTTPSendsTheHeadersOfTheCheck(t *testing.T) {
	t.Parallel()
	ca := newAuthority(t)
	seen := make(chan http.Header, 1)
	handler := http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { seen <- r.Header })
	plain, secure := httptest.NewServer(handler), httptest.NewUnstartedServer(handler)
	secure.TLS, secure.EnableHTTP2 = &tls.Config{Certificates: []tls.Certificate{ca.issue(t, certificate("127.0.0.1"))}}, true
	secure.StartTLS()
	t.Cleanup(func() { plain.Close(); secure.Close() })
	for address, isTLS := range map[string]bool{plain.Listener.Addr().String(): false, secure.Listener.Addr().String(): true} {
		for headers, accept := range map[string]string{
			"Authorization: Bearer t0ken\r\nX-Accept: b\r\n":        "*/*",
			"Accept: text/plain\r\nAuthorization: Bearer t0ken\r\n": "text/plain",
		} {
			i := instance(app.HTTP, address, ample)
			i.Check.TLS, i.Check.Headers = isTLS, headers
			same(t, run(t, ca.prober(), i), pass(200))
			got := <-seen
			if all := got.Values("Accept"); got.Get("Authorization") != "Bearer t0ken" || len(all) != 1 || all[0] != accept || got.Get("User-Agent") != "rollcall-probe" {
				t.Errorf("TLS %t, headers %q: the server got %v", isTLS, headers, got)
			}
		}
	}
}

func TestHEADReadsNoBody(t *testing.T) {
	t.Parallel()
	seen := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen <- r.Method
		w.Header().Set("Content-Length", "100")
	}))
	t.Cleanup(s.Close)
	i := instance(app.HTTP, s.Listener.Addr().String(), ample)
	i.Check.Method = http.MethodHead
	expect(t, i, pass(200))
	if got := <-seen; got != http.MethodHead {
		t.Errorf("the method is %s", got)
	}
}

func TestHTTPAnswers(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	for name, c := range map[string]struct {
		answer string
		body   string // of the check
		want   app.Result
	}{
		"no body":           {ok + "Content-Length: 0\r\n\r\n", "", pass(200)},
		"no reason":         {"HTTP/1.1 204\r\n\r\n", "", pass(204)},
		"HTTP/1.0":          {"HTTP/1.0 200 OK\r\n\r\nfine", "fine", pass(200)},
		"redirect":          {"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\n\r\n", "", pass(302)},
		"unavailable":       {"HTTP/1.1 503 Service Unavailable\r\n\r\nsecret", "", fail(503, "want 200-399")},
		"interim":           {"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok + "\r\n", "", pass(200)},
		"switching":         {"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", "", fail(101, "want 200-399")},
		"body":              {ok + "Content-Length: 13\r\n\r\nstatus is UP\n", "UP", pass(200)},
		"chunked":           {ok + "Transfer-Encoding: chunked\r\n\r\n4\r\nstat\r\n5\r\nus UP\r\n0\r\n\r\n", "status UP", pass(200)},
		"one-byte chunks":   {ok + "Transfer-Encoding: chunked\r\n\r\n" + strings.Repeat("1\r\nx\r\n", 5000), "x", pass(200)},
		"other body":        {ok + "\r\nDOWN, password is secret", "UP", fail(app.BodyMismatch, "status 200, looked at 24 bytes")},
		"at the end of 4K":  {ok + "\r\n" + strings.Repeat("x", 4094) + "UP", "UP", pass(200)},
		"past 4K":           {ok + "\r\n" + strings.Repeat("x", 4095) + "UP", "UP", fail(app.BodyMismatch, "status 200, looked at 4096 bytes")},
		"long":              {ok + "Content-Length: 9000000\r\n\r\n" + strings.Repeat("x", 4096), "", pass(200)},
		"header of 20K":     {ok + strings.Repeat("X-Filler: 0123456789012345678\r\n", 640) + "\r\nfine", "fine", pass(200)},
		"one line of 300K":  {ok + "X-Filler: " + strings.Repeat("x", 300_000) + "\r\nContent-Length: 4\r\n\r\nfine and more", "fine", pass(200)},
		"a name of 300K":    {ok + strings.Repeat("x", 300_000) + ": y\r\n\r\nfine", "fine", pass(200)},
		"20,000 headers":    {ok + strings.Repeat("X: y\r\n", 20_000) + "\r\nfine", "fine", pass(200)},
		"long reason":       {"HTTP/1.1 200 " + strings.Repeat("x", 10_000) + "\r\n\r\nfine", "fine", pass(200)},
		"line feeds only":   {"HTTP/1.1 200 OK\nContent-Length: 4\n\nfine", "fine", pass(200)},
		"folded header":     {ok + "X: a\r\n b\r\nContent-Length:\r\n\t4\r\n\r\nfine and more", "fine", pass(200)},
		"trailers":          {ok + "Trailer: A\r\nTransfer-Encoding: chunked\r\n\r\n4;x=\"y\"\r\nfine\r\n0\r\nA: b\r\nC: d\r\n\r\n", "fine", pass(200)},
		"chunks and length": {ok + "Content-Length: 1\r\nTransfer-Encoding: Chunked\r\n\r\n4\r\nfine\r\n0\r\n\r\n", "fine", pass(200)},
		"equal lengths":     {ok + "Content-Length: 4\r\ncontent-length: 4\r\n\r\nfine", "fine", pass(200)},
		"chunks of old":     {"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfine", "fine", pass(200)},
		"length with 204":   {"HTTP/1.1 204 No Content\r\nContent-Length: 100\r\n\r\n", "", pass(204)},
		"length with 304":   {"HTTP/1.1 304 Not Modified\r\nContent-Length: 100\r\n\r\n", "", pass(304)},
		"interim of 20K":    {"HTTP/1.1 103 Early Hints\r\n" + strings.Repeat("Link: </0123456789012345678>\r\n", 640) + "\r\n" + ok + "\r\nfine", "fine", pass(200)},
		"bytes in a header": {ok + "X: \x80\xff\r\n\r\nfine", "fine", pass(200)},
		"half a bad body":   {"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 100\r\n\r\nhalf", "", fail(503, "want 200-399")},
		"bad and unknown":   {"HTTP/1.1 500 x\r\nTransfer-Encoding: secret\r\n\r\n", "", fail(500, "want 200-399")},
		"half a status":     {"HTTP/1.1 20", "", fail(app.ClosedEarly, "")},
		"half a header":     {ok + "Content-Le", "", fail(app.ClosedEarly, "")},
		"half a body":       {ok + "Content-Length: 100\r\n\r\nhalf", "", fail(app.ClosedEarly, "")},
		"half a chunk":      {ok + "Transfer-Encoding: chunked\r\n\r\n64\r\nhalf", "", fail(app.ClosedEarly, "")},
		"only interim":      {"HTTP/1.1 100 Continue\r\n\r\n", "", fail(app.ClosedEarly, "")},
		"another protocol":  {"SSH-2.0-OpenSSH_9.2p1 Debian-2\r\n", "", fail(app.BadAnswer, `begins "SSH-2.0-OpenSSH_9.2p1"`)},
		"binary":            {"\x00\x00\x06\x04\x00\x00\xff\x1b[31m", "", fail(app.BadAnswer, `begins "\x00\x00\x06\x04\x00\x00\xff\x1b[31m"`)},
		"no number":         {"HTTP/1.1 two hundred\r\n\r\n", "", fail(app.BadAnswer, "malformed HTTP status code")},
		"below any status":  {"HTTP/1.1 012 Reset\r\n\r\n", "", fail(app.BadAnswer, "has the status 012")},
		"above any status":  {"HTTP/1.1 999 x\r\n\r\n", "", fail(app.BadAnswer, "has the status 999")},
		"no header":         {ok + "password secret\r\n\r\n", "", fail(app.BadAnswer, "malformed header")},
		"no length":         {ok + "Content-Length: secret\r\n\r\n", "", fail(app.BadAnswer, "bad Content-Length")},
		"two lengths":       {ok + "Content-Length: 1\r\nContent-Length: 2\r\n\r\n", "", fail(app.BadAnswer, "bad Content-Length")},
		"unknown encoding":  {ok + "Transfer-Encoding: secret\r\n\r\n", "", fail(app.BadAnswer, "unsupported transfer encoding")},
		"malformed chunk":   {ok + "Transfer-Encoding: chunked\r\n\r\nx\r\n", "", fail(app.BadAnswer, "invalid byte in chunk length")},
		"status of a list":  {"HTTP/1.1 200 \r\n\r\n", "", pass(200)},
		"header is the end": {ok + "\r\n", "UP", fail(app.BodyMismatch, "status 200, looked at 0 bytes")},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := instance(app.HTTP, listen(t, answers(c.answer)), ample)
			i.Check.Body = c.body
			expect(t, i, c.want)
		})
	}
}

func TestHTTPStatusesAreOneOfTheList(t *testing.T) {
	t.Parallel()
	address := listen(t, answers("HTTP/1.1 401 Unauthorized\r\n\r\n"))
	i := instance(app.HTTP, address, ample)
	i.Check.Statuses = "200-299,401"
	expect(t, i, pass(401))
	i.Check.Statuses = "200-299,404"
	expect(t, i, fail(401, "want 200-299,404"))
}

func TestHTTPStatusRange(t *testing.T) {
	t.Parallel()
	address := listen(t, answers("HTTP/1.1 404 Not Found\r\n\r\n"))
	i := instance(app.HTTP, address, ample)
	i.Check.Statuses = "404"
	expect(t, i, pass(404))
	i.Check.Statuses = "200-403"
	expect(t, i, fail(404, "want 200-403"))
}

func TestHTTPReadsABoundedAnswer(t *testing.T) {
	t.Parallel()
	const ok = "HTTP/1.1 200 OK\r\n"
	tooLong := fail(app.BadAnswer, "longer than a probe reads")
	for name, c := range map[string]struct {
		first, more string
		want        app.Result
	}{
		"endless header line": {ok + "X: ", "x", tooLong},
		"endless headers":     {ok, "X: y\r\n", tooLong},
		"endless status line": {"HTTP/1.1 200 ", "x", tooLong},
		"endless interim":     {"", "HTTP/1.1 100 Continue\r\n\r\n", tooLong},
		"endless body":        {ok + "\r\n", "x", pass(200)},
		"endless chunks":      {ok + "Transfer-Encoding: chunked\r\n\r\n", "3e8\r\n" + strings.Repeat("x", 1000) + "\r\n", pass(200)},
		"endless chunk size":  {ok + "Transfer-Encoding: chunked\r\n\r\n", "0", fail(app.BadAnswer, "header line too long")},
		"endless empty lines": {"", "\r\n", fail(app.BadAnswer, `begins ""`)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			handle := afterRequest(repeats(c.first, c.more))
			expect(t, instance(app.HTTP, listen(t, handle), ample), c.want)
		})
	}
}

func TestHTTPTimesOutOnASlowAnswer(t *testing.T) {
	t.Parallel()
	for name, answer := range map[string]string{
		"header": "HTTP/1.1 200 OK\r\n" + strings.Repeat("X: y\r\n", 1000),
		"body":   "HTTP/1.1 200 OK\r\n\r\n" + strings.Repeat("x", 4000),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			drip := afterRequest(func(c net.Conn) {
				for _, b := range []byte(answer) {
					if _, err := c.Write([]byte{b}); err != nil {
						return
					}
					<-time.After(time.Millisecond)
				}
			})
			expect(t, instance(app.HTTP, listen(t, drip), brief), fail(app.Stalled, "connected, but no whole answer"))
		})
	}
}
