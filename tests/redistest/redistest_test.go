package redistest_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"go.uber.org/goleak"

	"rollcall/tests/redistest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(redistest.Main(m)) }

func TestNewSharesOneServer(t *testing.T) {
	t.Parallel()
	a, b := redistest.New(t), redistest.New(t)
	key := redistest.Prefix(t) + "key"
	if err := a.Set(t.Context(), key, "v", 0).Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := b.Get(t.Context(), key).Result(); got != "v" {
		t.Errorf("the second client reads %q, %v; want what the first wrote", got, err)
	}
}

func TestPrefixIsNeverTheSame(t *testing.T) {
	t.Parallel()
	if a, b := redistest.Prefix(t), redistest.Prefix(t); a == b {
		t.Errorf("got %q twice", a)
	}
}

func TestServerCanBeFrozenKilledAndRestarted(t *testing.T) {
	t.Parallel()
	s := redistest.Start(t)
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
