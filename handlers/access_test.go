package handlers_test

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/webhook"
	"rollcall/handlers"
)

// boss is the token that is in the configuration.
const boss = "the boss may do everything"

// guarded returns the API where a token is required.
func guarded(t *testing.T, change ...func(*handlers.API)) *service {
	t.Helper()
	s := newService(t, change...)
	s.api.Tokens = auth.NewTokens(s.store.Tokens(), boss, true, s.store.Now, func(context.Context, app.Event) {})
	s.serve()
	s.refresh()
	return s
}

func (s *service) refresh() {
	s.t.Helper()
	if err := s.api.Tokens.Refresh(s.t.Context()); err != nil {
		s.t.Fatal(err)
	}
}

// token creates one; its id is in it.
func (s *service) token(scopes ...string) string {
	s.t.Helper()
	pairs := []string{"name", "some"}
	for _, scope := range scopes {
		pairs = append(pairs, "scope", scope)
	}
	return decode[tokenAnswer](s.form(http.MethodPost, "/v1/tokens", pairs...).as(boss).want(http.StatusCreated)).Token
}

func idOf(token string) string { return strings.Split(token, "_")[1] }

type tokenAnswer struct {
	ID, Name  string
	Scopes    []string
	CreatedAt time.Time  `json:"created_at"`
	ExpiresAt *time.Time `json:"expires_at"`
	Token     string
}

// as is the call with a token, unless that is empty.
func (c call) as(token string) call {
	if token == "" {
		return c
	}
	return c.header("Authorization", "Bearer "+token)
}

// put registers an instance of a service, or does so again, and returns its receipt.
func (s *service) put(id, service, address string) receipt {
	s.t.Helper()
	a := s.form(http.MethodPost, "/v1/register", "id", id, "service", service, "address", address, "host", "a."+service+".test").as(boss).do()
	if a.Code/100 != 2 {
		s.t.Fatalf("%s: got %d %s", id, a.Code, a.Body)
	}
	return decode[receipt](a)
}

// open is every route without a token.
var open = []string{"/livez", "/readyz", "/openapi.yaml", "/static/:file", "/v1/tls/ask"}

// may lists the tokens that are sufficient for a route.
func may(method, route string) []string {
	switch {
	case method == http.MethodPatch, strings.HasPrefix(route, "/v1/jobs"), strings.HasPrefix(route, "/v1/webhooks"), strings.HasPrefix(route, "/v1/tokens"),
		strings.HasPrefix(route, "/webhooks"), route == "/tokens", route == "/system":
		return []string{"admin", "boss"}
	case strings.HasPrefix(route, "/v1/agents"):
		return []string{"web", "shop", "admin", "boss"}
	case route == "/v1/register":
		return []string{"web", "admin", "boss"}
	case strings.HasPrefix(route, "/v1/instances/") && (method == http.MethodGet || method == http.MethodHead):
		return []string{"reader", "web", "its key", "admin", "boss"}
	case strings.HasPrefix(route, "/v1/instances/"):
		return []string{"web", "its key", "admin", "boss"}
	}
	return []string{"reader", "admin", "boss"}
}

// proper is a valid body of each call.
func proper(method, route string) []string {
	switch method + " " + route {
	case "POST /v1/register":
		return []string{"id", "w1", "service", "web", "address", "10.0.0.1:80", "host", "a.web.test"}
	case "PATCH /v1/instances/:id":
		return []string{"maintenance", "true", "for", "10m"}
	case "POST /v1/instances/:id/drain":
		return []string{"hold", "0s"}
	case "PUT /v1/agents/:node":
		return []string{"containers", "1"}
	case "POST /v1/tokens":
		return []string{"name", "other", "scope", "read"}
	case "POST /v1/webhooks":
		return []string{"url", "https://receiver.test/"}
	}
	return nil
}

// TestEveryRouteWantsATokenThatIsGoodForIt calls every route there is with every kind of
// token.
func TestEveryRouteWantsATokenThatIsGoodForIt(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.api.Webhooks = webhook.NewWebhooks(s.store.Webhooks(), takes(), s.store.Now, func(context.Context, app.Event) {})
	s.serve()
	mine, other := s.put("w1", "web", "10.0.0.1:80"), s.put("s1", "shop", "10.0.0.2:80")
	reader := s.token("read")
	unknown := map[string]string{
		"nobody": "", "a stranger": "rct_abc_def", "a guesser": boss + "!", "a forger": reader[:len(reader)-1], "a thief": strings.Replace(reader, "_", "_x", 1),
		"a forged key": mine.Key[:len(mine.Key)-1], "a moved key": strings.Replace(other.Key, "s1", "w1", 1),
	}
	known := map[string]string{
		"reader": reader, "web": s.token("register:web", "host:*.web.test"), "shop": s.token("register:shop", "host:*.shop.test"),
		"host": s.token("host:*"), "its key": mine.Key, "other's key": other.Key, "admin": s.token("admin"), "boss": boss,
	}
	for _, r := range s.api.Handler().(*echo.Echo).Routes() { //nolint:forcetypeassert // it is that
		if slices.Contains(open, r.Path) {
			continue
		}
		path := strings.NewReplacer(":id", "w1", ":name", "web", ":node", "n1").Replace(r.Path)
		call := func(token string) call { return s.form(r.Method, path, proper(r.Method, r.Path)...).as(token) }
		refused := func(who, token string, status int) {
			before := s.stored()
			a := call(token).do()
			if a.Code != status {
				t.Errorf("%s by %s: got %d %s, want %d", a.call, who, a.Code, a.Body, status)
			}
			if r.Method != http.MethodHead {
				a.problem(status)
			}
			if asked := a.Header().Values("WWW-Authenticate"); (status == http.StatusUnauthorized) != (len(asked) == 2) {
				t.Errorf("%s by %s: asked for %q", a.call, who, asked)
			}
			if after := s.stored(); !maps.Equal(before, after) {
				t.Errorf("%s by %s was refused, and has written", a.call, who)
			}
		}
		for who, token := range unknown {
			refused(who, token, http.StatusUnauthorized)
		}
		for who, token := range known {
			if !slices.Contains(may(r.Method, r.Path), who) {
				refused(who, token, http.StatusForbidden)
			}
		}
		for _, who := range may(r.Method, r.Path) {
			known["its key"] = s.put("w1", "web", "10.0.0.1:80").Key
			ctx, leave := context.WithCancel(t.Context())
			if r.Path == "/v1/events" { // it does not end
				leave()
			}
			if a := call(known[who]).with(ctx).do(); a.Code == http.StatusUnauthorized || a.Code == http.StatusForbidden {
				t.Errorf("%s by %s: got %d %s", a.call, who, a.Code, a.Body)
			}
			leave()
		}
	}
	for _, path := range open {
		if a := s.get(strings.Replace(path, ":file", "page.js", 1)).as("rct_abc_def").do(); a.Code == http.StatusUnauthorized {
			t.Errorf("%s: got %d", path, a.Code)
		}
	}
}

func TestWhoMayNotReadDoesNotLearnWhatThereIs(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.put("w1", "web", "10.0.0.1:80")
	other := s.put("s1", "shop", "10.0.0.2:80")
	for who, token := range map[string]string{"nobody": "", "a key": other.Key, "a token for hosts": s.token("host:*"), "a reader": s.token("read")} {
		for _, call := range []func(string) call{
			func(id string) call { return s.form(http.MethodPost, "/v1/instances/"+id+"/heartbeat") },
			func(id string) call { return s.form(http.MethodPost, "/v1/instances/"+id+"/drain") },
			func(id string) call { return s.call(http.MethodDelete, "/v1/instances/"+id, nil) },
		} {
			there, not := call("w1").as(token).do(), call("w2").as(token).do()
			if there.Code != not.Code || there.Body.String() != not.Body.String() {
				t.Errorf("%s: %s is %d %s, %s is %d %s", who, there.call, there.Code, there.Body, not.call, not.Code, not.Body)
			}
		}
	}
	web := s.token("register:web")
	s.form(http.MethodPost, "/v1/instances/w2/heartbeat").as(web).problem(http.StatusNotFound) // it has to register again
	s.call(http.MethodDelete, "/v1/instances/s1", nil).as(other.Key).want(http.StatusNoContent)
	s.form(http.MethodPost, "/v1/instances/s1/heartbeat").as(other.Key).problem(http.StatusNotFound)
}

func TestAnAuthorizationWithoutBearerIsNamed(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	token := s.token("read")
	for header, detail := range map[string]string{
		"": "there is no token", token: "the Authorization header has no Bearer token", "Token " + token: "the Authorization header has no Bearer token",
		"Bearer": "unknown or revoked token", "Bearer x": "unknown or revoked token",
	} {
		c := s.get("/v1/services")
		if header != "" {
			c = c.header("Authorization", header)
		}
		if p := c.problem(http.StatusUnauthorized); p.Detail != detail {
			t.Errorf("%q: got %q, want %q", header, p.Detail, detail)
		}
	}
}

func TestATokenRegistersWhatItsScopesSay(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	token := s.token("register:web-*", "host:*.apps.test")
	before := s.stored()
	for scope, pairs := range map[string][]string{
		"register:web":         {"service", "web", "port", "80"},
		"register:shop":        {"service", "shop", "port", "80", "host", "a.apps.test"},
		"host:shop.test":       {"service", "web-1", "port", "80", "host", "a.apps.test", "host", "shop.test"},
		"host:apps.test":       {"service", "web-1", "port", "80", "host", "apps.test"},
		"host:*":               {"service", "web-1", "port", "80", "host", "*"},
		"host:evilapps.test":   {"service", "web-1", "port", "80", "host", "evilapps.test"},
		"host:a.apps.test.net": {"service", "web-1", "port", "80", "host", "a.apps.test.net"},
	} {
		field, _, _ := strings.Cut(strings.Replace(scope, "register:", "service:", 1), ":")
		if p := s.form(http.MethodPost, "/v1/register", pairs...).as(token).problem(http.StatusForbidden); p.Want != "give a token with the scope "+scope || p.Field != field {
			t.Errorf("%q: got %+v, want the scope %s and the field %s", pairs, p, scope, field)
		}
	}
	same(t, "written", s.stored(), before)

	s.form(http.MethodPost, "/v1/register", "service", "web-1", "port", "80", "host", "A.Apps.test", "host", "*.b.apps.test").as(token).want(http.StatusCreated)
	a := s.json(http.MethodPost, "/v1/register", `[{"service":"web-2","port":81},{"service":"shop","port":82},{"service":"web-3","port":83,"host":["shop.test"]}]`).
		as(token).want(http.StatusMultiStatus)
	var got []string
	for _, v := range decode[[]struct {
		Status           int
		Receipt, Problem map[string]any
	}](a) {
		got = append(got, fmt.Sprint(v.Status, " ", v.Problem["field"]))
	}
	same(t, "verdicts", got, []string{"201 <nil>", "403 service", "403 host"})
}

// TestATokenTakesNoAddressFromAnotherService has a container inherit the address of one
// that its token has no say in.
func TestATokenTakesNoAddressFromAnotherService(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	start := func(id, service string) call {
		return s.form(http.MethodPost, "/v1/register", "id", id, "service", service, "address", "10.0.0.1:80", "boot", id)
	}
	start("s1", "shop").as(boss).want(http.StatusCreated)
	before := s.stored()
	if p := start("w1", "web").as(s.token("register:web")).problem(http.StatusConflict); p.Field != "address" || strings.Contains(p.Detail, "shop") {
		t.Errorf("got %+v, want that the address is held, and not by whom", p)
	}
	after := s.stored()
	for key := range after {
		if strings.Contains(key, ":tokens") || strings.Contains(key, ":events") { // the token
			delete(after, key)
			delete(before, key)
		}
	}
	same(t, "written", after, before)
	start("w1", "web").as(s.token("register:web", "register:shop")).want(http.StatusCreated)
	s.get("/v1/instances/s1").as(boss).problem(http.StatusNotFound)
}

func TestAKeyIsOfOneInstanceForAsLongAsItIsThere(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	key := s.put("w1", "web", "10.0.0.1:80").Key
	if again := s.put("w1", "web", "10.0.0.9:80").Key; again != key {
		t.Errorf("registered again its key is %s, not %s", again, key)
	}
	beat := func(key string) call { return s.form(http.MethodPost, "/v1/instances/w1/heartbeat").as(key) }
	beat(key).want(http.StatusNoContent)
	s.call(http.MethodDelete, "/v1/instances/w1", nil).as(key).want(http.StatusNoContent)
	s.await(func() bool { _, known := s.api.Replica.Instance("w1"); return !known })
	s.await(func() bool { return s.put("w1", "web", "10.0.0.1:80").Key != key }) // in another millisecond
	beat(key).problem(http.StatusForbidden)
	if got := newService(t).register("service", "web", "port", "80").Key; got != "" {
		t.Errorf("where no token is required there is the key %s", got)
	}
}

func TestATokenCountsUntilItIsRevokedOrExpires(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	revoked, lasting := s.token("read"), s.token("read")
	short := decode[tokenAnswer](s.form(http.MethodPost, "/v1/tokens", "name", "short", "scope", "read", "expires", "1s").as(boss).want(http.StatusCreated))
	if got := short.ExpiresAt.Sub(short.CreatedAt); got != time.Second {
		t.Errorf("it expires after %s", got)
	}
	read := func(token string) call { return s.get("/v1/services").as(token) }
	read(revoked).want(http.StatusOK)
	s.call(http.MethodDelete, "/v1/tokens/"+idOf(revoked), nil).as(boss).want(http.StatusNoContent)
	read(revoked).problem(http.StatusUnauthorized)
	s.call(http.MethodDelete, "/v1/tokens/"+idOf(revoked), nil).as(boss).problem(http.StatusNotFound)
	s.await(func() bool { return read(short.Token).do().Code == http.StatusUnauthorized })
	read(lasting).want(http.StatusOK)

	another := guarded(t) // a process that hears of it when it reads the tokens anew
	another.api.Tokens = auth.NewTokens(s.store.Tokens(), "", true, s.store.Now, func(context.Context, app.Event) {})
	another.serve()
	another.get("/v1/services").as(lasting).problem(http.StatusUnauthorized)
	another.refresh()
	another.get("/v1/services").as(lasting).want(http.StatusOK)
	s.call(http.MethodDelete, "/v1/tokens/"+idOf(lasting), nil).as(boss).want(http.StatusNoContent)
	another.refresh()
	another.get("/v1/services").as(lasting).problem(http.StatusUnauthorized)
}

func TestTokensAreListedWithoutWhatTheyAre(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	full := decode[tokenAnswer](s.json(http.MethodPost, "/v1/tokens", `{"name": "ci", "scope": ["register:web", "host:*.apps.test"], "expires": "720h"}`).
		as(boss).want(http.StatusCreated))
	want := full
	want.Token = ""
	a := s.get("/v1/tokens").as(boss).want(http.StatusOK)
	same(t, "list", decode[struct{ Tokens []tokenAnswer }](a).Tokens, []tokenAnswer{want})
	secret := full.Token[strings.LastIndex(full.Token, full.ID)+len(full.ID):]
	if len(secret) < 43 || strings.Contains(a.Body.String(), secret) {
		t.Errorf("%s has the secret of %s", a.Body, full.Token)
	}
	for pairs, field := range map[string]string{
		"scope=read": "name", "name=ci": "scope", "name=a b&scope=read": "name", "name=admin&scope=read": "name", "name=ci&scope=write": "scope",
		"name=ci&scope=register:": "scope", "name=ci&scope=register:Web": "scope", "name=ci&scope=register:*web": "scope", "name=ci&scope=host:": "scope",
		"name=ci&scope=host:*a.test": "scope", "name=ci&scope=host:A.test": "scope", "name=ci&scope=host:*.": "scope", "name=ci&scope=host:a.test:80": "scope",
		"name=ci&scope=read&expires=0s": "expires", "name=ci&scope=read&expires=-1h": "expires", "name=ci&scope=read&expires=soon": "expires",
		"name=ci" + strings.Repeat("&scope=read", auth.MaxScopes+1): "scope",
	} {
		c := s.call(http.MethodPost, "/v1/tokens", strings.NewReader(pairs)).header("Content-Type", "application/x-www-form-urlencoded").as(boss)
		if p := c.problem(http.StatusUnprocessableEntity); p.Field != field {
			t.Errorf("%s: got %+v, want %s to be at fault", pairs, p, field)
		}
	}
	same(t, "list", decode[struct{ Tokens []tokenAnswer }](s.get("/v1/tokens").as(boss).want(http.StatusOK)).Tokens, []tokenAnswer{want})
}

func TestTheEventsSayWhoItWas(t *testing.T) {
	t.Parallel()
	s := guarded(t, func(a *handlers.API) {
		a.Jobs = jobs{"probe": func(ctx context.Context) error {
			_, _, err := a.Registry.Drain(ctx, "w2", "", 0)
			return err
		}}
	})
	web := decode[tokenAnswer](s.form(http.MethodPost, "/v1/tokens", "name", "ci", "scope", "register:web").as(boss).want(http.StatusCreated))
	key := decode[receipt](s.form(http.MethodPost, "/v1/register", "id", "w1", "service", "web", "port", "80").as(web.Token).want(http.StatusCreated)).Key
	s.form(http.MethodPost, "/v1/register", "id", "w2", "service", "web", "port", "81").as(web.Token).want(http.StatusCreated)
	s.form(http.MethodPatch, "/v1/instances/w1", "weight", "2", "for", "10m").as(boss).want(http.StatusOK)
	s.form(http.MethodPost, "/v1/jobs/probe/run").as(boss).want(http.StatusOK)
	s.call(http.MethodDelete, "/v1/instances/w1", nil).as(key).want(http.StatusNoContent)
	s.call(http.MethodDelete, "/v1/tokens/"+web.ID, nil).as(boss).want(http.StatusNoContent)
	events, err := s.store.Events(t.Context(), "0", 100)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, e := range events {
		got = append(got, fmt.Sprintf("%s %s by %q", e.Kind, e.Instance+e.Subject, e.Actor))
	}
	same(t, "events", got, []string{
		"token-created " + web.ID + ` by "admin"`, `registered w1 by "ci"`, `registered w2 by "ci"`, `updated w1 by "admin"`,
		`draining w2 by ""`, `gone w1 by "key:w1"`, "token-revoked " + web.ID + ` by "admin"`,
	})
}

func TestABrowserGivesTheTokenAsAPassword(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.await(func() bool { return s.get("/").as(boss).do().Code == http.StatusOK })
	with := func(password string) call {
		c := s.get("/")
		c.request.SetBasicAuth("anybody", password)
		return c
	}
	with(boss).want(http.StatusOK)
	with(s.token("read")).want(http.StatusOK)
	with("wrong").problem(http.StatusUnauthorized)
	s.get("/").header("Authorization", "bearer "+boss).want(http.StatusOK)
	s.get("/").header("Authorization", "Digest "+boss).problem(http.StatusUnauthorized)
}

func TestWhereNoTokenIsRequiredOneThatIsGivenCounts(t *testing.T) {
	t.Parallel()
	s := newService(t)
	reader, _, err := s.api.Tokens.Create(t.Context(), "reader", []auth.Scope{auth.ScopeRead}, 0)
	_, text, err2 := s.api.Tokens.Create(t.Context(), "reader", []auth.Scope{auth.ScopeRead}, 0)
	if err != nil || err2 != nil {
		t.Fatal(err, err2)
	}
	registration := func() call { return s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80") }
	registration().as(text).problem(http.StatusForbidden)
	registration().as("wrong").problem(http.StatusUnauthorized)
	s.form(http.MethodDelete, "/v1/tokens/"+reader.ID).as(text).problem(http.StatusForbidden)
	s.get("/v1/services").as(text).want(http.StatusOK)
	c := registration() // by way of a proxy that has asked for a password of its own
	c.request.SetBasicAuth("somebody", "of the proxy")
	c.want(http.StatusCreated)
}

func TestWhoRegistersTooOftenWaitsAlone(t *testing.T) {
	t.Parallel()
	s := guarded(t, func(a *handlers.API) { a.RegisterRate = 1 })
	greedy, modest := s.token("register:*"), s.token("register:*")
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"service":"web","port":80},`, 100), ",") + "]"
	s.json(http.MethodPost, "/v1/register", many).as(greedy).want(http.StatusMultiStatus)
	before := s.stored()
	a := s.json(http.MethodPost, "/v1/register", many).as(greedy).do()
	p := a.problem(http.StatusTooManyRequests)
	if !strings.Contains(p.Want, "ROLLCALL_REGISTER_RATE") {
		t.Errorf("it wants %q", p.Want)
	}
	if after := a.Header().Get("Retry-After"); after == "" || after == "0" || len(after) > 3 {
		t.Errorf("it says to retry after %q s", after)
	}
	same(t, "written", s.stored(), before)
	s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").as(modest).want(http.StatusOK)
	s.form(http.MethodPost, "/v1/instances/web-10.0.0.7-80/heartbeat").as(greedy).want(http.StatusNoContent)
}

func TestWhereNoTokenIsRequiredAnAddressRegistersTooOften(t *testing.T) {
	t.Parallel()
	s := newService(t, func(a *handlers.API) { a.RegisterRate = 1 })
	many := "[" + strings.TrimSuffix(strings.Repeat(`{"service":"web","port":80},`, 100), ",") + "]"
	s.json(http.MethodPost, "/v1/register", many).want(http.StatusMultiStatus)
	s.json(http.MethodPost, "/v1/register", many).problem(http.StatusTooManyRequests)
	s.json(http.MethodPost, "/v1/register", many).from("10.0.0.8:1234").want(http.StatusMultiStatus)
}

func TestLimitsAreWhatIsConfigured(t *testing.T) {
	t.Parallel()
	s := newService(t, func(a *handlers.API) { a.Rules.MaxHosts, a.MaxBody = 1, 100 })
	p := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "host", "a.test", "host", "b.test").problem(http.StatusUnprocessableEntity)
	if p.Field != "host" || !strings.Contains(p.Want, "at most 1") {
		t.Errorf("got %+v", p)
	}
	p = s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "tag", strings.Repeat("a", 100)).problem(http.StatusRequestEntityTooLarge)
	if !strings.Contains(p.Detail, "100 bytes") {
		t.Errorf("got %+v", p)
	}
}

// A page of another site may have its own name point to this machine (DNS rebinding): the
// browser then takes Rollcall for that site, and only the Host header says otherwise.
func TestWithoutTokensOnlyThisMachinesNamesAreServed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, host := range []string{
		"localhost", "LOCALHOST:8080", "127.0.0.1", "127.0.0.1:8080", "127.9.9.9:1", "[::1]", "[::1]:8080", "[::ffff:127.0.0.1]:80",
	} {
		s.at(host, "/v1/services").want(http.StatusOK)
	}
	for _, host := range []string{
		"evil.example:8080", "evil.example", "localhost.evil.example", "evil.localhost", "127.0.0.1.nip.io:8080", "10.0.0.1:8080", "0.0.0.0:8080",
		"[::]:8080", "[fe80::1]", "[::1%25lo]:8080", "", ":8080", "127.1", "2130706433", "localhost.:8080",
	} {
		for _, path := range []string{"/v1/services", "/", "/metrics", "/readyz", "/nothing-here"} {
			if p := s.at(host, path).problem(http.StatusForbidden); p.Type != "urn:rollcall:foreign-host" || !strings.Contains(p.Want, "ROLLCALL_ADMIN_TOKEN") {
				t.Errorf("%q: got %+v", host, p)
			}
		}
	}
	c := s.form(http.MethodPost, "/v1/tokens", "name", "n", "scope", "admin").header("Origin", "http://evil.example:8080").header("Sec-Fetch-Site", "same-origin")
	c.request.Host = "evil.example:8080"
	c.problem(http.StatusForbidden)

	s = guarded(t)
	s.at("rollcall.example", "/v1/services").as(boss).want(http.StatusOK)
	s.at("rollcall.example", "/livez").want(http.StatusOK)
}

func (s *service) at(host, path string) call {
	c := s.get(path)
	c.request.Host = host
	return c
}
