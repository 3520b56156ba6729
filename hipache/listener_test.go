package hipache_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
	"rollcall/tests/harness"
)

// hears waits for a value.
func hears[T any](t *testing.T, from <-chan T, what string) (v T) {
	t.Helper()
	select {
	case v = <-from:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: not within 20 s", what)
	}
	return v
}

func TestListenReportsSubscriptionsAndDropsEqualAnnouncements(t *testing.T) {
	t.Parallel()
	rdb := harness.StartRedis(t).Client(t)
	listening, heard, handle := make(chan bool, 10), make(chan hipache.Announcement, 10), make(chan bool)
	ctx, stop := context.WithCancel(t.Context())
	var listener sync.WaitGroup
	listener.Go(func() {
		hipache.Listen(ctx, rdb, func() { listening <- true }, func(a hipache.Announcement) {
			heard <- a
			<-handle
		})
	})
	defer listener.Wait()
	defer close(handle)
	defer stop()
	say := func(payload string) {
		t.Helper()
		if n, err := rdb.Publish(ctx, hipache.DeadChannel, payload).Result(); n != 1 || err != nil {
			t.Fatalf("%d listeners, %v", n, err)
		}
	}
	hears(t, listening, "the subscription")
	say("first;http://a;0;2")
	hears(t, heard, "the first") // and its handler waits
	const storms = 50
	if _, err := rdb.Pipelined(ctx, func(p redis.Pipeliner) error { // so that they arrive together
		for range storms {
			p.Publish(ctx, hipache.DeadChannel, "storm;http://a;0;2")
		}
		p.Publish(ctx, hipache.DeadChannel, "last;http://a;0;2")
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	if err := rdb.ClientKillByFilter(ctx, "TYPE", "pubsub").Err(); err != nil {
		t.Fatal(err)
	}
	handle <- true
	got, n := hears(t, heard, "a storm"), 0
	for ; got.Host == "storm"; n++ {
		handle <- true
		got = hears(t, heard, "the last") // a few equal ones may arrive after the first one was handled
	}
	if n == 0 || n > storms/2 || got.Host != "last" {
		t.Errorf("heard of %d storms, and then of %s, want equal ones dropped, and the last", n, got.Host)
	}
	handle <- true
	hears(t, listening, "the subscription after a lost connection")
	say("again;http://a;0;2")
	hears(t, heard, "one after the gap")
}
