package e2e

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// routed returns the backends that Hipache would choose from for a vhost: its list
// without the positions in its dead set; and the list itself. Both are read as of one
// moment.
func routed(ctx context.Context, rdb *redis.Client, host string) (pick, list []string, err error) {
	var entries, dead *redis.StringSliceCmd
	_, err = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		entries = p.LRange(ctx, "frontend:"+host, 0, -1)
		dead = p.SMembers(ctx, "dead:"+host)
		return nil
	})
	if err != nil || len(entries.Val()) == 0 {
		return nil, nil, err
	}
	list = entries.Val()[1:]
	for position, url := range list {
		if !slices.Contains(dead.Val(), strconv.Itoa(position)) {
			pick = append(pick, url)
		}
	}
	return pick, list, nil
}

// awaitPick waits until Hipache would choose from exactly these backends.
func awaitPick(t testing.TB, rdb *redis.Client, host string, want ...string) {
	t.Helper()
	eventually(t, bound, func() error {
		pick, list, err := routed(t.Context(), rdb, host)
		if err == nil && !sameSet(pick, want) {
			err = fmt.Errorf("Hipache would choose from %q for %s (list %q), want %q", pick, host, list, want)
		}
		return err
	})
}

// awaitList waits until a vhost's list has exactly these backends.
func awaitList(t testing.TB, rdb *redis.Client, host string, want ...string) {
	t.Helper()
	eventually(t, bound, func() error {
		_, list, err := routed(t.Context(), rdb, host)
		if err == nil && !sameSet(list, want) {
			err = fmt.Errorf("the list of %s is %q, want %q", host, list, want)
		}
		return err
	})
}

func sameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// visitor makes requests as end users do, through an edge.
type visitor struct {
	edge   string // host:port
	client *http.Client
}

func newVisitor(edge string, patience time.Duration) visitor {
	return visitor{edge: edge, client: &http.Client{Timeout: patience, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}}
}

// visit asks for a vhost's front page. id names the request to backends that keep such
// things; it may be empty.
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

// awaitVisit waits until a vhost is served by a backend.
func (v visitor) awaitVisit(t testing.TB, host string, by ...*backend) {
	t.Helper()
	eventually(t, bound, func() error {
		status, body, err := v.visit(t.Context(), host, "")
		if err != nil || status != http.StatusOK {
			return errors.Join(err, fmt.Errorf("%s: %d %.200s", host, status, body))
		}
		for _, b := range by {
			if body == b.addr {
				return nil
			}
		}
		return fmt.Errorf("%s was served by %s", host, body)
	})
}
