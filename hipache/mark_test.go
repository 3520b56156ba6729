package hipache_test

import (
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
	"rollcall/tests/harness"
)

// shop is a vhost with two backends, as a proxy has read it.
func shop(t *testing.T) (*redis.Client, hipache.Keys, hipache.Frontend) {
	t.Helper()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	r.RPush(t.Context(), keys.Frontend("*.mark.test"), "shop", "http://127.0.0.1:7448", "http://127.0.0.1:7449")
	f, err := hipache.NewReader(r, keys).Lookup(t.Context(), strings.ToLower(t.Name())+".mark.test") // the channel is shared
	if err != nil {
		t.Fatal(err)
	}
	return r, keys, f
}

func TestMark(t *testing.T) {
	t.Parallel()
	r, keys, f := shop(t)
	ctx := t.Context()
	heard := r.Subscribe(ctx, hipache.DeadChannel)
	t.Cleanup(func() { _ = heard.Close() })
	if _, err := heard.Receive(ctx); err != nil {
		t.Fatal(err)
	}
	r.SAdd(ctx, keys.Dead(f.Requested), 7)
	r.Expire(ctx, keys.Dead(f.Requested), time.Second)

	if marked, err := hipache.NewMarker(r, keys, 30*time.Second).Mark(ctx, f, f.Backends[1]); err != nil || !marked {
		t.Fatalf("got %t, %v", marked, err)
	}
	if got := r.SMembers(ctx, keys.Dead(f.Requested)).Val(); !cmp.Equal(got, []string{"1", "7"}) {
		t.Errorf("got the marks %q, want both", got)
	}
	if ttl := r.TTL(ctx, keys.Dead(f.Requested)).Val(); ttl < 20*time.Second || ttl > 30*time.Second {
		t.Errorf("got a time to live of %s, want 30s for the whole set", ttl)
	}
	for m := range heard.Channel() {
		if !strings.HasPrefix(m.Payload, f.Requested+";") {
			continue // other tests use the same channel
		}
		if m.Payload != f.Requested+";http://127.0.0.1:7449;1;2" {
			t.Errorf("heard %q", m.Payload)
		}
		break
	}
}

// The marker decides by the current list and marks. Other proxies mark, and lists change, between the
// read of a request and its failure.
func TestTheLastOpenBackendIsNeverMarked(t *testing.T) {
	t.Parallel()
	const failing, other = "http://10.0.0.1:80", "http://10.0.0.2:80"
	for name, c := range map[string]struct {
		list, dead []any
		want       string
	}{
		"another is open":                {[]any{failing, other}, nil, "0"},
		"alone":                          {[]any{failing}, nil, ""},
		"the other is marked":            {[]any{failing, other}, []any{1}, "1"},
		"marked in JavaScript's numbers": {[]any{failing, other}, []any{" +1x"}, " +1x"},
		"the other's mark is of nobody":  {[]any{failing, other}, []any{-1, 2, "junk"}, "-1,0,2,junk"},
		"the same twice":                 {[]any{failing, failing}, nil, ""},
		"the same in other words":        {[]any{failing, "HTTP://u:p@10.0.0.1:80/x"}, nil, ""},
		"all its positions":              {[]any{failing, other, failing}, nil, "0,2"},
		"its position has changed":       {[]any{other, failing}, nil, "1"},
		"it has left":                    {[]any{other}, nil, ""},
		"the list is gone":               {nil, nil, ""},
		"the other is no backend":        {[]any{failing, "ftp://10.0.0.2", "10.0.0.2:80", "http://", ""}, nil, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, keys, ctx := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}, t.Context()
			if c.list != nil {
				r.RPush(ctx, keys.Frontend("a.test"), append([]any{"id"}, c.list...)...)
			}
			if c.dead != nil {
				r.SAdd(ctx, keys.Dead("a.test"), c.dead...)
			}
			f := hipache.Frontend{Requested: "a.test", Host: "a.test"} // the earlier content does not matter
			marked, err := hipache.NewMarker(r, keys, time.Minute).Mark(ctx, f, hipache.Backend{URL: failing})
			if err != nil {
				t.Fatal(err)
			}
			got := r.SMembers(ctx, keys.Dead("a.test")).Val()
			slices.Sort(got)
			if strings.Join(got, ",") != c.want || marked != (len(got) > len(c.dead)) {
				t.Errorf("got the marks %q and %t, want %q", got, marked, c.want)
			}
		})
	}
}

func TestProxiesThatMarkAtTheSameTimeLeaveOneOpen(t *testing.T) {
	t.Parallel()
	r, keys, f := shop(t)
	m := hipache.NewMarker(r, keys, time.Minute)
	for range 20 {
		var proxies sync.WaitGroup
		for n := range 8 {
			proxies.Go(func() {
				if _, err := m.Mark(t.Context(), f, f.Backends[n%2]); err != nil {
					t.Error(err)
				}
			})
		}
		proxies.Wait()
		if got := r.SMembers(t.Context(), keys.Dead(f.Requested)).Val(); len(got) != 1 {
			t.Fatalf("got the marks %q, want one", got)
		}
		r.Del(t.Context(), keys.Dead(f.Requested))
	}
}

func TestMarkOnAKeyOfAnotherTypeIsAnError(t *testing.T) {
	t.Parallel()
	r, keys, f := shop(t)
	r.Set(t.Context(), keys.Dead(f.Requested), "junk", 0)
	if _, err := hipache.NewMarker(r, keys, time.Minute).Mark(t.Context(), f, f.Backends[0]); err == nil {
		t.Error("got no error")
	}
}
