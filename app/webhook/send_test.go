package webhook_test

import (
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"rollcall/app"
	"rollcall/app/webhook"
)

func all(netip.Addr) bool { return true }

// ping sends a ping to a URL, with a timeout of its own unless that is zero.
func ping(t *testing.T, url string, timeout time.Duration) webhook.Attempt {
	t.Helper()
	s := webhook.NewSender(all, time.Now)
	if timeout > 0 {
		s.SetTimeout(timeout)
	}
	return s.Ping(t.Context(), webhook.Webhook{ID: "w", URL: url, Secret: secret, Format: webhook.EventFormat})
}

// serve runs a receiver until the test ends.
func serve(t *testing.T, handle http.HandlerFunc) string {
	t.Helper()
	s := httptest.NewServer(handle)
	t.Cleanup(func() {
		s.CloseClientConnections() // Close would wait for requests without an answer
		s.Close()
	})
	return s.URL
}

func TestMessagesAreSigned(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[http.Request]
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) {
		text, err := io.ReadAll(r.Body)
		verifier, _ := standardwebhooks.NewWebhook(secret)
		if err == nil {
			err = verifier.Verify(text, r.Header)
		}
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		got.Store(r)
	})
	a := ping(t, url+"/hooks?x=1", 0)
	r := got.Load()
	if !a.Passed || a.Code != 200 || a.Number != 1 || a.Kind != "ping" || a.Message != r.Header.Get("webhook-id") || a.Latency <= 0 {
		t.Errorf("the attempt is %+v", a)
	}
	if r.Method != http.MethodPost || r.URL.String() != "/hooks?x=1" || r.UserAgent() != "rollcall-webhook" ||
		r.Header.Get("Content-Type") != "application/json" || !r.Close {
		t.Errorf("the request is %s %s, %v", r.Method, r.URL, r.Header)
	}
}

func TestAWebhooksHeadersAreSent(t *testing.T) {
	t.Parallel()
	var got atomic.Pointer[http.Request]
	url := serve(t, func(_ http.ResponseWriter, r *http.Request) { got.Store(r) })
	w := webhook.Webhook{ID: "w", URL: url, Secret: secret, Format: webhook.AlertmanagerFormat, Headers: map[string]string{"Authorization": "Basic eDp5", "X-Key": "k"}}
	if a := webhook.NewSender(all, time.Now).Ping(t.Context(), w); !a.Passed {
		t.Fatalf("the attempt is %+v", a)
	}
	if r := got.Load(); r.Header.Get("Authorization") != "Basic eDp5" || r.Header.Get("X-Key") != "k" || r.Header.Get("webhook-id") == "" {
		t.Errorf("the header is %v", r.Header)
	}
}

func TestTheStatusDecidesAnAttempt(t *testing.T) {
	t.Parallel()
	for code, passes := range map[int]bool{200: true, 201: true, 204: true, 299: true, 300: false, 304: false, 400: false, 404: false, 500: false} {
		url := serve(t, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
		if a := ping(t, url, 0); a.Passed != passes || int(a.Code) != code {
			t.Errorf("%d: %+v", code, a)
		}
	}
}

func TestHostileAnswersDoNotDelayASender(t *testing.T) {
	t.Parallel()
	const brief = 300 * time.Millisecond
	var followed atomic.Bool
	lure := serve(t, func(http.ResponseWriter, *http.Request) { followed.Store(true) })
	for name, c := range map[string]struct {
		timeout time.Duration // zero: the default
		answer  http.HandlerFunc
		want    string
	}{
		"never": {brief, func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }, "timed out"},
		"a header for ever": {brief, raw(func(c net.Conn) {
			for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; time.Sleep(brief / 10) {
				_, err = io.WriteString(c, "X: x\r\n")
			}
		}), "timed out"},
		"headers without end": {0, raw(func(c net.Conn) {
			for _, err := io.WriteString(c, "HTTP/1.1 200 OK\r\n"); err == nil; {
				_, err = io.WriteString(c, "X: "+strings.Repeat("x", 1000)+"\r\n")
			}
		}), "not an answer of this protocol"},
		"interim answers without end": {0, raw(func(c net.Conn) {
			var err error
			for err == nil {
				_, err = io.WriteString(c, "HTTP/1.1 103 Early Hints\r\nX: x\r\n\r\n")
			}
		}), "not an answer of this protocol"},
		"a body for ever, taken": {0, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusOK)
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, "status 200 OK"},
		"a body for ever, refused": {brief, func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, "no ")
			_ = http.NewResponseController(w).Flush()
			<-r.Context().Done()
		}, `status 400 Bad Request: begins "no"`},
		"a large body": {0, func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusInternalServerError)
			_, _ = w.Write([]byte(strings.Repeat("secret", 2<<20)))
		}, `status 500 Internal Server Error: begins "secretsecretsecretsecret"`},
		"a redirect":        {0, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, lure, http.StatusTemporaryRedirect) }, "status 307 Temporary Redirect"},
		"an early end":      {0, raw(func(net.Conn) {}), "connection closed early"},
		"no HTTP":           {0, raw(func(c net.Conn) { _, _ = io.WriteString(c, "SSH-2.0-x\r\n\r\n") }), "not an answer of this protocol"},
		"control codes":     {0, func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "\x1b[31mno", 400) }, `status 400 Bad Request: begins "\x1b[31mno"`},
		"an odd status":     {0, raw(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 999 X\r\n\r\n") }), "status 999"},
		"a negative status": {0, raw(func(c net.Conn) { _, _ = io.WriteString(c, "HTTP/1.1 -99 X\r\n\r\n") }), "not an answer of this protocol"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a := ping(t, serve(t, func(w http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // only then does the server notice the end of the connection
				c.answer(w, r)
			}), c.timeout)
			if a.Passed != strings.HasPrefix(c.want, "status 200") || !strings.HasPrefix(a.Reason(), c.want) {
				t.Errorf("got %q, want %q", a.Reason(), c.want)
			}
			if c.timeout > 0 && a.Latency < c.timeout/2 {
				t.Errorf("it took %s: the receiver did not hold it up", a.Latency)
			}
		})
	}
	t.Cleanup(func() {
		if followed.Load() {
			t.Error("a redirect was followed")
		}
	})
}

// raw answers with any bytes.
func raw(answer func(net.Conn)) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err == nil {
			answer(c)
			_ = c.Close()
		}
	}
}

func TestUnreachableReceivers(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	_ = l.Close()
	for url, want := range map[string]string{
		"http://" + l.Addr().String() + "/token-in-the-path": "connection refused",
		"http://169.254.169.254/token-in-the-path":           "address not allowed: 169.254.169.254",
		"http://[::ffff:169.254.169.254]/token-in-the-path":  "address not allowed: 169.254.169.254",
		"http://2852039166/token-in-the-path":                "", // that address as a number: a name that nobody has
		"http://0.0.0.0:80/token-in-the-path":                "address not allowed: 0.0.0.0",
		"http://user.invalid/token-in-the-path":              "",
	} {
		a := ping(t, url, time.Second)
		if a.Passed || !strings.HasPrefix(a.Reason(), want) || strings.Contains(a.Reason(), "token") {
			t.Errorf("%s: got %+v, want %q", url, a, want)
		}
	}
}

func TestACertificateThatIsNotTrusted(t *testing.T) {
	t.Parallel()
	s := httptest.NewUnstartedServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was told") }))
	s.Config.ErrorLog = slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)
	s.StartTLS()
	t.Cleanup(s.Close)
	if a := ping(t, s.URL, 0); a.Passed || a.Detail != "its certificate is not trusted" {
		t.Errorf("got %+v", a)
	}
}

func TestOnlyAllowedAddressesAreCalled(t *testing.T) {
	t.Parallel()
	url := serve(t, func(http.ResponseWriter, *http.Request) {})
	s := webhook.NewSender(func(a netip.Addr) bool { return !a.IsLoopback() }, time.Now)
	a := s.Ping(t.Context(), webhook.Webhook{ID: "w", URL: url, Secret: secret, Format: webhook.EventFormat})
	if a.Passed || a.Code != app.Forbidden {
		t.Errorf("got %+v, want it refused", a)
	}
}

// A proxy of the environment would see the messages, and could connect to any address.
func TestNoProxyIsUsed(t *testing.T) { //nolint:paralleltest // it sets the environment
	url := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if r.URL.IsAbs() {
			w.WriteHeader(http.StatusTeapot)
		}
	})
	for _, name := range []string{"HTTP_PROXY", "http_proxy", "ALL_PROXY"} {
		t.Setenv(name, url)
	}
	if a := ping(t, "http://receiver.invalid/", time.Second); a.Passed || a.Code == http.StatusTeapot {
		t.Errorf("got %+v, want no answer", a)
	}
}
