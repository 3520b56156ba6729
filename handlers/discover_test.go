package handlers_test

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestPick(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "sick")
	p := s.get("/v1/services/web/pick").problem(http.StatusServiceUnavailable)
	if p.Type != "urn:rollcall:none-healthy" || p.Detail != `service "web": none is healthy` || s.logs.String() != "" {
		t.Errorf("none is healthy: got %+v, logged %s", p, s.logs)
	}
	for n := range 3 {
		s.register("service", "web", "port", fmt.Sprint(81+n), "id", fmt.Sprint("w", n), "health", "none")
	}
	s.register("service", "db", "port", "90", "health", "none")
	pick := func(query string) string {
		return s.get("/v1/services/web/pick" + query).want(http.StatusOK).Body.String()
	}

	turns := pick("?by=rr") + pick("?by=rr") + pick("?by=rr") + pick("?by=rr")
	same(t, "turns", turns, "10.0.0.7:81\n10.0.0.7:82\n10.0.0.7:83\n10.0.0.7:81\n")
	random, hashed := map[string]bool{}, map[string]bool{}
	for n := range 200 {
		random[pick("")] = true
		key := fmt.Sprint("?by=hash&key=", n)
		hashed[pick(key)] = true
		if a, b := pick(key), pick(key); a != b {
			t.Errorf("%s: %s, then %s", key, a, b)
		}
	}
	if len(random) != 3 || len(hashed) != 3 {
		t.Errorf("of three instances %d are picked at random and %d by a key", len(random), len(hashed))
	}
	if got := decode[instance](s.get("/v1/services/web/pick").header("Accept", "application/json").want(http.StatusOK)); got.Service != "web" {
		t.Errorf("as JSON: got %+v", got)
	}

	for path, want := range map[string]string{
		"web/pick?by=luck":    `by is "luck"; give one of rr, hash`,
		"web/pick?by=hash":    "key is missing; give what to choose by, such as a user's id",
		"web/pick?by=rr&by=x": "by is given twice; give it once",
	} {
		if p := s.get("/v1/services/" + path).problem(http.StatusUnprocessableEntity); p.Detail != want {
			t.Errorf("%s: got %s, want %s", path, p.Detail, want)
		}
	}
	for _, path := range []string{"nobody/pick", "/pick", "nobody/env"} { // no name is not all of them
		s.get("/v1/services/" + path).problem(http.StatusNotFound)
	}
}

func TestTLSAsk(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "health", "none", "host", "a.test", "host", "*.wild.test", "host", "*")
	s.register("service", "sick", "port", "81", "host", "sick.test")
	for query, status := range map[string]int{
		"domain=a.test": 200, "host=a.test": 200, "domain=A.TEST.": 200, "domain=x.wild.test": 200, "domain=x.y.wild.test": 200,
		"domain=wild.test": 404, "domain=b.test": 404, "domain=sick.test": 404,
		"domain=*.wild.test": 422, "domain=*": 422, "domain=10.0.0.7": 422, "domain=": 422, "": 422, "domain=a%20b": 422, "domain=a.test:443": 422,
	} {
		if a := s.get("/v1/tls/ask?" + query).do(); a.Code != status {
			t.Errorf("%s: got %d %s, want %d", query, a.Code, a.Body, status)
		}
	}
}

func TestEnv(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "memcached-1", "port", "32768", "health", "none")
	s.register("service", "web", "port", "80", "health", "none")
	for path, want := range map[string]string{
		"/v1/services/memcached-1/env?alias=cache&port=11211&format=dotenv": "CACHE_NAME=/memcached-1/cache\nCACHE_PORT=tcp://10.0.0.7:32768\n" +
			"CACHE_PORT_11211_TCP=tcp://10.0.0.7:32768\nCACHE_PORT_11211_TCP_ADDR=10.0.0.7\nCACHE_PORT_11211_TCP_PORT=32768\nCACHE_PORT_11211_TCP_PROTO=tcp\n",
		"/v1/env?link=web:w": "export W_NAME=/web/w\nexport W_PORT=tcp://10.0.0.7:80\nexport W_PORT_80_TCP=tcp://10.0.0.7:80\n" +
			"export W_PORT_80_TCP_ADDR=10.0.0.7\nexport W_PORT_80_TCP_PORT=80\nexport W_PORT_80_TCP_PROTO=tcp\n",
	} {
		same(t, path, s.get(path).want(http.StatusOK).Body.String(), want)
	}
	got := decode[map[string]string](s.get("/v1/env?link=memcached-1&link=web&format=json").want(http.StatusOK))
	if len(got) != 12 || got["MEMCACHED_1_PORT"] != "tcp://10.0.0.7:32768" {
		t.Errorf("as JSON: got %v", got)
	}
	for path, want := range map[string]string{
		"/v1/env":                              "link is missing; give service, service:alias or service:alias:port",
		"/v1/env?link=a:b:80:x":                "link is malformed; give service, service:alias or service:alias:port",
		"/v1/env?link=:b":                      "link is malformed; give service, service:alias or service:alias:port",
		"/v1/env?link=web:b:0":                 `port is "0"; give a number from 1 to 65535`,
		"/v1/env?link=web:b%3Bid":              `alias is "b;id"; give letters, digits, hyphens, dots or underscores`,
		"/v1/services/web/env?alias=$(id)":     `alias is "$(id)"; give letters, digits, hyphens, dots or underscores`,
		"/v1/services/web/env?port=x":          `port is "x"; give a number from 1 to 65535`,
		"/v1/services/web/env?format=yaml":     `format is "yaml"; give one of export, dotenv, json`,
		"/v1/env?link=web&format=json&link=":   "link is empty; give a value, or leave the field out",
		"/v1/services/web/env?alias=a&alias=b": "alias is given twice; give it once",
	} {
		if p := s.get(path).problem(http.StatusUnprocessableEntity); p.Detail != want {
			t.Errorf("%s: got %s, want %s", path, p.Detail, want)
		}
	}
}

func TestPrometheus(t *testing.T) {
	t.Parallel()
	s := newService(t)
	type group struct {
		Targets []string
		Labels  map[string]string
	}
	same(t, "none", decode[[]group](s.get("/v1/sd/prometheus").want(http.StatusOK)), []group{})
	s.register("service", "web", "port", "80", "id", "w1", "health", "none", "host", "a.test", "tag", "x", "tag", "y", "meta.team-a", "sales")
	s.register("service", "db", "port", "81", "id", "d1")
	web := group{[]string{"10.0.0.7:80"}, map[string]string{
		"__meta_rollcall_service": "web", "__meta_rollcall_instance": "w1", "__meta_rollcall_state": "healthy",
		"__meta_rollcall_vhosts": ",a.test,", "__meta_rollcall_tags": ",x,y,", "__meta_rollcall_meta_team_a": "sales",
	}}
	db := group{[]string{"10.0.0.7:81"}, map[string]string{
		"__meta_rollcall_service": "db", "__meta_rollcall_instance": "d1", "__meta_rollcall_state": "starting",
		"__meta_rollcall_vhosts": "", "__meta_rollcall_tags": "",
	}}
	for query, want := range map[string][]group{
		"": {web}, "?state=any": {db, web}, "?state=starting": {db}, "?service=db": {}, "?service=db&state=any": {db},
	} {
		same(t, query, decode[[]group](s.get("/v1/sd/prometheus"+query).want(http.StatusOK)), want)
	}
}

func TestTraefik(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const empty = `{}`
	if got := s.get("/v1/traefik").want(http.StatusOK); got.Body.String() != empty {
		t.Errorf("without a vhost it is %s, want %s", got.Body, empty)
	}
	s.register("service", "web", "port", "80", "id", "w1", "health", "none", "host", "a.test", "weight", "2")
	s.register("service", "api", "port", "81", "id", "a1", "host", "*.api.test")
	const want = "{'http':{'routers':{'*.api.test':{'entryPoints':['web','websecure'],'rule':'HostRegexp(`^.+\\\\.api\\\\.test$`)','priority':3,'service':'*.api.test','tls':{'certResolver':'le'}}," +
		"'a.test':{'entryPoints':['web','websecure'],'rule':'Host(`a.test`)','service':'a.test','tls':{'certResolver':'le'}}}," +
		"'services':{'*.api.test':{'loadBalancer':{'passHostHeader':true,'servers':[]}}," +
		"'a.test':{'loadBalancer':{'passHostHeader':true,'servers':[{'url':'http://10.0.0.7:80','weight':2}]}}}}}"
	got := s.get("/v1/traefik?entrypoint=web&entrypoint=websecure&certresolver=le").want(http.StatusOK)
	if want := strings.ReplaceAll(want, "'", "\""); got.Body.String() != want {
		t.Errorf("got  %s\nwant %s", got.Body, want)
	}
	if p := s.get("/v1/traefik?tls=maybe").problem(http.StatusUnprocessableEntity); p.Field != "tls" {
		t.Errorf("tls=maybe: %+v", p)
	}
}

// TestEvents is about a real server: a stream has to be flushed.
func TestEvents(t *testing.T) {
	t.Parallel()
	s := newService(t)
	first := s.register("service", "web", "port", "80", "id", "w1", "health", "none")
	server := httptest.NewServer(s.http)
	t.Cleanup(server.Close)
	ctx, leave := context.WithTimeout(t.Context(), patience)
	defer leave()
	// stream returns the next line of a stream that begins with a prefix.
	stream := func(query, last string) func(prefix string) string {
		r, err := http.NewRequestWithContext(ctx, http.MethodGet, server.URL+"/v1/events"+query, nil)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Last-Event-ID", last)
		resp, err := server.Client().Do(r)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = resp.Body.Close() })
		if got := resp.Header.Get("Content-Type"); resp.StatusCode != http.StatusOK || got != "text/event-stream" {
			t.Fatalf("%s: got %s, %s", query, resp.Status, got)
		}
		lines := bufio.NewScanner(resp.Body)
		next := func(prefix string) string {
			for lines.Scan() {
				if text, ok := strings.CutPrefix(lines.Text(), prefix); ok {
					return text
				}
			}
			t.Errorf("%s: the stream ends: %v", query, lines.Err())
			return ""
		}
		if begins := next("id: "); last != "" && begins != last {
			t.Errorf("%s: it goes on after %s, want %s", query, begins, last)
		}
		return next
	}
	now, all, after, db := stream("", ""), stream("", "0"), stream("?service=", first.Revision), stream("?service=db&kind=gone", "0")
	same(t, "the first event", all("id: "), first.Revision)
	second := s.register("service", "db", "port", "81", "id", "d1")
	for name, next := range map[string]func(string) string{"now": now, "all": all, "after": after} {
		same(t, name, next("id: "), second.Revision)
		same(t, name, next("event: "), "registered")
		if data := next("data: "); !strings.Contains(data, `"instance":"d1"`) {
			t.Errorf("%s: got %s", name, data)
		}
	}
	s.call(http.MethodDelete, "/v1/instances/w1", nil).want(http.StatusNoContent)
	s.call(http.MethodDelete, "/v1/instances/d1", nil).want(http.StatusNoContent)
	if data := db("data: "); !strings.Contains(data, `"kind":"gone"`) || !strings.Contains(data, `"instance":"d1"`) {
		t.Errorf("filtered: got %s", data)
	}

	p := s.get("/v1/events").header("Last-Event-ID", "yesterday").problem(http.StatusUnprocessableEntity)
	if p.Detail != `Last-Event-ID is "yesterday"; give the id of an event, or 0 for all there are` {
		t.Errorf("got %+v", p)
	}
	if err := s.rdb.XTrimMaxLen(ctx, s.prefix+"events", 1).Err(); err != nil {
		t.Fatal(err)
	}
	s.api.Replica.Reset(nil, s.api.Replica.Revision()) // as a process that starts now
	p = s.get("/v1/events").header("Last-Event-ID", first.Revision).problem(http.StatusGone)
	if p.Type != "urn:rollcall:trimmed" || p.Want == "" {
		t.Errorf("long ago: got %+v", p)
	}
	if got := s.get("/openapi.yaml").want(http.StatusOK).Body.String(); !strings.HasPrefix(got, "openapi: 3.1.0\n") {
		t.Errorf("the description begins %.40s", got)
	}
}
