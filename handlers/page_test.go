package handlers_test

import (
	"fmt"
	"html"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/tests/harness"
)

// page is a page that must be answered, as people read it: its text, without tags.
func (s *service) page(path string, status int) (text, source string) {
	s.t.Helper()
	a := s.get(path).want(status)
	if got := a.Header().Get("Content-Type"); got != "text/html; charset=UTF-8" {
		s.t.Fatalf("%s: it is %s", path, got)
	}
	source = a.Body.String()
	main := source[strings.Index(source, "<main"):strings.Index(source, "</main>")]
	return html.UnescapeString(strings.Join(strings.Fields(tags.ReplaceAllString(main, " ")), " ")), source
}

var tags = regexp.MustCompile(`<[^>]*>`)

// says fails the test when a page lacks a text.
func (s *service) says(path string, texts ...string) {
	s.t.Helper()
	got, _ := s.page(path, http.StatusOK)
	for _, text := range texts {
		if !strings.Contains(got, text) {
			s.t.Errorf("%s does not say %q:\n%s", path, text, got)
		}
	}
}

// rows are the ids of the rows of a page, in order and without their prefix.
func (s *service) rows(path, prefix string) string {
	s.t.Helper()
	_, source := s.page(path, http.StatusOK)
	var ids []string
	for _, found := range regexp.MustCompile(`(?:<tr|<li) id="`+prefix+`([^"]*)"`).FindAllStringSubmatch(source, -1) {
		ids = append(ids, html.UnescapeString(found[1]))
	}
	return strings.Join(ids, " ")
}

func TestPagesOfAnEmptyRegistry(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.says("/", "Nothing is registered.", "Waiting for the first registration", "Nothing has happened yet.", "No instance serves a vhost.")
	s.says("/instances", "There is no instance.")
	s.says("/instances?q=a", "0 of 0 found", "No instance matches.")
	s.says("/frontends", "No instance serves a vhost.")
	s.says("/frontends?q=a", "No frontend matches.")
	s.says("/events", "Nothing has happened yet.")
	s.says("/events?q=a", "No event matches.")
	s.says("/explain", "Explain a host")
	s.says("/explain?host=a.test", "The proxy answers 400: no frontend serves it")
}

// TestPagesSayWhy has an instance in every state.
func TestPagesSayWhy(t *testing.T) {
	t.Parallel()
	s := newService(t)
	everyState(s, "host", "a.test")
	s.register("service", "db", "port", "91", "id", "resting", "health", "none", "host", "b.test")
	s.form(http.MethodPatch, "/v1/instances/resting", "maintenance", "true", "for", "1h").want(http.StatusOK)
	s.says("/", "2 of 6 instances down.", "1 unhealthy", "1 maintenance", "a.test", "1 of 5", "b.test", "0 of 1")
	if got, want := s.rows("/instances", "i-"), "unhealthy failed starting draining resting healthy"; got != want {
		t.Errorf("the worst come first: got %s, want %s", got, want)
	}
	if got, want := s.rows("/", "s-"), "db web"; got != want {
		t.Errorf("services of which nothing is left come first: got %s, want %s", got, want)
	}
	if got, want := s.rows("/", "v-"), "b.test a.test"; got != want {
		t.Errorf("vhosts without a backend come first: got %s, want %s", got, want)
	}
	_, source := s.page("/", http.StatusOK)
	if !strings.Contains(source, "<title>(2 down) Overview") {
		t.Error("the title does not say how many are down")
	}
	s.says("/instances", "connection refused", "has not passed its checks yet", "leaving", "else healthy")
	s.says("/services/web", "2 of 5 instances down.", "a.test", "registered")
	for id, texts := range map[string][]string{
		"starting":  {"It gets requests when it has passed once, and has 0 of 1 passes: not probed yet.", "It becomes failed", "a.test no starting"},
		"healthy":   {"It passes its checks: status 200 OK.", "The last 1 results, oldest first: 1 passed, 0 failed. The slowest took 3 ms.", "a.test yes healthy"},
		"unhealthy": {"It no longer passes its checks: connection refused. It is healthy again when it has passed once.", "1 passed, 1 failed", "Rollcall removes it"},
		"failed":    {"It was not healthy within its grace of 1m", "Rollcall removes it in 9 min , unless it is healthy by then."},
		"draining":  {"It is leaving: told to drain. That is final.", "It is gone in"},
		"resting":   {"An operator has taken it out of service. It would be healthy: it is not checked", "Maintenance ends in 59 min .", "End maintenance"},
	} {
		s.says("/instances/"+id, texts...)
	}
	for id, want := range map[string]bool{"healthy": true, "resting": true, "draining": false} {
		if _, source := s.page("/instances/"+id, http.StatusOK); strings.Contains(source, "POST /v1/instances/"+id+"/drain") != want {
			t.Errorf("%s: it can be drained: %t, want %t", id, !want, want)
		}
	}
	s.says("/explain?host=a.test", "1 of 5 backends get requests: 1 marked, 3 not in the list", "yes healthy", "no unhealthy (connection refused): marked, and about to leave the list; leaves at", "not in the list: failed", "service web")
	s.says("/explain?host=b.test", "The proxy answers 502")
	if got := s.rows("/frontends?q=B.T", "v-"); got != "b.test" {
		t.Errorf("frontends are searched: got %s", got)
	}
}

func TestPagesOfWhatIsNotThere(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "81", "id", "w1", "health", "none")
	s.call(http.MethodDelete, "/v1/instances/w1", nil).want(http.StatusNoContent)
	s.says("/instances/w1", "It is not registered any more.", "gone w1 deregistered", "registered w1 first registration")
	s.says("/services/web", "Nothing is registered.", "gone w1 deregistered")
	for path, want := range map[string]string{
		"/instances/w2":           `Not found Instance "w2": not found. Look for it among the instances.`,
		"/services/nobody":        `Not found Service "nobody": not found. Look for it among the services.`,
		"/instances/%3Cscript%3E": `Not found Instance "<script>": not found.`,
	} {
		if got, _ := s.page(path, http.StatusNotFound); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	for path, want := range map[string]string{
		"/instances?state=ill":   `State is "ill"; give one of`,
		"/instances?page=0":      `Page is "0"`,
		"/instances?colour=blue": "Colour is not a parameter of this call",
		"/?q=a":                  "Q is not a parameter of this call",
		"/events?before=now":     `Before is "now"; give the id of an event`,
	} {
		if got, _ := s.page(path, http.StatusUnprocessableEntity); !strings.Contains(got, want) {
			t.Errorf("%s: got %s, want %s", path, got, want)
		}
	}
	if got, _ := s.page("/frontends?q="+strings.Repeat("a", 201), http.StatusUnprocessableEntity); !strings.Contains(got, "Q has 201 bytes; give at most 200") {
		t.Errorf("a long question: got %s", got)
	}
	s.get("/static/page.go").problem(http.StatusNotFound)
	s.get("/static/layout.html").problem(http.StatusNotFound)
	s.get("/static/..%2fapi.go").problem(http.StatusNotFound)
}

func TestPagesFindWhatIsSearchedFor(t *testing.T) {
	t.Parallel()
	s := newService(t)
	add := func(service, id, address string, more ...string) {
		t.Helper()
		s.register(append([]string{"service", service, "id", id, "address", address, "health", "none"}, more...)...)
	}
	add("web", "w1", "10.0.0.1:80", "host", "shop.test", "tag", "blue")
	add("web", "w2", "10.0.0.2:80", "host", "shop.test", "meta.commit", "3f9c")
	add("db", "d1", "10.0.0.3:5432")
	s.form(http.MethodPatch, "/v1/instances/w2", "maintenance", "true", "for", "1h").want(http.StatusOK)
	for query, want := range map[string]string{
		"":                          "w2 d1 w1",
		"q=W":                       "w2 w1",
		"q=+w1+":                    "w1",
		"q=10.0.0.2":                "w2",
		"q=shop.":                   "w2 w1",
		"q=BLUE":                    "w1",
		"q=commit%3D3f":             "w2",
		"q=5432":                    "d1",
		"q=nobody":                  "",
		"state=healthy":             "d1 w1",
		"state=maintenance":         "w2",
		"state=failed":              "",
		"service=web&state=healthy": "w1",
		"service=we":                "",
	} {
		if got := s.rows("/instances?"+query, "i-"); got != want {
			t.Errorf("%s: found %q, want %q", query, got, want)
		}
	}
	if got := s.rows("/services/web?q=1", "i-"); got != "w1 w2" && got != "w2 w1" {
		t.Errorf("among the instances of a service: found %q", got)
	}
}

func TestPagesOfLongLists(t *testing.T) {
	t.Parallel()
	s := newService(t)
	var all []string
	for n := range 101 {
		id := fmt.Sprintf("w%03d", n)
		all = append(all, id)
		s.register("service", fmt.Sprintf("s%03d", n), "id", id, "address", fmt.Sprintf("10.0.0.%d:80", n+1), "health", "none", "host", id+".test")
	}
	next := regexp.MustCompile(`rel="next" id="next" href="([^"]*)"`)
	walk := func(path, prefix string) (rows []string, pages int) {
		for path != "" {
			pages++
			rows = append(rows, strings.Fields(s.rows(path, prefix))...)
			_, source := s.page(path, http.StatusOK)
			path = ""
			if found := next.FindStringSubmatch(source); found != nil {
				path = html.UnescapeString(found[1])
			}
		}
		return rows, pages
	}
	for _, list := range []struct {
		path, prefix string
		pages        int
	}{{"/instances", "i-w", 3}, {"/instances?q=w", "i-w", 3}, {"/instances?q=w00", "i-w", 1}, {"/frontends", "v-w", 3}, {"/", "s-s", 5}, {"/events", "e-", 3}} {
		rows, pages := walk(list.path, list.prefix)
		seen := map[string]bool{}
		for _, row := range rows {
			seen[row] = true
		}
		want := len(all)
		if strings.HasSuffix(list.path, "w00") {
			want = 10
		}
		if len(seen) != want || len(rows) != want || pages != list.pages {
			t.Errorf("%s: %d rows, %d of them different, on %d pages; want %d on %d", list.path, len(rows), len(seen), pages, want, list.pages)
		}
	}
	s.says("/instances?page=2", "51–100 of 101")
	s.says("/instances?page=99", "101–101 of 101", "Previous")
}

// TestPagesTakeWordsForWords has everything that a caller may say freely try to break
// out of where it stands.
func TestPagesTakeWordsForWords(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const hostile = `"'></title><script>x</script><a onclick=y>`
	s.register("service", "web", "id", "w1", "port", "80", "health", "heartbeat", "fall", "1", "boot", hostile, "tag", hostile, "meta.owner", hostile, "meta."+hostile, "v")
	s.call(http.MethodPost, "/v1/instances/w1/heartbeat", nil).want(http.StatusNoContent)
	s.form(http.MethodPost, "/v1/instances/w1/heartbeat", "status", "fail", "note", hostile).want(http.StatusNoContent)
	s.await(func() bool { i, _ := s.api.Replica.Instance("w1"); return i.State == app.Unhealthy })
	s.says("/instances/w1", hostile, "reported sick: "+hostile)
	q := url.QueryEscape(hostile)
	for _, path := range []string{
		"/", "/instances", "/instances/w1", "/services/web", "/events", "/instances?q=" + q, "/frontends?q=" + q, "/explain?host=" + q, "/events?q=" + q,
	} {
		_, source := s.page(path, http.StatusOK)
		for _, bad := range []string{"<script>", "<a onclick", `"'>`} {
			if strings.Contains(source, bad) {
				t.Errorf("%s has %s", path, bad)
			}
		}
		if strings.Contains(source, "ZgotmplZ") { // html/template's mark for a value in an unsafe place
			t.Errorf("%s has a value in a place that none can be in", path)
		}
		outside := regexp.MustCompile(`"[^"]*"`).ReplaceAllString(source, "")
		if strings.Contains(outside, "style=") || regexp.MustCompile(`<[^>]* on[a-z]+=`).MatchString(outside) {
			t.Errorf("%s has what the policy refuses", path)
		}
	}
}

// TestPagesShowHiddenCharacters has everything that a caller may write freely try to be
// read as something else.
func TestPagesShowHiddenCharacters(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const hidden, shown = "blue\u202eneerg\u200b\u2066", `blue\u202eneerg\u200b\u2066`
	s.register("service", "web", "id", "w1", "port", "80", "health", "none", "tag", hidden, "meta.owner", hidden)
	s.says("/instances/w1", shown)
	q := url.QueryEscape(hidden)
	for _, path := range []string{"/", "/instances", "/instances/w1", "/services/web", "/events?q=" + q, "/instances?q=" + q, "/frontends?q=" + q, "/explain?host=" + q} {
		if _, source := s.page(path, http.StatusOK); strings.ContainsAny(source, hidden[4:7]+"\u200b\u2066") {
			t.Errorf("%s has a hidden character", path)
		}
	}
}

func TestPagesAreGuarded(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for path, status := range map[string]int{
		"/": 200, "/instances/nobody": 404, "/static/page.js": 200, "/static/page.css": 200, "/static/icon.svg": 200,
	} {
		a := s.get(path).want(status)
		policy := a.Header().Get("Content-Security-Policy")
		for _, part := range []string{"default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "form-action 'self'"} {
			if !strings.Contains(policy, part) {
				t.Errorf("%s: the policy is %q, without %s", path, policy, part)
			}
		}
		if a.Header().Get("X-Content-Type-Options") != "nosniff" || a.Header().Get("Referrer-Policy") != "no-referrer" {
			t.Errorf("%s: %v", path, a.Header())
		}
	}
	a := s.get("/static/page.js").want(http.StatusOK)
	s.get("/static/page.js").header("If-None-Match", a.Header().Get("ETag")).want(http.StatusNotModified)
	if a.Header().Get("Content-Type") != "text/javascript; charset=utf-8" {
		t.Errorf("the script is %s", a.Header().Get("Content-Type"))
	}
	if body := s.call(http.MethodHead, "/", nil).want(http.StatusOK).Header().Get("Content-Type"); body != "text/html; charset=UTF-8" {
		t.Errorf("HEAD: %s", body)
	}
}

// TestPagesWhileTheRegistryIsAway reads the pages before the first read of the registry, and after Redis has gone.
func TestPagesWhileTheRegistryIsAway(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := newServiceOn(t, server.Client(t))
	if got, _ := s.page("/", http.StatusServiceUnavailable); got != "Without JavaScript this page does not update itself, and changes nothing. The registry is out of reach. It has not been read yet. Rollcall" {
		t.Errorf("before the first read: %s", got)
	}
	s.register("service", "web", "id", "w1", "port", "80", "host", "a.test")
	s.probed("w1", refuse())
	i := s.instance("w1")
	s.api.Replica.Reset([]app.Instance{i}, "1-0", app.Event{Revision: "1-0", Kind: app.EventRegistered, At: time.Now(), Service: "web", Instance: "w1", To: app.Starting, Reason: "first registration"})
	s.api.Replica.SetCurrent(time.Now())
	if got, _ := s.page("/instances/w1", http.StatusOK); strings.Contains(got, "out of reach") || !strings.Contains(got, "connection refused") {
		t.Errorf("with a registry: %s", got)
	}
	server.Kill()
	s.says("/frontends", "Not available while the registry is out of reach.") // the replica is still fresh
	s.api.Replica.SetCurrent(time.Now().Add(-time.Minute))
	const away = "The registry is out of reach. This is how things stood at"
	s.says("/", away, "0 of 1 instance healthy, none down.", "Not available while the registry is out of reach.", "registered w1 first registration")
	s.says("/instances", away, "w1")
	s.says("/services/web", away, "w1")
	s.says("/instances/w1", away, "Last known state: has not passed its checks yet.", "Not available while the registry is out of reach.", "Not available while the registry is out of reach.")
	s.says("/frontends", away, "Not available while the registry is out of reach.")
	s.says("/explain?host=a.test", away, "Not available while the registry is out of reach.")
	s.says("/events", away, "first registration")
}

// TestABrowserGetsErrorsAsPages opens pages without a token, with a token of the wrong scope, and at an unknown path.
func TestABrowserGetsErrorsAsPages(t *testing.T) {
	t.Parallel()
	s := guarded(t)
	s.put("secret-1", "web", "10.0.0.1:80")
	register := s.token("register:web")
	for _, c := range []struct {
		path, token string
		status      int
		texts       []string
	}{
		{"/", "", http.StatusUnauthorized, []string{"Unauthorized", "as the password", `id="again"`}},
		{"/instances/secret-1", "wrong", http.StatusUnauthorized, []string{"Unknown or revoked token.", `id="again"`}},
		{"/instances", register, http.StatusForbidden, []string{"Forbidden", `href="/"`}},
		{"/nowhere", boss, http.StatusNotFound, []string{"Not Found", `href="/"`, `href="/instances"`}},
		{"/instances/nobody", boss, http.StatusNotFound, []string{"Not found", `href="/"`}},
	} {
		a := s.get(c.path).as(c.token).header("Accept", "text/html,application/xhtml+xml,*/*;q=0.8").want(c.status)
		if got := a.Header().Get("Content-Type"); got != "text/html; charset=UTF-8" {
			t.Errorf("%s: it is %s", c.path, got)
		}
		for _, text := range c.texts {
			if !strings.Contains(a.Body.String(), text) {
				t.Errorf("%s with the token %q does not say %q:\n%s", c.path, c.token, text, a.Body)
			}
		}
		if strings.Contains(a.Body.String(), "secret-1") {
			t.Errorf("%s with the token %q names an instance", c.path, c.token)
		}
	}
	s.get("/").problem(http.StatusUnauthorized)
	s.get("/nowhere").as(boss).problem(http.StatusNotFound)
	s.get("/v1/instances/nobody").as(boss).header("Accept", "text/html").problem(http.StatusNotFound)
	if got := s.get("/").header("Accept", "text/html").want(http.StatusUnauthorized).Header().Values("WWW-Authenticate"); len(got) != 2 {
		t.Errorf("a browser is not asked for the token: %q", got)
	}
}

// TestTheOverviewNamesEachFault has a flapping instance, a forgotten one, a suspended worker and a dispute, on a Redis without
// persistence.
func TestTheOverviewNamesEachFault(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.says("/", "No worker probes the instances: start rollcall cron", "Redis: nothing is persisted")
	for n, id := range []string{"flaps", "left"} {
		s.register("service", "web", "port", fmt.Sprint(81+n), "id", id, "rise", "1", "fall", "1")
	}
	for range 2 {
		s.probed("flaps", pass())
		s.probed("flaps", refuse())
	}
	s.probed("left", pass())
	s.probed("left", refuse())
	s.expire("left")
	if err := s.rdb.HSet(t.Context(), s.prefix+"workers", "cron-1", "7 s").Err(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.store.AppendEvent(t.Context(), app.Event{Kind: app.EventDisputed, At: s.store.Now(), Subject: "cron-2", Reason: "some"}); err != nil {
		t.Fatal(err)
	}
	s.await(func() bool {
		return len(s.api.Replica.Latest("", 1, func(e app.Event) bool { return e.Kind == app.EventDisputed })) > 0
	})
	s.says("/", "Flapping: flaps", "Left while down in the last 24 h: left", "Suspended workers: cron-1",
		"other workers reach instances of: cron-2")
	s.says("/instances/flaps", "flapping", "unhealthy 2 times since it was last healthy for 10m")
	s.says("/system", "worker cron-1 suspended cron , 0 of 256 shards 0 – unknown", "This process runs Rollcall of an unknown version")
	if got := s.rows("/instances?state=unhealthy", "i-"); got != "flaps" {
		t.Errorf("the chip of a state selects %s", got)
	}
}

// TestTheSystemNamesTheVersionsOfProcesses has a process without a worker, and one whose worker owns a shard.
func TestTheSystemNamesTheVersionsOfProcesses(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, p := range []diagnose.Process{
		{Host: "a", PID: 7, Roles: []string{"web"}, Version: "v1"},
		{Host: "b", PID: 8, Roles: []string{"web", "cron"}, Worker: "1-w", Version: "v2"},
	} {
		if err := s.store.Announce(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	s.rdb.HSet(t.Context(), s.prefix+"workers", "1-w", "7")
	s.rdb.HSet(t.Context(), s.prefix+"shards", "17", "1-w 7")
	s.says("/system", "Processes 2, 1 with a worker", "a-7 web –", "b-8 web, cron , 1 of 256 shards 1", "The processes run 2 versions.",
		"255 shards have no worker", "Append-only file off")
}

// TestEqualEventsAreOneLine has an event that repeats, and another one after it.
func TestEqualEventsAreOneLine(t *testing.T) {
	t.Parallel()
	s := newService(t)
	for _, subject := range []string{"cron-1", "cron-1", "cron-1", "cron-2"} {
		if _, err := s.store.AppendEvent(t.Context(), app.Event{Kind: app.EventDisputed, At: s.store.Now(), Subject: subject, Reason: "some"}); err != nil {
			t.Fatal(err)
		}
	}
	s.await(func() bool { return len(s.api.Replica.Latest("", 4, func(app.Event) bool { return true })) == 4 })
	s.says("/events", "cron-1 some 3 times")
	if got := len(strings.Fields(s.rows("/events", "e-"))); got != 2 {
		t.Errorf("4 events, 3 of them equal, are %d lines", got)
	}
}

// TestAServiceHasEachRange opens each range of a service's history.
func TestAServiceHasEachRange(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "81", "id", "w1", "health", "none")
	for _, span := range []string{"1h", "24h", "7d", "30d"} {
		_, source := s.page("/services/web?range="+span, http.StatusOK)
		if !strings.Contains(source, `id="r-`+span+`" aria-current="true"`) || strings.Count(source, `aria-current="true">`+span) != 1 {
			t.Errorf("the range %s is not marked", span)
		}
	}
}
