package handlers_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers"
	"rollcall/tests/harness"
)

func TestRunJob(t *testing.T) {
	t.Parallel()
	ran := ""
	s := newServiceOn(t, nil, func(a *handlers.API) {
		a.Jobs = jobs{"probe": func(context.Context) error { ran += "probe"; return nil }}
	})
	type done struct {
		Job    string
		TookMS *int64 `json:"took_ms"`
	}
	got := decode[done](s.call(http.MethodPost, "/v1/jobs/probe/run", nil).want(http.StatusOK))
	if got.Job != "probe" || got.TookMS == nil || ran != "probe" {
		t.Errorf("got %+v, ran %q", got, ran)
	}
	p := s.call(http.MethodPost, "/v1/jobs/dance/run", nil).problem(http.StatusNotFound)
	if p.Detail != `job "dance" (there are compact, probe): not found` {
		t.Errorf("unknown: got %+v", p)
	}
}

// TestFailures has a job fail in every way, as any call might.
func TestFailures(t *testing.T) {
	t.Parallel()
	const secret = "dial tcp 10.9.8.7:6379: password hunter2"
	for name, c := range map[string]struct {
		run  func(context.Context) error
		want problem
		logs string
	}{
		"internal": {
			func(context.Context) error { return errors.New(secret) },
			problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: 500},
			"level=ERROR",
		},
		"panic": {
			func(context.Context) error { panic(secret) },
			problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: 500},
			"level=ERROR",
		},
		"unavailable": {
			func(context.Context) error { return fmt.Errorf("get: %w: %s", app.ErrUnavailable, secret) },
			problem{Type: "urn:rollcall:unavailable", Title: "The registry cannot be reached", Status: 503, Want: "try again: every call may be repeated"},
			"level=WARN",
		},
		"uncertain": {
			func(context.Context) error {
				return fmt.Errorf("commit: %w: %w: %s", app.ErrUnavailable, app.ErrUncertain, secret)
			},
			problem{Type: "urn:rollcall:unavailable", Title: "The registry cannot be reached", Status: 503, Want: "the change may have been made all the same; try again: every call may be repeated"},
			"level=WARN",
		},
		"deadline": {
			func(context.Context) error { return fmt.Errorf("%s: %w", secret, context.DeadlineExceeded) },
			problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: 500},
			"level=ERROR",
		},
		"canceled, and not by the caller": {
			func(context.Context) error { return fmt.Errorf("%s: %w", secret, context.Canceled) },
			problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: 500},
			"level=ERROR",
		},
		"conflict": {
			func(context.Context) error { return fmt.Errorf("instance w1: %w", app.ErrConflict) },
			problem{Type: "urn:rollcall:conflict", Title: "Conflict", Status: 409, Detail: "instance w1: conflict", Want: "try again"},
			"",
		},
		"wrapped echo error": {
			func(context.Context) error {
				return fmt.Errorf("wrapped: %w", echo.NewHTTPError(http.StatusTeapot, secret))
			},
			problem{Type: "about:blank", Title: "I'm a teapot", Status: 418},
			"",
		},
		"echo error of the server": {
			func(context.Context) error { return echo.NewHTTPError(http.StatusInternalServerError, secret) },
			problem{Type: "about:blank", Title: "Internal Server Error", Status: 500},
			"level=ERROR",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServiceOn(t, nil, func(a *handlers.API) { a.Jobs = jobs{"probe": c.run} })
			a := s.call(http.MethodPost, "/v1/jobs/probe/run", nil).do()
			same(t, "problem", a.problem(c.want.Status), c.want)
			if again := a.Header().Get("Retry-After"); (again == "1") != (c.want.Status == 503) {
				t.Errorf("Retry-After is %q", again)
			}
			if strings.Contains(a.Body.String(), "hunter2") {
				t.Errorf("told the caller: %s", a.Body)
			}
			logged := s.logs.String()
			if logs := c.logs != ""; strings.Count(logged, "\n") > 1 || strings.Contains(logged, "hunter2") != logs || !strings.Contains(logged, c.logs) {
				t.Errorf("logged %s", logged)
			}
		})
	}
}

func TestInternalErrorsStayInside(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.corrupt("w1")
	a := s.get("/v1/instances/w1").do()
	if p := a.problem(http.StatusInternalServerError); p.Detail != "" || strings.Contains(a.Body.String(), "decode") {
		t.Errorf("got %+v", p)
	}
	if logged := s.logs.String(); !strings.Contains(logged, "decode instance w1") || !strings.Contains(logged, "path=/v1/instances/:id") {
		t.Errorf("logged %s", logged)
	}
}

func TestRegistryOutOfReach(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := newServiceOn(t, server.Client(t))
	s.register("service", "web", "port", "80", "id", "w1")
	for outage, begin := range map[string]func(){"hangs": server.Freeze, "is down": server.Kill} {
		begin()
		began := time.Now()
		var answers []<-chan answer
		for _, c := range []call{
			s.form(http.MethodPost, "/v1/register?wait=5m", "service", "web", "port", "80"),
			s.get("/v1/instances/w1"),
			s.form(http.MethodPost, "/v1/instances/w1/heartbeat"),
			s.form(http.MethodPost, "/v1/instances/w1/drain"),
			s.call(http.MethodDelete, "/v1/instances/w1", nil),
			s.form(http.MethodPatch, "/v1/instances/w1", "weight", "2", "for", "1m"),
		} {
			answers = append(answers, c.start())
		}
		for _, answer := range answers {
			a := <-answer
			if p := a.problem(http.StatusServiceUnavailable); !strings.HasPrefix(p.Detail, "Redis ") || strings.Contains(p.Detail, "127.0.0.1") || a.Header().Get("Retry-After") != "1" {
				t.Errorf("%s when it %s: got %v %+v", a.call, outage, a.Header(), p)
			}
			if took := time.Since(began); took > 10*time.Second {
				t.Errorf("%s when it %s: answered after %s", a.call, outage, took)
			}
		}
	}
}

// TestPagesOfOtherSites: a browser sends a form anywhere without asking first.
func TestPagesOfOtherSites(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	before := s.stored()
	for _, c := range []call{
		s.form(http.MethodPost, "/v1/instances/w1/drain?hold=0s").header("Sec-Fetch-Site", "cross-site"),
		s.form(http.MethodPost, "/v1/instances/w1/drain?hold=0s").header("Origin", "https://evil.example"),
		s.call(http.MethodDelete, "/v1/instances/w1", nil).header("Sec-Fetch-Site", "same-site"),
	} {
		if p := c.problem(http.StatusForbidden); p.Type != "urn:rollcall:cross-origin" || p.Want == "" {
			t.Errorf("%s: got %+v", c, p)
		}
	}
	same(t, "what is stored", s.stored(), before)
	s.get("/v1/services").header("Sec-Fetch-Site", "cross-site").want(http.StatusOK)
	s.form(http.MethodPost, "/v1/instances/w1/drain?hold=0s").header("Sec-Fetch-Site", "same-origin").want(http.StatusOK)
}

func TestReady(t *testing.T) {
	t.Parallel()
	s := newService(t)
	receipt := s.register("service", "web", "port", "80")
	s.await(func() bool { return string(s.api.Replica.Revision()) == receipt.Revision })
	type ready struct {
		Revision string
		AgeMS    *int64 `json:"age_ms"`
	}
	got := decode[ready](s.get("/readyz").want(http.StatusOK))
	if got.Revision != receipt.Revision || got.AgeMS == nil || *got.AgeMS > 2000 {
		t.Errorf("got %+v", got)
	}
	s.get("/readyz?verbose").want(http.StatusOK)
	if got := s.get("/livez?x=1").want(http.StatusOK).Body.String(); got != "ok\n" {
		t.Errorf("livez: got %q", got)
	}
}

// use is the advice of a 405 whose path has some methods.
func use(methods string) string {
	if strings.Contains(methods, ",") {
		return "use one of " + methods
	}
	return "use " + methods
}

func TestPathsThatAreNotThere(t *testing.T) {
	t.Parallel()
	s := newServiceOn(t, nil)
	for _, path := range []string{"/v1", "/v1/", "/v2/services", "/v1/instances", "/v1/instances/", "/v1/instances/a/b", "/%2e%2e/etc/passwd", "/v1/register/x", "/livez/"} {
		if p := s.get(path).problem(http.StatusNotFound); p.Type != "about:blank" || p.Title != "Not Found" {
			t.Errorf("%s: got %+v", path, p)
		}
	}
	for path, want := range map[string]string{
		"/register": "call /v1/register", "/v1/services/": "call /v1/services", "/livez//": "call /livez",
		"/v2/services": "see /openapi.yaml for the paths",
	} {
		if p := s.get(path).problem(http.StatusNotFound); p.Want != want {
			t.Errorf("%s: want is %q, not %q", path, p.Want, want)
		}
	}
	for _, c := range []struct{ method, path, allow string }{
		{http.MethodGet, "/v1/register", "OPTIONS, POST"},
		{http.MethodPut, "/v1/instances/w1", "OPTIONS, DELETE, GET, HEAD, PATCH"},
		{http.MethodPost, "/v1/services", "OPTIONS, GET, HEAD"},
		{http.MethodGet, "/v1/jobs/probe/run", "OPTIONS, POST"},
		{"BREW", "/livez", "OPTIONS, GET, HEAD"},
	} {
		a := s.call(c.method, c.path, nil).do()
		methods := strings.TrimPrefix(c.allow, "OPTIONS, ")
		if p := a.problem(http.StatusMethodNotAllowed); p.Title != "Method Not Allowed" || p.Want != use(methods) || a.Header().Get("Allow") != c.allow {
			t.Errorf("%s %s: got %+v, allowed %q", c.method, c.path, p, a.Header().Get("Allow"))
		}
	}
}

// TestHead is about a real server: it leaves out the body that a handler writes.
func TestHead(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1", "health", "none")
	server := httptest.NewServer(s.http)
	defer server.Close()
	fetch := func(method, path string) (status int, header http.Header, body string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, server.URL+path, nil)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, resp.Header, string(text)
	}
	for _, path := range []string{
		"/livez", "/readyz", "/v1/services", "/v1/services/web", "/v1/services/nobody", "/v1/services/web/pick", "/v1/services/web/env", "/v1/env?link=web",
		"/v1/instances/w1", "/v1/instances/nobody", "/v1/frontends", "/v1/explain?host=a.test", "/v1/sd/prometheus", "/v1/traefik", "/v1/tls/ask?domain=a.test", "/openapi.yaml", "/nowhere",
	} {
		status, header, _ := fetch(http.MethodGet, path)
		got, gotHeader, body := fetch(http.MethodHead, path)
		if got != status || body != "" || gotHeader.Get("Content-Type") != header.Get("Content-Type") || gotHeader.Get("ETag") != header.Get("ETag") {
			t.Errorf("%s: HEAD answers %d %v %q, GET %d %v", path, got, gotHeader, body, status, header)
		}
	}
}
