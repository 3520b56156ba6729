package hipache_test

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
	"rollcall/tests/harness"
)

func TestLookupFindsTheFirstListThatIsNotEmpty(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name      string
		requested string
		lists     []string
		want      string // the list that answers
	}{
		{"exact", "a.test", []string{"a.test", "*.test", "*"}, "a.test"},
		{"longest wildcard first", "x.a.test", []string{"*.a.test", "*.test", "*"}, "*.a.test"},
		{"shorter wildcard", "x.a.test", []string{"*.test", "*"}, "*.test"},
		{"catch-all", "x.a.test", []string{"*"}, "*"},
		{"a wildcard does not cover its apex", "a.test", []string{"*.a.test", "*"}, "*"},
		{"a short wildcard at any depth", "1.2.3.4.5.6.7.e.test", []string{"*.e.test"}, "*.e.test"},
		{"the deepest wildcard has five labels", "1.2.3.4.5.6.7", []string{"*.2.3.4.5.6.7", "*.3.4.5.6.7"}, "*.3.4.5.6.7"},
		{"an exact name has no limit", "1.2.3.4.5.6.7.8.9", []string{"1.2.3.4.5.6.7.8.9", "*"}, "1.2.3.4.5.6.7.8.9"},
		{"one label", "localhost", []string{"localhost", "*"}, "localhost"},
		{"another case is another name", "A.TEST", []string{"a.test", "*"}, "*"},
		{"a trailing dot is another name", "a.test.", []string{"a.test", "a.test."}, "a.test."},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
			for _, host := range c.lists {
				r.RPush(t.Context(), keys.Frontend(host), host+"'s", "http://127.0.0.1:1")
			}
			got, err := hipache.NewReader(r, keys).Lookup(t.Context(), c.requested)
			if err != nil {
				t.Fatal(err)
			}
			want := hipache.Frontend{
				Requested: c.requested, Host: c.want, Identifier: c.want + "'s",
				Backends: []hipache.Backend{{URL: "http://127.0.0.1:1"}},
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestLookupReadsMarksOfTheRequestedHost(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	ctx := t.Context()
	r.RPush(ctx, keys.Frontend("*.test"), "id", "u0", "u1", "u2", "u3")
	r.SAdd(ctx, keys.Dead("x.test"), 1, 3, 7, -1)
	r.SAdd(ctx, keys.Dead("*.test"), 0, 2)
	got, err := hipache.NewReader(r, keys).Lookup(ctx, "x.test")
	if err != nil {
		t.Fatal(err)
	}
	want := []hipache.Backend{
		{URL: "u0", Position: 0}, {URL: "u1", Position: 1, Dead: true}, {URL: "u2", Position: 2}, {URL: "u3", Position: 3, Dead: true},
	}
	if diff := cmp.Diff(want, got.Backends); diff != "" {
		t.Error(diff)
	}
}

func TestLookupReadsMarksAsParseInt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		member string
		want   bool // position 1 of two is dead
	}{
		{"1", true},
		{"01", true},
		{"1abc", true},
		{"1.5", true},
		{" 1", true},
		{"+1", true},
		{"1 0", true},
		{"0x1", true},
		{"", false},
		{"abc", false},
		{"a1", false},
		{"-1", false},
		{"--1", false},
		{"0", false},
		{"2", false},
		{"0x", false},
		{"http://127.0.0.1:1", false},
		{"99999999999999999999", false},
	} {
		t.Run(c.member, func(t *testing.T) {
			t.Parallel()
			r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
			r.RPush(t.Context(), keys.Frontend("a.test"), "id", "u0", "u1")
			r.SAdd(t.Context(), keys.Dead("a.test"), c.member)
			got, err := hipache.NewReader(r, keys).Lookup(t.Context(), "a.test")
			if err != nil {
				t.Fatal(err)
			}
			if got.Backends[1].Dead != c.want {
				t.Errorf("got %t, want %t", got.Backends[1].Dead, c.want)
			}
		})
	}
}

func TestLookupOfAnIdentifierAlone(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	r.RPush(t.Context(), keys.Frontend("a.test"), "id")
	r.RPush(t.Context(), keys.Frontend("*"), "id", "u0")
	r.SAdd(t.Context(), keys.Dead("a.test"), 0)
	got, err := hipache.NewReader(r, keys).Lookup(t.Context(), "a.test")
	if want := (hipache.Frontend{Requested: "a.test", Host: "a.test", Identifier: "id"}); err != nil || !cmp.Equal(got, want) {
		t.Errorf("got %+v, %v; want %+v, which keeps the wildcard out", got, err, want)
	}
}

func TestLookupErrors(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	reader, ctx := hipache.NewReader(r, keys), t.Context()

	if _, err := reader.Lookup(ctx, "a.test"); !errors.Is(err, hipache.ErrNoFrontend) || !strings.Contains(err.Error(), "a.test") {
		t.Errorf("no list: got %v", err)
	}
	r.SAdd(ctx, keys.Frontend("set.test"), "u0")
	r.RPush(ctx, keys.Frontend("*"), "id", "u0")
	if _, err := reader.Lookup(ctx, "set.test"); !errors.Is(err, hipache.ErrWrongType) || !strings.Contains(err.Error(), keys.Frontend("set.test")) {
		t.Errorf("a set for a list: got %v", err)
	}
	r.Set(ctx, keys.Frontend("*.wild.test"), "u0", 0)
	if got, err := reader.Lookup(ctx, "x.wild.test"); err != nil || got.Host != "*" {
		t.Errorf("a string for a wildcard: got %+v, %v; want the next", got, err)
	}
	r.RPush(ctx, keys.Frontend("ok.wild.test"), "id", "u0")
	r.Set(ctx, keys.Dead("ok.wild.test"), "0", 0)
	if got, err := reader.Lookup(ctx, "ok.wild.test"); err != nil || len(got.Backends) != 1 || got.Backends[0].Dead {
		t.Errorf("a string for a dead set: got %+v, %v; want no marks", got, err)
	}
	closed := redis.NewClient(r.Options())
	_ = closed.Close()
	if _, err := hipache.NewReader(closed, keys).Lookup(ctx, "a.test"); !errors.Is(err, redis.ErrClosed) {
		t.Errorf("no Redis: got %v", err)
	}
}

func TestLookupIsOneRoundTrip(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	r.RPush(t.Context(), keys.Frontend("a.b.test"), "id", "u0")
	var calls counter
	r.AddHook(&calls)
	if _, err := hipache.NewReader(r, keys).Lookup(t.Context(), "a.b.test"); err != nil {
		t.Fatal(err)
	}
	want := counter{"multi", "lrange", "lrange", "lrange", "lrange", "smembers", "exec"}
	if diff := cmp.Diff(want, calls); diff != "" {
		t.Error(diff)
	}
}

func TestLookupAllAnswersEachHost(t *testing.T) {
	t.Parallel()
	r, keys := harness.SharedRedis(t), hipache.Keys{Prefix: harness.Prefix(t)}
	ctx := t.Context()
	r.RPush(ctx, keys.Frontend("a.test"), "id", "u0")
	r.Set(ctx, keys.Frontend("b.test"), "u0", 0)
	r.RPush(ctx, keys.Frontend("*.d.test"), "id", "u0", "u1")
	r.SAdd(ctx, keys.Dead("x.d.test"), 1)
	got := hipache.NewReader(r, keys).LookupAll(ctx, "a.test", "b.test", "c.test", "x.d.test")
	if len(got) != 4 {
		t.Fatalf("got %d answers to 4 questions", len(got))
	}
	if f, err := got[0].Frontend, got[0].Err; err != nil || f.Host != "a.test" || len(f.Backends) != 1 {
		t.Errorf("a.test: got %+v, %v", f, err)
	}
	if err := got[1].Err; !errors.Is(err, hipache.ErrWrongType) {
		t.Errorf("b.test: got %v", err)
	}
	if err := got[2].Err; !errors.Is(err, hipache.ErrNoFrontend) {
		t.Errorf("c.test: got %v", err)
	}
	if f, err := got[3].Frontend, got[3].Err; err != nil || f.Host != "*.d.test" || len(f.Backends) != 2 || !f.Backends[1].Dead {
		t.Errorf("x.d.test: got %+v, %v", f, err)
	}
}

// counter counts the commands of pipelines and refuses single commands.
type counter []string

func (c *counter) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (c *counter) ProcessHook(redis.ProcessHook) redis.ProcessHook {
	return func(_ context.Context, cmd redis.Cmder) error { return errors.New("a call of its own: " + cmd.Name()) }
}

func (c *counter) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		for _, cmd := range cmds {
			*c = append(*c, cmd.Name())
		}
		return next(ctx, cmds)
	}
}
