package boot

import (
	"log/slog"
	"sync/atomic"
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/alicebob/miniredis/v2/server"
)

// Redis would carry out a write twice if the answer to the first was lost.
func TestNoCallIsMadeAgainByItself(t *testing.T) {
	t.Parallel()
	var calls atomic.Int32
	m := miniredis.RunT(t)
	m.Server().SetPreHook(func(c *server.Peer, command string, _ ...string) bool {
		if command == "INCR" {
			calls.Add(1)
			c.Close()
		}
		return command == "INCR"
	})
	rdb, err := connect(t.Context(), "redis://"+m.Addr(), awaitRedis, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	defer rdb.Close()
	if err := rdb.Incr(t.Context(), "n").Err(); err == nil || calls.Load() != 1 {
		t.Errorf("%d calls and %v, want one and an error", calls.Load(), err)
	}
}
