package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

// awaitPick waits until Hipache would select from exactly these backends.
func awaitPick(t testing.TB, rdb *redis.Client, host string, want ...string) {
	t.Helper()
	harness.Eventually(t, func() error {
		pick, list, err := harness.Routed(t.Context(), rdb, host)
		if err == nil && !harness.SameSet(pick, want) {
			err = fmt.Errorf("Hipache would choose from %q for %s (list %q), want %q", pick, host, list, want)
		}
		return err
	})
}

// awaitList waits until a vhost's list has exactly these backends.
func awaitList(t testing.TB, rdb *redis.Client, host string, want ...string) {
	t.Helper()
	harness.Eventually(t, func() error {
		_, list, err := harness.Routed(t.Context(), rdb, host)
		if err == nil && !harness.SameSet(list, want) {
			err = fmt.Errorf("the list of %s is %q, want %q", host, list, want)
		}
		return err
	})
}

// visitor sends requests through an edge as end users do.
type visitor struct {
	edge   string // host:port
	client *http.Client
}

func newVisitor(edge string) visitor {
	return visitor{edge: edge, client: &http.Client{Timeout: harness.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
}

// visit requests a vhost's front page. id names the request to backends that record requests; it
// may be empty.
func (v visitor) visit(ctx context.Context, host, id string) (status int, body string, err error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.edge+"/", nil)
	if err != nil {
		return 0, "", err
	}
	req.Host = host
	if id != "" {
		req.Header.Set("X-Id", id)
	}
	resp, err := v.client.Do(req)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, strings.TrimSpace(string(text)), err
}

// awaitVisit waits until a backend answers for a vhost.
func (v visitor) awaitVisit(t testing.TB, host string, by ...*harness.Backend) {
	t.Helper()
	harness.Eventually(t, func() error {
		status, body, err := v.visit(t.Context(), host, "")
		if err != nil || status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("%s: %d %.200s", host, status, body))
		}
		for _, b := range by {
			if body == b.Addr {
				return nil
			}
		}
		return fmt.Errorf("%s was served by %s", host, body)
	})
}
