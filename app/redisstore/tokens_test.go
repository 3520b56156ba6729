package redisstore_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/redisstore"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// everywhere runs a test on Redis and on the embedded default.
func everywhere(t *testing.T, test func(*testing.T, *site)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		prefix := harness.Prefix(t)
		test(t, siteOn(harness.SharedRedis(t), redisstore.Options{Prefix: prefix, Hipache: hipache.Keys{Prefix: prefix}, Limit: 2}))
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		test(t, siteOn(c, redisstore.Options{Limit: 2}))
	})
}

func TestTokensAreKept(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s *site) {
		tokens, now := s.Tokens(), s.clock.Now()
		want := []auth.Token{
			{ID: "a", Name: "ci", Hash: []byte("hash"), Scopes: []auth.Scope{"read", "register:*"}, CreatedAt: now, ExpiresAt: now.Add(time.Hour)},
			{ID: "b", Name: "ci", Hash: []byte{0, 255}, Scopes: []auth.Scope{"admin"}, CreatedAt: now},
		}
		for _, token := range want {
			if err := tokens.Add(t.Context(), token, app.Event{Kind: app.EventCreated, At: now, Subject: token.ID, Actor: "x"}); err != nil {
				t.Fatal(err)
			}
		}
		got, secret, err := tokens.Read(t.Context())
		if diff := cmp.Diff(want, got, cmpopts.SortSlices(func(a, b auth.Token) bool { return a.ID < b.ID })); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s", err, diff)
		}
		if _, again, err := tokens.Read(t.Context()); again != secret || len(secret) < 32 || err != nil {
			t.Errorf("keys are made with %q, then with %q, %v", secret, again, err)
		}
		revoked := app.Event{Kind: app.EventRevoked, At: now, Subject: "a"}
		if err := tokens.Remove(t.Context(), "a", revoked); err != nil {
			t.Fatal(err)
		}
		if err := tokens.Remove(t.Context(), "a", revoked); !errors.Is(err, app.ErrNotFound) {
			t.Errorf("removed again: %v", err)
		}
		if got, _, err = tokens.Read(t.Context()); len(got) != 1 || got[0].ID != "b" || err != nil {
			t.Errorf("left are %v, %v", got, err)
		}
		events, err := s.Events(t.Context(), "0", 10)
		var told string
		for _, e := range events {
			told += fmt.Sprintf("%s %s %s.", e.Kind, e.Subject, e.Actor)
		}
		if want := "token-created a x.token-created b x.token-revoked a ."; told != want || err != nil {
			t.Errorf("told %q, %v, want %q", told, err, want)
		}
	})
}

func TestThereAreSoManyTokens(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s *site) {
		for n := range auth.MaxTokens {
			s.rdb.HSet(t.Context(), s.prefix+"tokens", fmt.Sprint(n), "{}")
		}
		if err := s.Tokens().Add(t.Context(), auth.Token{ID: "x"}, app.Event{}); !errors.Is(err, app.ErrConflict) {
			t.Errorf("one more: %v", err)
		}
	})
}

func TestAVhostHasSoManyBackends(t *testing.T) {
	t.Parallel()
	s := siteOn(harness.SharedRedis(t), redisstore.Options{Prefix: harness.Prefix(t), Hipache: hipache.Keys{Prefix: harness.Prefix(t)}, Backends: 3})
	s.up(t, 1, weight(2))
	s.up(t, 2, hosts("a.test", "b.test"))
	refused := func(n int, edits ...func(*app.Registration)) {
		t.Helper()
		_, err := s.verbs.Register(t.Context(), saying(n, edits...))
		if field, ok := errors.AsType[*app.FieldError](err); !ok || field.Field != "host" || !field.Held || !strings.Contains(field.Problem, "a.test has 3 backends") {
			t.Errorf("a further one: %v", err)
		}
	}
	refused(3)
	s.register(t, saying(1, weight(3))) // it is registered
	s.register(t, saying(3, hosts("b.test")))
	refused(3, hosts("b.test", "a.test"))
	s.check(t, "i1", "--")
	s.check(t, "i2", "--")
	s.check(t, "i2", "++")
	s.wantList(t, "a.test", "web 1! 1! 2 1!")
	s.settle(t)
	s.register(t, saying(4)) // the other instances have left the list
}

func TestAServiceHasSoManyInstances(t *testing.T) {
	t.Parallel()
	everywhere(t, func(t *testing.T, s *site) {
		s.register(t, saying(1))
		s.register(t, saying(2))
		_, err := s.verbs.Register(t.Context(), saying(3))
		if field, ok := errors.AsType[*app.FieldError](err); !ok || field.Field != "service" || !field.Held {
			t.Errorf("a third one: %v", err)
		}
		s.register(t, saying(1, weight(2)))                                                       // already registered
		s.register(t, saying(3, func(r *app.Registration) { r.Service, r.Hosts = "admin", nil })) // of another service
		s.register(t, saying(4, func(r *app.Registration) { r.Address = saying(2).Address }))     // at the address of another instance
	})
}
