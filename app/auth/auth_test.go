package auth_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/auth"
)

func TestScopes(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		scope    auth.Scope
		register string // the services that it may register, separated by spaces
		serve    string // the vhosts that it may serve
	}{
		{"read", "", ""},
		{"admin", services, vhosts},
		{"register:web", "web", ""},
		{"register:web-*", "web-1 web-", ""},
		{"register:web*", "web web-1 web- website", ""},
		{"register:*", services, ""},
		{"host:a.test", "", "a.test"},
		{"host:*.a.test", "", "*.a.test b.a.test c.b.a.test *.b.a.test"},
		{"host:*", "", vhosts},
		{"register:", "", ""},
		{"host:", "", ""},
	} {
		caller := auth.Caller{Scopes: []auth.Scope{c.scope}}
		if got := filter(services, caller.MayRegister); got != c.register {
			t.Errorf("%s may register %q, want %q", c.scope, got, c.register)
		}
		if got := filter(vhosts, caller.MayServe); got != c.serve {
			t.Errorf("%s may serve %q, want %q", c.scope, got, c.serve)
		}
		if got, want := caller.MayRead(), c.scope == "read" || c.scope == "admin"; got != want {
			t.Errorf("%s may read: %t", c.scope, got)
		}
		if got, want := caller.MayAdmin(), c.scope == "admin"; got != want {
			t.Errorf("%s may do everything: %t", c.scope, got)
		}
	}
}

const (
	services = "web web-1 web- website shop"
	vhosts   = "a.test *.a.test b.a.test c.b.a.test *.b.a.test ba.test a.test.net test * *.test"
)

func filter(names string, may func(string) bool) string {
	var list []string
	for name := range strings.FieldsSeq(names) {
		if may(name) {
			list = append(list, name)
		}
	}
	return strings.Join(list, " ")
}

func TestWithoutACallerRollcallItselfActs(t *testing.T) {
	t.Parallel()
	i := app.Instance{ID: "w1", Service: "web", Hosts: []string{"a.test"}}
	none := app.CallerOf(t.Context())
	if !none.MayRead() || !none.MayChange(i) || !none.MayLookUp("w1") || none.Authorize(i) != nil || none.Actor() != "" {
		t.Errorf("without a caller it is %+v", none)
	}
	if c := auth.Unrestricted; !c.MayAdmin() || !c.MayRead() || !c.MayChange(i) || !c.MayLookUp("w1") || c.Authorize(i) != nil || c.Actor() != "" {
		t.Errorf("without tokens it is %+v", c)
	}
	ctx := app.WithCaller(t.Context(), auth.Caller{})
	c := app.CallerOf(ctx)
	if c.MayRead() || c.MayChange(i) || c.MayLookUp("w1") || !errors.Is(c.Authorize(i), app.ErrForbidden) {
		t.Errorf("a caller without scopes may do something: %+v", c)
	}
	if c := c.(auth.Caller); c.MayAdmin() || c.MayRegister("web") || c.MayServe("a.test") {
		t.Errorf("a caller without scopes may do something: %+v", c)
	}
	if got := auth.TokenOf(t.Context()); got != "" {
		t.Errorf("without a caller the token is %q", got)
	}
	if got := auth.TokenOf(app.WithCaller(ctx, auth.Caller{Token: "t1"})); got != "t1" {
		t.Errorf("the token is %q, want t1", got)
	}
}

// awayTokens is a store that can be unavailable.
type awayTokens struct {
	auth.Store
	tokens []auth.Token
	away   bool
}

func (s *awayTokens) Read(context.Context) ([]auth.Token, string, error) {
	if s.away {
		return nil, "", app.ErrUnavailable
	}
	return s.tokens, "secret", nil
}

func (s *awayTokens) Add(_ context.Context, t auth.Token, _ app.Event) error {
	s.tokens = append(s.tokens, t)
	return nil
}

func TestKnownTokensAreValidWhileTheStoreIsUnavailable(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_900_000_000, 0)
	store := &awayTokens{}
	tokens := auth.NewTokens(store, "", true, func() time.Time { return now }, func(context.Context, app.Event) {})
	if _, known := tokens.Caller(tokens.KeyOf(app.Instance{ID: "a", RegisteredAt: now})); known {
		t.Error("a key is valid before the first read")
	}
	_, text, err := tokens.Create(t.Context(), "ci", []auth.Scope{auth.ScopeRead}, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	store.away = true
	if err := tokens.Refresh(t.Context()); !errors.Is(err, app.ErrUnavailable) {
		t.Errorf("refresh: %v", err)
	}
	if c, known := tokens.Caller(text); !known || c.Name != "ci" || !c.MayRead() {
		t.Errorf("%+v, %t", c, known)
	}
	now = now.Add(time.Hour)
	if _, known := tokens.Caller(text); known {
		t.Error("an expired token is valid")
	}
	if _, known := tokens.Caller(""); known {
		t.Error("an empty credential is a token")
	}
}

func TestAnExpiredAdminTokenIsNone(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_900_000_000, 0)
	tokens := auth.NewTokens(&awayTokens{}, "", true, func() time.Time { return now }, func(context.Context, app.Event) {})
	if tokens.HasAdmin() {
		t.Error("a registry without tokens has an admin")
	}
	for _, scope := range []auth.Scope{auth.ScopeRead, auth.ScopeAdmin} {
		if _, _, err := tokens.Create(t.Context(), "ci", []auth.Scope{scope}, time.Hour); err != nil {
			t.Fatal(err)
		}
		if got, want := tokens.HasAdmin(), scope == auth.ScopeAdmin; got != want {
			t.Errorf("with a token of the scope %s there is an admin: %t", scope, got)
		}
	}
	now = now.Add(time.Hour)
	if tokens.HasAdmin() {
		t.Error("an expired token is an admin")
	}
}
