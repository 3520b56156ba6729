package hipache_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/hipache"
	"rollcall/tests/redistest"
)

func TestMark(t *testing.T) {
	t.Parallel()
	r, keys, ctx := redistest.New(t), hipache.Keys{Prefix: redistest.Prefix(t)}, t.Context()
	heard := r.Subscribe(ctx, hipache.DeadChannel)
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	r.SAdd(ctx, keys.Dead("mark.test"), 0)
	r.Expire(ctx, keys.Dead("mark.test"), time.Second)

	if err := hipache.NewMarker(r, keys, 30*time.Second).Mark(ctx, "mark.test", "http://127.0.0.1:7449", 1, 2); err != nil {
		t.Fatal(err)
	}
	if got := r.SMembers(ctx, keys.Dead("mark.test")).Val(); !cmp.Equal(got, []string{"0", "1"}) {
		t.Errorf("got the marks %q, want both", got)
	}
	if ttl := r.TTL(ctx, keys.Dead("mark.test")).Val(); ttl < 20*time.Second || ttl > 30*time.Second {
		t.Errorf("got a time to live of %s, want 30s for the whole set", ttl)
	}
	for m := range heard.Channel() {
		if !strings.HasPrefix(m.Payload, "mark.test;") {
			continue // the channel is everybody's
		}
		if m.Payload != "mark.test;http://127.0.0.1:7449;1;2" {
			t.Errorf("heard %q", m.Payload)
		}
		break
	}
}

func TestMarkOnAKeyOfAnotherTypeIsAnError(t *testing.T) {
	t.Parallel()
	r, keys, ctx := redistest.New(t), hipache.Keys{Prefix: redistest.Prefix(t)}, t.Context()
	r.Set(ctx, keys.Dead("a.test"), "junk", 0)
	if err := hipache.NewMarker(r, keys, time.Minute).Mark(ctx, "a.test", "http://h:1", 0, 2); err == nil {
		t.Error("got no error")
	}
}
