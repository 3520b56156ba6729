package handlers_test

import (
	"context"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
)

type listed struct {
	Revision  string
	Service   string
	Instances []instance
}

func (l listed) ids() []string {
	ids := []string{}
	for _, i := range l.Instances {
		ids = append(ids, i.ID)
	}
	return ids
}

func TestServices(t *testing.T) {
	t.Parallel()
	s := newService(t)
	type service struct {
		Name               string
		Healthy, Instances int
	}
	type answer struct {
		Revision string
		Services []service
	}
	got := decode[answer](s.get("/v1/services").want(http.StatusOK))
	same(t, "none", got, answer{Revision: "0-0", Services: []service{}})
	s.register("service", "web", "port", "81", "health", "none")
	s.register("service", "web", "port", "82", "health", "none")
	s.register("service", "web", "port", "83")
	last := s.register("service", "db", "port", "84")
	got = decode[answer](s.get("/v1/services").want(http.StatusOK))
	same(t, "two", got, answer{Revision: last.Revision, Services: []service{{"db", 0, 1}, {"web", 2, 3}}})
}

// everyState has an instance in each state, named after it.
func everyState(s *service, pairs ...string) {
	s.t.Helper()
	ctx := s.t.Context()
	for n, state := range []string{"starting", "healthy", "unhealthy", "failed", "draining"} {
		s.register(append(slices.Clone(pairs), "service", "web", "port", []string{"81", "82", "83", "84", "85"}[n], "id", state, "rise", "1", "fall", "1")...)
	}
	s.probed("healthy", pass())
	s.probed("unhealthy", pass())
	s.probed("unhealthy", refuse())
	if _, _, err := s.api.Registry.Drain(ctx, "draining", "", time.Minute); err != nil {
		s.t.Fatal(err)
	}
	s.expire("failed")
	for _, state := range []app.State{app.Starting, app.Healthy, app.Unhealthy, app.Failed, app.Draining} {
		s.awaitState(string(state), state)
	}
}

// expire ends an instance's state as when its deadline has passed.
func (s *service) expire(id string) {
	s.t.Helper()
	if _, err := s.api.Registry.Expire(s.t.Context(), s.instance(id), app.Fence{}, 0); err != nil {
		s.t.Fatal(err)
	}
}

func TestService(t *testing.T) {
	t.Parallel()
	s := newService(t)
	everyState(s)
	for query, want := range map[string][]string{
		"":                 {"healthy"},
		"?state=":          {"healthy"},
		"?state=healthy":   {"healthy"},
		"?state=starting":  {"starting"},
		"?state=unhealthy": {"unhealthy"},
		"?state=failed":    {"failed"},
		"?state=draining":  {"draining"},
		"?state=any":       {"draining", "failed", "healthy", "starting", "unhealthy"},
	} {
		got := decode[listed](s.get("/v1/services/web" + query).want(http.StatusOK))
		same(t, query, got.ids(), want)
		if got.Service != "web" || got.Revision != string(s.api.Replica.ServiceRevision("web")) {
			t.Errorf("%s: got %+v", query, got)
		}
	}
	p := s.get("/v1/services/web?state=gone").problem(http.StatusUnprocessableEntity)
	if p.Detail != `state is "gone"; give one of starting, healthy, unhealthy, failed, draining, any` {
		t.Errorf("a state that none is in: got %s", p.Detail)
	}
	for _, name := range []string{"db", "WEB", "", "a%00"} {
		s.get("/v1/services/" + name).problem(http.StatusNotFound)
	}
}

func TestServiceThatHasNotChanged(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "81", "health", "none", "id", "w1")
	tag := s.get("/v1/services/web").want(http.StatusOK).Header().Get("ETag")
	s.register("service", "db", "port", "82") // another service
	if a := s.get("/v1/services/web").header("If-None-Match", tag).want(http.StatusNotModified); a.Body.Len() > 0 || a.Header().Get("ETag") != tag {
		t.Errorf("got %s %s", a.Header(), a.Body)
	}
	s.get("/v1/services/web?wait=10ms").header("If-None-Match", tag).want(http.StatusNotModified)
	s.get("/v1/services/web?wait=5m").want(http.StatusOK)                                  // no revision: no wait
	s.get("/v1/services/web?wait=5m").header("If-None-Match", `"1-1"`).want(http.StatusOK) // an old revision: no wait

	answers := s.get("/v1/services/web?wait=5m").header("If-None-Match", tag).start()
	s.register("service", "web", "port", "83", "health", "none", "id", "w2")
	a := <-answers
	if got := decode[listed](a); a.Code != http.StatusOK || len(got.Instances) != 2 || a.Header().Get("ETag") == tag {
		t.Errorf("got %d %s", a.Code, a.Body)
	}

	ctx, leave := context.WithCancel(t.Context())
	answers = s.get("/v1/services/web?wait=5m").header("If-None-Match", a.Header().Get("ETag")).with(ctx).start()
	leave()
	<-answers
}

// Proxies and caches send a tag back in forms of their own: RFC 9110, 13.1.2, and the
// suffixes of Apache's and Jetty's compression.
func TestATagThatAProxyHasChangedStillWaits(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "81", "health", "none", "id", "w1")
	tag := s.get("/v1/services/web").want(http.StatusOK).Header().Get("ETag")
	bare := strings.Trim(tag, `"`)
	for _, header := range []string{
		tag, "W/" + tag, bare, `"` + bare + `-gzip"`, `W/"` + bare + `-gzip"`, `"` + bare + `--gzip"`, `"` + bare + `-br"`, `"` + bare + `;gzip"`,
		`"1-1", ` + tag, tag + `,"1-1"`, `"other", W/"` + bare + `-gzip"`, "*", ` ` + tag + ` `,
	} {
		s.get("/v1/services/web").header("If-None-Match", header).want(http.StatusNotModified)
		s.get("/v1/services/web?wait=10ms").header("If-None-Match", header).want(http.StatusNotModified)
	}
	s.get("/v1/services/web").header("If-None-Match", `"1-1"`).header("If-None-Match", tag).want(http.StatusNotModified)
	for _, header := range []string{`"1-1"`, `"1-1-gzip", "other"`, `"other"`, `""`, ","} {
		s.get("/v1/services/web?wait=5m").header("If-None-Match", header).want(http.StatusOK)
	}
}

type frontend struct {
	Host, Key, Service, Identifier string
	Slots, Unlisted                []slot
}

type slot struct {
	URL, Instance string
	Routed        bool
	Why           string
	Leaves        *time.Time
}

func (s slot) String() string {
	text := strings.TrimSpace(s.URL+" "+s.Instance) + ": "
	if s.Routed {
		text += "routed, "
	}
	if s.Leaves != nil {
		text += "leaving, "
	}
	return text + s.Why
}

func (s *service) frontends() map[string][]string {
	s.t.Helper()
	all := map[string][]string{}
	for _, f := range decode[struct{ Frontends []frontend }](s.get("/v1/frontends").want(http.StatusOK)).Frontends {
		for _, slot := range append(f.Slots, f.Unlisted...) {
			all[f.Host] = append(all[f.Host], slot.String())
		}
	}
	return all
}

func TestFrontends(t *testing.T) {
	t.Parallel()
	s := newService(t)
	got := decode[struct{ Frontends []frontend }](s.get("/v1/frontends").want(http.StatusOK))
	if diff := cmp.Diff([]frontend{}, got.Frontends); diff != "" {
		t.Errorf("none (-want +got):\n%s", diff)
	}
	s.register("service", "web", "port", "81", "health", "none", "host", "b.test", "host", "a.test", "id", "w1")
	got = decode[struct{ Frontends []frontend }](s.get("/v1/frontends").want(http.StatusOK))
	slots := []slot{{URL: "http://10.0.0.7:81", Instance: "w1", Routed: true, Why: "healthy"}}
	want := []frontend{
		{Host: "a.test", Key: "frontend:a.test", Service: "web", Identifier: "web", Slots: slots, Unlisted: []slot{}},
		{Host: "b.test", Key: "frontend:b.test", Service: "web", Identifier: "web", Slots: slots, Unlisted: []slot{}},
	}
	if diff := cmp.Diff(want, got.Frontends); diff != "" {
		t.Errorf("two (-want +got):\n%s", diff)
	}
}

func TestFrontendsSayWhy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	ctx := t.Context()
	mark := func(host string, slot int) {
		t.Helper()
		if err := s.rdb.SAdd(ctx, s.prefix+"dead:"+host, slot).Err(); err != nil {
			t.Fatal(err)
		}
	}

	everyState(s, "host", "states.test")
	s.register("service", "web", "port", "86", "id", "overridden", "host", "states.test", "health", "none")
	until := decode[instance](s.form(http.MethodPatch, "/v1/instances/overridden", "maintenance", "true", "for", "1m").want(http.StatusOK)).Override.Until
	mark("states.test", 0)

	// A foreign backend, and a proxy's mark on it.
	if err := s.rdb.RPush(ctx, s.prefix+"frontend:foreign.test", "theirs", "http://192.0.2.1:80", "http://192.0.2.2:80").Err(); err != nil {
		t.Fatal(err)
	}
	s.register("service", "foreign", "port", "90", "id", "f1", "health", "none", "host", "foreign.test")
	mark("foreign.test", 1)

	// The last backend stays, despite failed checks and a proxy's mark.
	for _, host := range []string{"last.test", "marked.test"} {
		s.register("service", host, "port", "91", "id", host, "host", host, "rise", "1", "fall", "1")
		s.probed(host, pass())
		s.probed(host, refuse())
	}
	mark("marked.test", 0)

	// One leaves, one is heavier than it was and one lighter.
	s.register("service", "leaving", "port", "92", "id", "l1", "host", "leaving.test", "health", "none")
	s.register("service", "leaving", "port", "93", "id", "l2", "host", "leaving.test", "health", "none", "weight", "2")
	s.form(http.MethodPost, "/v1/register", "service", "leaving", "port", "93", "id", "l2", "host", "leaving.test", "health", "none").want(http.StatusOK)
	s.call(http.MethodDelete, "/v1/instances/l1", nil).want(http.StatusNoContent)

	// A list was deleted.
	s.register("service", "missing", "port", "94", "id", "m1", "host", "missing.test", "health", "none")
	if err := s.rdb.Del(ctx, s.prefix+"frontend:missing.test").Err(); err != nil {
		t.Fatal(err)
	}

	got := s.frontends()
	for host, want := range map[string][]string{
		"states.test": {
			"http://10.0.0.7:82 healthy: healthy, but a proxy has marked it: the next good probe clears that",
			"http://10.0.0.7:83 unhealthy: leaving, unhealthy (connection refused): marked, and about to leave the list",
			"http://10.0.0.7:86 overridden: leaving, in maintenance until " + until.Format(time.RFC3339) + ": marked, and about to leave the list",
			"http://10.0.0.7:81 starting: starting",
			"http://10.0.0.7:84 failed: failed",
			"http://10.0.0.7:85 draining: draining",
		},
		"foreign.test": {
			"http://192.0.2.1:80: routed, not Rollcall's: left alone",
			"http://192.0.2.2:80: not Rollcall's; a proxy has marked it",
			"http://10.0.0.7:90 f1: routed, healthy",
		},
		"missing.test": {"http://10.0.0.7:94 m1: healthy, but missing: the next reconciliation adds it"},
		"last.test":    {"http://10.0.0.7:91 last.test: routed, unhealthy (connection refused), but nothing else is routable: the last one stays"},
		"marked.test":  {"http://10.0.0.7:91 marked.test: unhealthy (connection refused), and a proxy has marked it"},
		"leaving.test": {
			"http://10.0.0.7:92: leaving, no longer registered: marked, and about to leave the list",
			"http://10.0.0.7:93 l2: routed, healthy",
			"http://10.0.0.7:93 l2: leaving, healthy, but its weight was lowered: marked, and about to leave the list",
		},
	} {
		same(t, host, got[host], want)
	}
}

func TestReadsBeforeAnythingWasHeard(t *testing.T) {
	t.Parallel()
	s := newServiceOn(t, nil)
	for _, path := range []string{
		"/readyz", "/v1/services", "/v1/services/web", "/v1/services/web/pick", "/v1/services/web/env", "/v1/env?link=web", "/v1/events",
		"/v1/frontends", "/v1/explain?host=a.test", "/v1/sd/prometheus", "/v1/traefik", "/v1/tls/ask?domain=a.test",
	} {
		a := s.get(path).do()
		p := a.problem(http.StatusServiceUnavailable)
		if p.Type != "urn:rollcall:unavailable" || p.Detail != "this process has not read it yet" || p.Want != "try again: every call may be repeated" || a.Header().Get("Retry-After") != "1" {
			t.Errorf("%s: got %v %+v", path, a.Header(), p)
		}
	}
	s.get("/livez").want(http.StatusOK)
}

func TestExplainSaysWhoIsRegistered(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "address", "10.0.0.7:80", "id", "w1", "host", "a.test", "host", "b.test", "health", "tcp", "rise", "1", "fall", "1")
	said := func(host string) string {
		verdict, _ := decode[map[string]any](s.get("/v1/explain?host=" + host).want(http.StatusOK))["verdict"].(string)
		return verdict
	}
	if got := said("a.test"); !strings.HasSuffix(got, "; w1 is starting") {
		t.Errorf("not checked yet: %s", got)
	}
	s.probed("w1", refuse())
	if got := said("b.test"); !strings.HasSuffix(got, "; w1 is starting (connection refused)") {
		t.Errorf("checked once: %s", got)
	}
	if got := said("other.test"); strings.Contains(got, "w1") {
		t.Errorf("of another vhost: %s", got)
	}
	if got := said("http://a.test:8000/path"); !strings.HasSuffix(got, "; w1 is starting (connection refused)") {
		t.Errorf("a URL: %s", got)
	}
	s.probed("w1", pass())
	s.probed("w1", refuse())
	s.await(func() bool { i, _ := s.api.Replica.Instance("w1"); return i.State == app.Unhealthy })
	if got := said("a.test"); !strings.Contains(got, "nothing in it is healthy") {
		t.Errorf("the last one, sick: %s", got)
	}
}
