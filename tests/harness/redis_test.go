package harness_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"rollcall/tests/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(harness.Main(m), goleak.IgnoreAnyFunction(harness.DialsAgain))
}

func TestNewSharesOneServer(t *testing.T) {
	t.Parallel()
	a, b := harness.SharedRedis(t), harness.SharedRedis(t)
	key := harness.Prefix(t) + "key"
	if err := a.Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), key).Result(); got != "v" {
		t.Errorf("the second client reads %q, %v; want what the first wrote", got, err)
	}
}

func TestPrefixIsNeverTheSame(t *testing.T) {
	t.Parallel()
	if a, b := harness.Prefix(t), harness.Prefix(t); a == b {
		t.Errorf("got %q twice", a)
	}
}

func TestServerCanBeFrozenKilledAndRestarted(t *testing.T) {
	t.Parallel()
	s := harness.StartRedis(t)
	c := s.Client(t)
	get := func() (string, error) {
		ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
		defer cancel()
		return c.Get(ctx, "key").Result()
	}
	s.Restart(t, "--appendonly", "yes")
	if err := c.Set(t.Context(), "key", "kept", 0).Err(); err != nil {
		t.Fatal(err)
	}
	s.Freeze()
	if _, err := get(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("frozen: got %v, want a timeout", err)
	}
	s.Thaw()
	s.Kill()
	if got, err := get(); err == nil {
		t.Errorf("killed: got %q, want an error", got)
	}
	s.Restart(t, "--appendonly", "yes")
	if got, err := c.Get(t.Context(), "key").Result(); got != "kept" {
		t.Errorf("restarted with its file: got %q, %v; want what was written", got, err)
	}
	s.Restart(t)
	if got, err := c.Get(t.Context(), "key").Result(); err == nil {
		t.Errorf("restarted without: got %q, want nothing", got)
	}
}

func TestLinkCanBeCutAndLeadElsewhere(t *testing.T) {
	t.Parallel()
	here, there := harness.StartRedis(t), harness.StartRedis(t)
	link := harness.NewLink(t, here.Addr())
	c := redis.NewClient(&redis.Options{Addr: link.Addr(), ContextTimeoutEnabled: true, MaxRetries: -1})
	defer c.Close()
	set := func(value string) error {
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		return c.Set(ctx, "key", value, 0).Err()
	}
	for end := time.Now().Add(time.Minute); set("first") != nil && time.Now().Before(end); {
	}
	link.Cut()
	if err := set("second"); err == nil {
		t.Error("cut: it was written, want an error")
	}
	if got := here.Client(t).Get(t.Context(), "key").Val(); got != "first" {
		t.Errorf("the server has %q, want what was written before the cut", got)
	}
	link.Lead(here.Addr())
	link.Delay(100 * time.Millisecond)
	began := time.Now()
	if err := c.Ping(t.Context()).Err(); err != nil || time.Since(began) < 100*time.Millisecond {
		t.Errorf("delayed: %v after %s", err, time.Since(began))
	}
	link.Delay(0)
	link.Lead(there.Addr())
	for end := time.Now().Add(time.Minute); set("third") != nil && time.Now().Before(end); {
	}
	if got := there.Client(t).Get(t.Context(), "key").Val(); got != "third" {
		t.Errorf("the other server has %q, want what was written after it", got)
	}
}
