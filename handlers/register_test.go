package handlers_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/handlers"
	"rollcall/tests/harness"
)

// TestAHeaderOfACheckIsNeverShown looks for the value in every read that shows instances or changes.
func TestAHeaderOfACheckIsNeverShown(t *testing.T) {
	t.Parallel()
	const secret = "t0ken-of-the-check"
	s := newService(t)
	form := []string{"service", "web", "id", "web-1", "address", "10.0.0.8:80", "host", "shop.test", "health", "/", "health_header", "Authorization: Bearer " + secret}
	got := s.register(form...)
	same(t, "names of headers", got.Check.Headers, []string{"Authorization"})
	if i := s.instance("web-1"); i.Check.Headers != "Authorization: Bearer "+secret+"\r\n" {
		t.Errorf("the registry has %q", i.Check.Headers)
	}
	for _, path := range []string{
		"/v1/instances/web-1", "/v1/services/web?state=any", "/v1/services/web/history", "/v1/explain?host=shop.test", "/v1/frontends", "/v1/sd/prometheus?state=any",
		"/", "/instances/web-1", "/instances", "/services/web", "/events", "/metrics",
	} {
		r := httptest.NewRecorder()
		s.http.ServeHTTP(r, s.get(path).request)
		if text := r.Body.String(); r.Code != http.StatusOK || strings.Contains(text, secret) {
			t.Errorf("%s: %d, shows the header: %s", path, r.Code, text)
		}
	}
}

func TestReceipt(t *testing.T) {
	t.Parallel()
	s := newService(t)
	before := s.store.Now().Truncate(time.Millisecond)
	got := s.register(
		"service", "web", "address", "10.0.0.8:8080", "host", "Shop.example.com", "host", "*.example.com",
		"health", ":8081/healthz?full=1", "health_host", "Health.test", "expect", "200-204", "expect", "all well", "id", "web-1", "boot", "b1", "replaces", "web-0",
		"interval", "5s", "timeout", "500ms", "rise", "3", "fall", "1", "grace", "30s", "forget", "1h", "weight", "2",
		"tag", "blue", "tag", "canary", "meta.owner", "sales", "meta.note", "", "fail_open", "false",
	)
	if got.FirstProbe.Before(before) || got.FirstProbe.After(s.store.Now()) {
		t.Errorf("the first probe is due at %s, registered at %s", got.FirstProbe, before)
	}
	if got.Revision == "" {
		t.Error("the receipt has no revision")
	}
	if s.get("/v1/services/web").want(http.StatusOK); got.Revision != string(s.api.Replica.Revision()) {
		t.Errorf("revision %q, and the next read was at %q", got.Revision, s.api.Replica.Revision())
	}
	want := receipt{
		ID: "web-1", Service: "web", State: "starting", New: true, Address: "10.0.0.8:8080", AddressFrom: "given",
		Check: check{
			Kind: "http", Target: "http://10.0.0.8:8081/healthz?full=1", Expect: "200-204", ExpectBody: "all well", Host: "health.test",
			Interval: "5s", Timeout: "500ms", Rise: 3, Fall: 1, Grace: "30s", Forget: "1h0m0s",
		},
		Frontends: []frontendChange{
			{Host: "*.example.com", Key: "frontend:*.example.com", Backend: "http://10.0.0.8:8080", Slots: 2},
			{Host: "shop.example.com", Key: "frontend:shop.example.com", Backend: "http://10.0.0.8:8080", Slots: 2},
		},
		Replaces: "web-0",
		Next: "healthy once it has passed its probe 3 times in a row; failed if that takes longer than 30s; " +
			"then it takes over from web-0, which stays until then",
		Links: map[string]string{
			"self": "GET /v1/instances/web-1", "heartbeat": "POST /v1/instances/web-1/heartbeat",
			"drain": "POST /v1/instances/web-1/drain", "deregister": "DELETE /v1/instances/web-1",
		},
	}
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(receipt{}, "FirstProbe", "Revision")); diff != "" {
		t.Errorf("receipt (-want +got):\n%s", diff)
	}
	i := s.instance("web-1")
	same(t, "tags", i.Tags, []string{"blue", "canary"})
	same(t, "meta", i.Meta, map[string]string{"owner": "sales", "note": ""})
	if i.Boot != "b1" || i.FailOpen {
		t.Errorf("stored as %+v", i)
	}
}

// TestJSONSaysWhatFormsSay registers the same instance by a form and by JSON, so the second registration changes no field.
func TestJSONSaysWhatFormsSay(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "8080", "host", "a.test", "health", "/", "expect", "200", "id", "5", "weight", "2",
		"interval", "5s", "rise", "1", "fail_open", "false", "tag", "a", "tag", "b", "meta.n", "1.50", "meta.ok", "true", "meta.a.b", "é")
	before := s.stored()
	got := decode[receipt](s.json(http.MethodPost, "/v1/register", `{
		"service": "web", "port": 8080, "host": ["a.test"], "health": "\/", "expect": 200, "id": 5, "weight": "2",
		"interval": "5s", "rise": 1, "fail_open": false, "tag": ["a", "b"], "boot": null,
		"meta": {"n": 1.50, "ok": true, "none": null}, "meta.a.b": "\u00e9"
	}`).want(http.StatusOK))
	if got.New || got.Revision != "" {
		t.Errorf("got %+v", got)
	}
	same(t, "what is stored", s.stored(), before)
}

func TestNextSaysWhatHappens(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for n, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{}, "healthy once it has passed its probe twice in a row; failed if that takes longer than 1m0s"},
		{[]string{"rise", "1"}, "healthy once it has passed its probe once; failed if that takes longer than 1m0s"},
		{[]string{"health", "heartbeat"}, "healthy once it has reported well once; then it has to report every 5s; failed if that takes longer than 1m0s"},
		{[]string{"health", "none"}, "healthy: found by others, and not routed, because it has no host"},
		{[]string{"health", "none", "host", "a.test"}, "healthy: found by others, and routed"},
		{[]string{"health", "none", "replaces", "x"}, "healthy: found by others, and not routed, because it has no host"},
	} {
		got := s.register(append(c.pairs, "service", "web", "port", fmt.Sprint(80+n))...)
		if got.Next != c.want {
			t.Errorf("%q: %s, want %s", c.pairs, got.Next, c.want)
		}
		if probed := got.Check.Target != ""; probed == got.FirstProbe.IsZero() {
			t.Errorf("%q: probed at %q, first at %s", c.pairs, got.Check.Target, got.FirstProbe)
		}
		if heartbeat := got.Check.Kind == "heartbeat"; heartbeat != (got.Check.Lease == "11s") {
			t.Errorf("%q: a %s check with the lease %q", c.pairs, got.Check.Kind, got.Check.Lease)
		}
	}
}

func TestRegisteringAgain(t *testing.T) {
	t.Parallel()
	s := newService(t)
	first := s.register("service", "web", "port", "80", "health", "none")
	again := decode[receipt](s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "health", "none").want(http.StatusOK))
	if again.New || again.ID != first.ID || again.Revision != "" || again.State != "healthy" {
		t.Errorf("unchanged: got %+v", again)
	}
	changed := decode[receipt](s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "health", "none", "weight", "3").want(http.StatusOK))
	if changed.New || changed.Revision == "" || s.instance(first.ID).Weight != 3 {
		t.Errorf("changed: got %+v", changed)
	}
}

func TestRegisteringTheStartThatDrains(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1", "boot", "b1")
	if _, _, err := s.api.Registry.Drain(t.Context(), "w1", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	p := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "id", "w1", "boot", "b1").problem(http.StatusGone)
	if p.Type != "urn:rollcall:draining" || p.Want == "" {
		t.Errorf("got %+v", p)
	}
	got := decode[receipt](s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "id", "w1", "boot", "b2").want(http.StatusOK))
	if got.State != "starting" {
		t.Errorf("another start: got %+v", got)
	}
}

func TestAddressOfTheCaller(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for remote, want := range map[string]string{
		"10.0.0.7:1234":           "10.0.0.7:80",
		"[2001:DB8:0::7]:1234":    "[2001:db8::7]:80",
		"[::ffff:192.0.2.4]:1234": "192.0.2.4:80",
		"127.0.0.1:1":             "127.0.0.1:80",
		"[::1]:1234":              "[::1]:80",
	} {
		c := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").from(remote).header("X-Forwarded-For", "192.0.2.9").
			header("X-Real-Ip", "192.0.2.9").header("Forwarded", "for=192.0.2.9")
		if got := decode[receipt](c.want(http.StatusCreated)); got.Address != want || got.AddressFrom != "caller" {
			t.Errorf("%s: got %s from %s, want %s", remote, got.Address, got.AddressFrom, want)
		}
	}
	for remote, want := range map[string]string{
		"@":                   "address is missing, and the call did not come over IP; give address as host:port",
		"":                    "address is missing, and the call did not come over IP; give address as host:port",
		"[fe80::1%eth0]:1234": "address has an IPv6 zone; an address with a zone means something else on every machine",
	} {
		p := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").from(remote).problem(http.StatusUnprocessableEntity)
		if p.Detail != want {
			t.Errorf("%q: got %s, want %s", remote, p.Detail, want)
		}
	}
}

func TestGivenAddresses(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for given, want := range map[string]string{
		"address=10.0.0.8:80": "10.0.0.8:80", "address=WEB-1.internal:80": "web-1.internal:80", "address=[2001:DB8::1]:80": "[2001:db8::1]:80",
		"address=::1 port=80": "[::1]:80", "address=10.0.0.9 port=80": "10.0.0.9:80", "address=10.0.0.10:80 port=80": "10.0.0.10:80",
	} {
		var pairs []string
		for pair := range strings.FieldsSeq(given) {
			name, value, _ := strings.Cut(pair, "=")
			pairs = append(pairs, name, value)
		}
		if got := s.register(append(pairs, "service", "web")...); got.Address != want || got.AddressFrom != "given" {
			t.Errorf("%s: got %s from %s, want %s", given, got.Address, got.AddressFrom, want)
		}
	}
}

func TestForwardedFor(t *testing.T) {
	t.Parallel()
	_, proxies, err := net.ParseCIDR("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(a *handlers.API) { a.TrustedProxies = []*net.IPNet{proxies} })
	for _, c := range []struct{ remote, header, want string }{
		{"10.0.0.7:1", "", "10.0.0.7:80"},
		{"10.0.0.7:1", "192.0.2.1", "192.0.2.1:80"},
		{"10.0.0.7:1", "2001:db8::1", "[2001:db8::1]:80"},
		{"10.0.0.7:1", "6.6.6.6, 192.0.2.2", "192.0.2.2:80"},           // the caller controls the elements further left
		{"10.0.0.7:1", "6.6.6.6, 192.0.2.3, 10.0.0.8", "192.0.2.3:80"}, // through two proxies
		{"192.0.2.4:1", "192.0.2.5", "192.0.2.4:80"},                   // not a proxy
		{"127.0.0.1:1", "192.0.2.6", "127.0.0.1:80"},                   // neither is this, unless it is said
		{"[::1]:1", "192.0.2.6", "[::1]:80"},
		{"10.0.0.7:1", "10.77.0.9, 192.0.2.7:51008", "192.0.2.7:80"}, // some proxies send the port, too
		{"10.0.0.7:1", "[2001:db8::1]:51008", "[2001:db8::1]:80"},
		{"10.0.0.7:1", "[2001:db8::1]", "[2001:db8::1]:80"},
		{"10.0.0.7:1", "\"[2001:db8::1]:4711\"", "[2001:db8::1]:80"},
		{"10.0.0.7:1", "2001:db8::1%eth0", "[2001:db8::1]:80"},
		{"10.0.0.7:1", "::ffff:192.0.2.8", "192.0.2.8:80"},
		{"10.0.0.7:1", "192.0.2.9, , ", "192.0.2.9:80"},
		{"10.0.0.7:1", "garbage, 192.0.2.10", "192.0.2.10:80"}, // further left than the client
		{"10.0.0.7:1", "192.0.2.11, 10.0.0.8:4711", "192.0.2.11:80"},
		{"10.0.0.7:1", "10.0.0.9, 10.0.0.8", "10.0.0.9:80"}, // a container in the proxies' network
		{"192.0.2.4:1", "nonsense", "192.0.2.4:80"},         // not a proxy
	} {
		call := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").from(c.remote)
		if c.header != "" {
			call = call.header("X-Forwarded-For", c.header)
		}
		if got := decode[receipt](call.do()); got.Address != c.want {
			t.Errorf("%s for %q: got %s, want %s", c.remote, c.header, got.Address, c.want)
		}
	}
}

// A proxy's address is never taken for the client's.
func TestAForwardedHeaderThatCannotBeUnderstoodIsRefused(t *testing.T) {
	t.Parallel()
	_, proxies, err := net.ParseCIDR("10.0.0.0/8")
	if err != nil {
		t.Fatal(err)
	}
	s := newService(t, func(a *handlers.API) { a.TrustedProxies = []*net.IPNet{proxies} })
	for _, c := range []struct{ name, value string }{
		{"X-Forwarded-For", "nonsense"},
		{"X-Forwarded-For", "unknown"},
		{"X-Forwarded-For", "192.0.2.1, unknown, 10.0.0.8"},
		{"X-Forwarded-For", " , ,"},
		{"X-Forwarded-For", "192.0.2.1:http"},
		{"X-Forwarded-For", "[2001:db8::1"},
		{"X-Forwarded-For", "0.0.0.0"},
		{"X-Forwarded-For", "192.0.2.1.5:80"},
		{"Forwarded", "for=unknown"},
		{"Forwarded", "for=_hidden"},
		{"Forwarded", "proto=https"},
	} {
		p := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").from("10.0.0.7:1").header(c.name, c.value).
			problem(http.StatusUnprocessableEntity)
		if p.Field != c.name {
			t.Errorf("%s: %s: got %+v", c.name, c.value, p)
		}
		// A registration with an address needs no client address.
		given := s.form(http.MethodPost, "/v1/register", "service", "web", "address", "192.0.2.77:80").from("10.0.0.7:1").header(c.name, c.value)
		if got := decode[receipt](given.do()); got.Address != "192.0.2.77:80" {
			t.Errorf("%s: %s: got %+v", c.name, c.value, got)
		}
	}
	for value, want := range map[string]string{
		"for=192.0.2.1": "192.0.2.1:80", `For="[2001:db8::1]:4711";proto=https`: "[2001:db8::1]:80",
		"for=6.6.6.6, proto=http; for=192.0.2.2, for=10.0.0.8": "192.0.2.2:80",
	} {
		call := s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80").from("10.0.0.7:1").header("Forwarded", value)
		if got := decode[receipt](call.do()); got.Address != want {
			t.Errorf("Forwarded: %s: got %s, want %s", value, got.Address, want)
		}
	}
}

func TestWaitIsOverWhenHealthy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	answers := s.form(http.MethodPost, "/v1/register?wait=5m", "service", "web", "port", "80", "rise", "1", "host", "a.test", "id", "w1").start()
	s.awaitState("w1", app.Starting)
	s.probed("w1", pass())
	a := <-answers
	got := decode[receipt](a)
	if a.Code != http.StatusCreated || got.State != "healthy" || got.Next != "healthy: found by others, and routed" {
		t.Errorf("got %d %+v", a.Code, got)
	}
	got = decode[receipt](s.form(http.MethodPost, "/v1/register?wait=5m", "service", "web", "port", "80", "rise", "1", "host", "a.test", "id", "w1").want(http.StatusOK))
	if got.State != "healthy" {
		t.Errorf("again: got %+v", got)
	}
}

func TestWaitRunsOut(t *testing.T) {
	t.Parallel()
	s := newService(t)
	web := []string{"service", "web", "port", "80", "id", "w1", "replaces", "w0"}
	p := s.form(http.MethodPost, "/v1/register?wait=10ms", web...).problem(http.StatusFailedDependency)
	if p.Type != "urn:rollcall:not-healthy" || p.ID != "w1" || p.State != "starting" || p.Reason != "not probed yet" {
		t.Errorf("not probed: got %+v", p)
	}
	s.probed("w1", refuse())
	p = s.form(http.MethodPost, "/v1/register?wait=10ms", web...).problem(http.StatusFailedDependency)
	if p.Reason != "connection refused" || !strings.HasPrefix(p.Detail, "w1 is starting after ") || !strings.HasSuffix(p.Detail, "s: connection refused; w0 stays") {
		t.Errorf("refused: got %+v", p)
	}
	p = s.form(http.MethodPost, "/v1/register?wait=10ms", "service", "web", "port", "81", "health", "heartbeat").problem(http.StatusFailedDependency)
	if p.Reason != "no report yet" {
		t.Errorf("heartbeat: got %+v", p)
	}
}

// TestWaitEndsWithTheState changes the state of instances during a wait.
func TestWaitEndsWithTheState(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for state, turn := range map[string]func(id string) error{
		"failed": func(id string) error {
			_, err := s.api.Registry.Expire(t.Context(), s.instance(id), app.Fence{}, 0)
			return err
		},
		"draining": func(id string) error {
			_, _, err := s.api.Registry.Drain(t.Context(), id, "", time.Minute)
			return err
		},
		"gone": func(id string) error {
			_, _, err := s.api.Registry.Deregister(t.Context(), id, "")
			return err
		},
	} {
		answers := s.form(http.MethodPost, "/v1/register?wait=5m", "service", "web", "port", "80", "id", state).from("10.0.1." + fmt.Sprint(len(state)) + ":1").start()
		s.awaitState(state, app.Starting)
		if err := turn(state); err != nil {
			t.Fatal(err)
		}
		if p := (<-answers).problem(http.StatusFailedDependency); p.ID != state || p.State != state {
			t.Errorf("%s: got %+v", state, p)
		}
	}
}

// TestWaitForOneThatHasFailed: it is still probed, so there is something to wait for.
func TestWaitForOneThatHasFailed(t *testing.T) {
	t.Parallel()
	s := newService(t)
	web := []string{"service", "web", "port", "80", "id", "w1", "rise", "1", "fall", "1"}
	s.register(web...)
	s.probed("w1", pass())
	s.probed("w1", refuse())
	s.awaitState("w1", app.Unhealthy)
	answers := s.form(http.MethodPost, "/v1/register?wait=5m", web...).start()
	s.probed("w1", pass())
	a := <-answers
	if got := decode[receipt](a); a.Code != http.StatusOK || got.State != "healthy" {
		t.Errorf("got %d %+v", a.Code, got)
	}
}

func TestWaitEndsWhenTheCallerGoesAway(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ctx, leave := context.WithCancel(t.Context())
	answers := s.form(http.MethodPost, "/v1/register?wait=5m", "service", "web", "port", "80", "id", "w1").with(ctx).start()
	s.awaitState("w1", app.Starting)
	leave()
	if a := <-answers; a.Body.Len() > 0 {
		t.Errorf("answered %s", a.Body)
	}
	if got := s.logs.String(); got != "" {
		t.Errorf("logged %s", got)
	}
}

type verdict struct {
	Status  int
	Receipt *receipt
	Problem *problem
}

func (v verdict) String() string {
	if v.Problem != nil {
		return fmt.Sprintf("%d %s: %s", v.Status, v.Problem.Field, v.Problem.Detail)
	}
	return fmt.Sprintf("%d %s %s", v.Status, v.Receipt.ID, v.Receipt.State)
}

func TestArrayIsJudgedOneByOne(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "known", "host", "a.test")
	a := s.json(http.MethodPost, "/v1/register", `[
		{"service": "web", "port": 81, "id": "new", "health": "none"},
		{"service": "web", "port": 80, "id": "known", "host": "a.test"},
		{"service": "web", "port": "x"},
		{"service": "web", "port": {"a": 1}},
		{"service": "web", "port": 80, "port": 80},
		5,
		{"service": "db", "port": 82, "host": "a.test"},
		{"service": "db", "port": 82, "id": "db"}
	]`).want(http.StatusMultiStatus)
	var got []string
	for _, v := range decode[[]verdict](a) {
		got = append(got, v.String())
		if v.Problem != nil && v.Problem.Status != v.Status {
			t.Errorf("a problem of status %d in %s", v.Problem.Status, v)
		}
	}
	same(t, "verdicts", got, []string{
		"201 new healthy",
		"200 known starting",
		`422 port: port is "x"; give a number from 1 to 65535`,
		"422 port: port is an object; give text, a number or a boolean",
		"422 port: port is given twice; give it once",
		"400 : malformed JSON: not an object",
		"409 host: host a.test is served by the service web (known is starting); a vhost belongs to one service at a time: deregister its instances first (DELETE /v1/instances/known), or choose another vhost",
		"201 db starting",
	})
	s.api.Replica.WaitWrites(t.Context())
	same(t, "services", s.api.Replica.Services(), []string{"db", "web"})
}

func TestArrayOfAHundred(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var entries []string
	for n := range 100 {
		entries = append(entries, fmt.Sprintf(`{"service":"web","port":%d}`, 8000+n))
	}
	verdicts := decode[[]verdict](s.json(http.MethodPost, "/v1/register", "["+strings.Join(entries, ",")+"]").want(http.StatusMultiStatus))
	s.api.Replica.WaitWrites(t.Context())
	if len(verdicts) != 100 || len(s.api.Replica.Instances("web")) != 100 {
		t.Errorf("%d verdicts, %d instances", len(verdicts), len(s.api.Replica.Instances("web")))
	}
}

func TestArrayWaitsForAll(t *testing.T) {
	t.Parallel()
	s := newService(t)
	answers := s.json(http.MethodPost, "/v1/register?wait=500ms", `[
		{"service": "web", "port": 81, "id": "w1", "rise": 1},
		{"service": "web", "port": 82, "id": "w2", "rise": 1},
		{"service": "web", "port": 83, "id": "w3", "health": "none"},
		{"service": "web"}
	]`).start()
	s.awaitState("w2", app.Starting)
	s.probed("w2", pass())
	s.probed("w1", refuse())
	a := <-answers
	var got []string
	for _, v := range decode[[]verdict](a) {
		got = append(got, strings.SplitN(v.String(), " after", 2)[0])
		if v.Receipt != nil && v.Receipt.Next != "healthy: found by others, and not routed, because it has no host" {
			t.Errorf("%s is next %s", v, v.Receipt.Next)
		}
	}
	same(t, "verdicts", got, []string{"424 : w1 is starting", "201 w2 healthy", "201 w3 healthy", "422 port: port is missing; give port, or address as host:port"})
}

// TestArrayWithoutRegistry must not take a second for each entry.
func TestArrayWithoutRegistry(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := newServiceOn(t, server.Client(t))
	server.Freeze()
	defer server.Thaw()
	began := time.Now()
	entries := slices.Repeat([]string{`{"service":"web","port":80}`}, 100)
	a := s.json(http.MethodPost, "/v1/register", "["+strings.Join(entries, ",")+"]").want(http.StatusMultiStatus)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
	for n, v := range decode[[]verdict](a) {
		if v.Status != http.StatusServiceUnavailable || v.Problem.Type != "urn:rollcall:unavailable" {
			t.Errorf("entry %d: %s", n, v)
		}
		if n > 0 && v.Problem.Want != "try again: every call may be repeated" { // only the first one was tried
			t.Errorf("entry %d: advised %q", n, v.Problem.Want)
		}
	}
}

// A write is answered before the replica has it. The next call of the same process still answers with it.
func TestCallsFollowTheWritesBeforeThem(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for range 50 {
		s.register("service", "web", "port", "80", "id", "w1", "health", "none", "boot", "a") // new: 201
		s.form(http.MethodPost, "/v1/instances/w1/drain", "hold", "0s").want(http.StatusOK)
		s.form(http.MethodPost, "/v1/register", "service", "web", "port", "80", "id", "w1", "health", "none", "boot", "a").want(http.StatusGone)
		s.call(http.MethodPost, "/v1/instances/w1/heartbeat", nil).want(http.StatusGone)
		s.call(http.MethodDelete, "/v1/instances/w1", nil).want(http.StatusNoContent)
		s.get("/v1/services/web").want(http.StatusNotFound)
	}
}

// TestARegistrationThatWasMadeIsNotRefusedWithoutSayingSo loses Redis while a caller waits.
func TestARegistrationThatWasMadeIsNotRefusedWithoutSayingSo(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := newServiceOn(t, server.Client(t))
	s.follow(server.Client)
	answers := s.form(http.MethodPost, "/v1/register?wait=1s", "service", "web", "port", "80", "id", "w1").start()
	s.awaitState("w1", app.Starting)
	server.Freeze()
	defer server.Thaw()
	p := decode[problem](<-answers)
	if p.Status != http.StatusServiceUnavailable || !strings.Contains(p.Want, "may have been made") {
		t.Errorf("got %+v, want 503 and that the change may have been made", p)
	}
}

// TestArrayLogsWhatIsNotTheCallersFault breaks the stored document of one instance.
func TestArrayLogsWhatIsNotTheCallersFault(t *testing.T) {
	t.Parallel()
	s := newService(t, func(a *handlers.API) { // it reads every instance from the store
		a.Registry = registry.New(a.Store.(*redisstore.Store), nil, a.Now, time.Second, func(context.Context, app.Step) {})
	})
	s.corrupt("w1")
	a := s.json(http.MethodPost, "/v1/register", `[{"service":"web","port":80,"id":"w1"},{"service":"web","port":81,"id":"w2"}]`).want(http.StatusMultiStatus)
	got := decode[[]verdict](a)
	if got[0].Status != http.StatusInternalServerError || got[1].Status != http.StatusCreated {
		t.Errorf("got %v", got)
	}
	if logged := s.logs.String(); strings.Count(logged, "\n") != 1 || !strings.Contains(logged, "register w1: decode instance w1") {
		t.Errorf("logged %s", logged)
	}
}

// corrupt stores an invalid document.
func (s *service) corrupt(id string) {
	s.t.Helper()
	if err := s.rdb.Set(s.t.Context(), s.prefix+"instance:"+id, "secret", 0).Err(); err != nil {
		s.t.Fatal(err)
	}
}

// awaitState waits until reads see an instance in a state.
func (s *service) awaitState(id string, state app.State) {
	s.t.Helper()
	s.await(func() bool { i, _ := s.api.Replica.Instance(id); return i.State == state })
}
