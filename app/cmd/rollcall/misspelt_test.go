package main

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

func TestAMisspeltNameDiffersByOneLetter(t *testing.T) {
	t.Parallel()
	registered := []string{"checkout", "api", "worker-1", "worker"}
	for _, c := range []struct{ name, want string }{
		{"checkuot", "checkout"},
		{"chekout", "checkout"},
		{"checkouts", "checkout"},
		{"chackout", "checkout"},
		{"checkout", ""},
		{"chekuot", ""},
		{"app", ""},
		{"worker-2", ""},
		{"worker2", ""},
		{"workers", ""},
	} {
		if got := misspeltFor(c.name, registered, []string{c.name, "worker"}); got != c.want {
			t.Errorf("%s is taken for %q, want %q", c.name, got, c.want)
		}
	}
}

// TestWaitEndsAtOnceWithAMisspeltName waits for three unregistered services. Only one of them has a history.
func TestWaitEndsAtOnceWithAMisspeltName(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/v1/services":
			_, _ = io.WriteString(w, `{"services": [{"name": "checkout"}]}`)
		case "/v1/services/checkouts/history":
			_, _ = io.WriteString(w, `{}`)
		case "/v1/services/checkuot/history":
			w.WriteHeader(http.StatusNotFound)
		default: // the wait
			<-r.Context().Done()
		}
	}))
	t.Cleanup(server.Close)
	wait := func(within time.Duration, args ...string) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		return run(ctx, append([]string{"wait", "-q", "--timeout", "1h", "--url", server.URL}, args...), nil, io.Discard, io.Discard)
	}
	err := wait(time.Minute, "checkuot")
	if code := exitCode(t.Context(), err); code != exitNo || !strings.Contains(err.Error(), `"checkuot" has never been registered; did you mean checkout?`) {
		t.Errorf("wait checkuot ends with %d, %v", code, err)
	}
	for _, names := range []string{"checkouts", "checkuot checkout", "other"} {
		if err := wait(300*time.Millisecond, strings.Fields(names)...); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
			t.Errorf("wait %s ends with %v, want it to wait", names, err)
		}
	}
}
