package handlers_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/handlers"
)

type instance struct {
	ID, Service, Address string
	Hosts                []string
	State                string
	Since                time.Time
	Weight               int
	Tags                 []string
	Meta                 map[string]string
	Boot, Replaces       string
	FailOpen             bool `json:"fail_open"`
	Check                check
	Override             *struct {
		Maintenance bool
		Weight      int
		Until       time.Time
	}
	Revision     int64     `json:"instance_revision"`
	RegisteredAt time.Time `json:"registered_at"`
}

type result struct {
	At        time.Time
	Passed    bool
	Reason    string
	LatencyMS int64 `json:"latency_ms"`
}

type detail struct {
	instance
	Streak    int
	Last      *result
	NextProbe time.Time `json:"next_probe"`
	Deadline  time.Time
	Results   []result
	AsOf      time.Time `json:"as_of"`
	Links     map[string]string
}

func TestInstance(t *testing.T) {
	t.Parallel()
	s := newService(t)
	before := s.store.Now().Truncate(time.Millisecond)
	receipt := s.register("service", "web", "port", "80", "id", "w1", "host", "a.test", "boot", "b1", "replaces", "w0", "tag", "blue", "meta.owner", "sales", "rise", "3")
	fresh := decode[detail](s.get("/v1/instances/w1").want(http.StatusOK))
	want := detail{
		instance: instance{
			ID: "w1", Service: "web", Address: "10.0.0.7:80", Hosts: []string{"a.test"}, State: "starting", Weight: 1,
			Tags: []string{"blue"}, Meta: map[string]string{"owner": "sales"}, Boot: "b1", Replaces: "w0", FailOpen: true,
			Check: receipt.Check, Revision: fresh.Revision,
		},
		Results: []result{}, Links: receipt.Links,
	}
	times := cmpopts.IgnoreTypes(time.Time{})
	options := cmp.Options{times, cmp.AllowUnexported(detail{})}
	if diff := cmp.Diff(want, fresh, options); diff != "" {
		t.Errorf("new (-want +got):\n%s", diff)
	}
	if fresh.Since.Before(before) || !fresh.RegisteredAt.Equal(fresh.Since) || !fresh.Deadline.Equal(fresh.Since.Add(time.Minute)) || !receipt.FirstProbe.Equal(fresh.Since) {
		t.Errorf("registered after %s: got %+v", before, fresh)
	}

	s.probed("w1", app.Result{Code: 503, Detail: "try later", Latency: 7 * time.Millisecond})
	s.probed("w1", pass())
	probed := decode[detail](s.get("/v1/instances/w1").want(http.StatusOK))
	want.Streak, want.Revision = 1, probed.Revision
	if probed.Revision <= fresh.Revision || probed.NextProbe.Before(probed.AsOf) || probed.AsOf.Before(before) {
		t.Errorf("probed: revision %d after %d, next probe at %s as of %s", probed.Revision, fresh.Revision, probed.NextProbe, probed.AsOf)
	}
	want.Last = &result{Passed: true, Reason: "status 200 OK", LatencyMS: 3}
	want.Results = []result{{Reason: "status 503 Service Unavailable", LatencyMS: 7}, {Passed: true, Reason: "status 200 OK", LatencyMS: 3}}
	if diff := cmp.Diff(want, probed, options); diff != "" {
		t.Errorf("probed (-want +got):\n%s", diff)
	}
	if probed.NextProbe.Before(fresh.NextProbe) || probed.Last.At.Before(before) {
		t.Errorf("probed: got %+v", probed)
	}

	p := s.get("/v1/instances/nobody").problem(http.StatusNotFound)
	if p.Type != "urn:rollcall:not-found" || p.Detail != "instance nobody: not found" {
		t.Errorf("unknown: got %+v", p)
	}
}

// TestIDsThatCannotBe are not found; they name no other key either.
func TestIDsThatCannotBe(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	before := s.stored()
	for _, id := range []string{"%2e%2e", "a%2Fb", "a%00", "%0d%0aX:%20y", "w1%20", "%77", "W1", "a:b", "*", "%25", strings.Repeat("a", 5000)} {
		s.get("/v1/instances/" + id).problem(http.StatusNotFound)
		s.form(http.MethodPost, "/v1/instances/"+id+"/heartbeat").problem(http.StatusNotFound)
		s.form(http.MethodPost, "/v1/instances/"+id+"/drain").problem(http.StatusNotFound)
		s.call(http.MethodDelete, "/v1/instances/"+id, nil).want(http.StatusNoContent)
	}
	same(t, "what is stored", s.stored(), before)
}

func TestHeartbeat(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1", "health", "heartbeat", "fall", "1")
	const path = "/v1/instances/w1/heartbeat"
	for _, c := range []struct {
		call        call
		state, last string
	}{
		{s.call(http.MethodPost, path, nil), "healthy", "passed"},
		{s.form(http.MethodPost, path, "status", "fail", "note", `disk "sda" full`), "unhealthy", `reported sick: disk "sda" full`},
		{s.form(http.MethodPost, path, "status", "pass"), "healthy", "passed"},
		{s.form(http.MethodPost, path+"?status=fail&note=%C3%BCbel"), "unhealthy", "reported sick: übel"},
		{s.json(http.MethodPost, path, `{"status": "pass", "note": "well again"}`), "healthy", "passed: well again"},
		{s.form(http.MethodPost, path+"?status=fail", "note", strings.Repeat("x", 200)), "unhealthy", "reported sick: " + strings.Repeat("x", 200)},
		{s.json(http.MethodPost, path, ""), "healthy", "passed"},
		{s.form(http.MethodPost, path, "status", "fail", "note", "Traceback:\n\tFile \x1b[31mx.py\x1b[0m\r\n\x00"), "unhealthy", "reported sick: Traceback: File x.py"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.form(http.MethodPost, path, "status", "fail", "note", strings.Repeat("ü", 150)), "unhealthy", "reported sick: " + strings.Repeat("ü", 98) + "…"},
		{s.form(http.MethodPost, path, "note", strings.Repeat("x", 100_000)), "healthy", "passed: " + strings.Repeat("x", 197) + "…"},
		{s.form(http.MethodPost, path, "status", "fail", "note", ""), "unhealthy", "reported sick"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.form(http.MethodPost, path, "status", "fail", "note", "\xff disk"), "unhealthy", "reported sick: \ufffd disk"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.json(http.MethodPost, path, "{\"status\": \"fail\", \"note\": \"a\n\t\x1b[1mb\"}"), "unhealthy", "reported sick: a b"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.call(http.MethodPost, path, strings.NewReader("status=fail&note=100% of a&b; c=d\n\x1b[31mred")), "unhealthy", "reported sick: 100% of a&b; c=d red"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.call(http.MethodPost, path, strings.NewReader("note=x&status=fail")), "unhealthy", "reported sick: x"},
		{s.form(http.MethodPost, path), "healthy", "passed"},
		{s.form(http.MethodPost, path+"?status=&note="), "healthy", "passed"},
	} {
		if a := c.call.want(http.StatusNoContent); a.Body.Len() > 0 {
			t.Errorf("%s: answered %s", c.call, a.Body)
		}
		if got := s.instance("w1"); string(got.State) != c.state || got.Last.Reason() != c.last {
			t.Errorf("%s: got %s, %s; want %s, %s", c.call, got.State, got.Last.Reason(), c.state, c.last)
		}
	}
}

func TestHeartbeatRefuses(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1", "health", "heartbeat")
	s.register("service", "web", "port", "81", "id", "probed")
	s.register("service", "web", "port", "82", "id", "leaving", "health", "heartbeat")
	if _, _, err := s.api.Registry.Drain(t.Context(), "leaving", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	before := s.stored()
	const path = "/v1/instances/w1/heartbeat"
	for _, c := range []struct {
		call   call
		status int
		want   string
	}{
		{s.form(http.MethodPost, path, "status", "sick"), 422, `status is "sick"; give one of pass, fail`},
		{s.form(http.MethodPost, path, "status", ""), 422, "status is empty; give a value, or leave the field out"},
		{s.form(http.MethodPost, path+"?status=pass", "status", "fail"), 422, "status is given twice; give it once"},
		{s.form(http.MethodPost, path, "reason", "x"), 422, "reason is not a field of this call; it has status, note"},
		{s.json(http.MethodPost, path, `{"status":true}`), 422, `status is "true"; give one of pass, fail`},
		{s.json(http.MethodPost, path, `[{"status":"pass"}]`), 400, "malformed JSON: not an object"},
		{s.call(http.MethodPost, path, strings.NewReader("x")).header("Content-Type", "text/plain"), 415, `content-type "text/plain": unsupported media type`},
		{
			s.form(http.MethodPost, "/v1/instances/probed/heartbeat", "status", "fail"), 422,
			"status is fail, but the health of this instance is probed by tcp; register it with health=heartbeat",
		},
		{s.call(http.MethodPost, "/v1/instances/leaving/heartbeat", nil), 410, "heartbeat of leaving: draining"},
		{s.call(http.MethodPost, "/v1/instances/nobody/heartbeat", nil), 404, "heartbeat of nobody: instance nobody: not found"},
	} {
		p := c.call.problem(c.status)
		if p.Detail != c.want || p.Want == "" {
			t.Errorf("%s: got %+v\nwant %s", c.call, p, c.want)
		}
	}
	s.call(http.MethodPost, "/v1/instances/probed/heartbeat", nil).want(http.StatusNoContent) // still known
	same(t, "what is stored", s.stored(), before)
	if p := s.call(http.MethodPost, "/v1/instances/nobody/heartbeat", nil).problem(http.StatusNotFound); p.Want != "register it again" {
		t.Errorf("unknown: got %+v", p)
	}
}

// Instances that restart for the same reason all ask in the same moment.
func TestInstancesDrainInTurn(t *testing.T) {
	t.Parallel()
	s := newService(t)
	const all, keep = 8, 6
	for n := range all {
		s.register("service", "web", "port", fmt.Sprint(80+n), "id", fmt.Sprintf("w%d", n), "health", "none")
	}
	s.register("service", "db", "port", "99", "id", "db", "health", "none")
	ask := func(id string) call {
		return s.form(http.MethodPost, "/v1/instances/"+id+"/drain", "hold", "0s", "keep", fmt.Sprint(keep))
	}
	var answers []<-chan answer
	for n := range all {
		answers = append(answers, ask(fmt.Sprintf("w%d", n)).start())
	}
	drained := 0
	for _, a := range answers {
		if got := <-a; got.Code == http.StatusOK {
			drained++
		} else if p := got.problem(http.StatusConflict); p.Field != "keep" && p.Type != "urn:rollcall:conflict" {
			t.Errorf("got %+v", p)
		}
	}
	if drained < 1 || drained > all-keep {
		t.Fatalf("%d of %d have drained at once, want 1 or 2", drained, all)
	}
	next := func() (id string, code int) {
		s.api.Replica.WaitWrites(t.Context())
		for i := range s.api.Replica.All() {
			if i.Service == "web" && i.Routable() {
				return i.ID, ask(i.ID).do().Code
			}
		}
		return "", 0
	}
	for ; drained < all-keep; drained++ {
		if id, code := next(); code != http.StatusOK {
			t.Fatalf("%s: got %d, want it drained", id, code)
		}
	}
	id, code := next()
	if code != http.StatusConflict {
		t.Fatalf("%s: got %d, want a conflict", id, code)
	}
	s.register("service", "web", "port", "200", "id", "back", "health", "none")
	ask(id).want(http.StatusOK)

	s.register("service", "web", "port", "201", "id", "starting") // it serves no request yet
	ask("starting").want(http.StatusOK)

	for _, bad := range []string{"0", "-1", "101", "x", ""} {
		if p := s.form(http.MethodPost, "/v1/instances/db/drain", "keep", bad).problem(http.StatusUnprocessableEntity); p.Field != "keep" {
			t.Errorf("keep=%s: got %+v", bad, p)
		}
	}
	if got := s.instance("db"); got.State != app.Healthy {
		t.Errorf("it is %s", got.State)
	}
}

func TestDrainAnswersAfterTheHold(t *testing.T) {
	t.Parallel()
	s := newService(t, func(a *handlers.API) { a.DrainPeriod = 150 * time.Millisecond })
	for id, c := range map[string]struct {
		call call
		hold time.Duration
	}{
		"default": {s.call(http.MethodPost, "/v1/instances/default/drain", nil), 150 * time.Millisecond},
		"query":   {s.form(http.MethodPost, "/v1/instances/query/drain?hold=200ms"), 200 * time.Millisecond},
		"form":    {s.form(http.MethodPost, "/v1/instances/form/drain", "hold", "100ms"), 100 * time.Millisecond},
		"json":    {s.json(http.MethodPost, "/v1/instances/json/drain", `{"hold": "100ms"}`), 100 * time.Millisecond},
		"none":    {s.form(http.MethodPost, "/v1/instances/none/drain?hold=0s"), 0},
	} {
		s.register("service", "web", "address", id+":80", "id", id, "health", "none")
		began := time.Now()
		got := decode[instance](c.call.want(http.StatusOK))
		if took := time.Since(began); got.State != "draining" || took < c.hold || took > c.hold+patience {
			t.Errorf("%s: %s after %s, want it after %s", id, got.State, took, c.hold)
		}
		s.api.Replica.WaitWrites(t.Context())
		if i, _ := s.api.Replica.Instance(id); i.State != app.Draining {
			t.Errorf("%s: reads still see it %s", id, i.State)
		}
	}
}

func TestASecondDrainWaitsItsWholePeriod(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	began := time.Now()
	first := s.form(http.MethodPost, "/v1/instances/w1/drain?hold=300ms").start()
	s.awaitState("w1", app.Draining)
	again := time.Now()
	second := s.form(http.MethodPost, "/v1/instances/w1/drain?hold=500ms").start()
	if a := <-first; a.Code != http.StatusOK || time.Since(began) < 300*time.Millisecond {
		t.Errorf("got %d %s after %s", a.Code, a.Body, time.Since(began))
	}
	if a := <-second; a.Code != http.StatusOK || time.Since(again) < 500*time.Millisecond {
		t.Errorf("the second call: got %d %s after %s, want its whole period", a.Code, a.Body, time.Since(again))
	}
}

func TestDrainEndsWhenTheCallerGoesAway(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	ctx, leave := context.WithCancel(t.Context())
	answers := s.form(http.MethodPost, "/v1/instances/w1/drain?hold=5m").with(ctx).start()
	s.awaitState("w1", app.Draining)
	leave()
	if a := <-answers; a.Body.Len() > 0 {
		t.Errorf("answered %s", a.Body)
	}
	if got := s.logs.String(); got != "" {
		t.Errorf("logged %s", got)
	}
}

func TestDrainOfNobody(t *testing.T) {
	t.Parallel()
	s := newService(t)
	if p := s.form(http.MethodPost, "/v1/instances/nobody/drain").problem(http.StatusNotFound); p.Detail != "drain nobody: instance nobody: not found" {
		t.Errorf("got %+v", p)
	}
}

func TestDeregister(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1")
	for _, removed := range []string{"true", "false"} {
		a := s.call(http.MethodDelete, "/v1/instances/w1", nil).want(http.StatusNoContent)
		if got := a.Header().Get("Rollcall-Removed"); a.Body.Len() > 0 || got != removed {
			t.Errorf("answered %s, removed: %q, want %q", a.Body, got, removed)
		}
		s.get("/v1/services/web").problem(http.StatusNotFound)
	}
	s.get("/v1/instances/w1").problem(http.StatusNotFound)
}

func TestOverride(t *testing.T) {
	t.Parallel()
	s := newService(t)
	s.register("service", "web", "port", "80", "id", "w1", "health", "none", "host", "a.test")
	const path = "/v1/instances/w1"
	got := decode[instance](s.form(http.MethodPatch, path, "maintenance", "true", "for", "10m").want(http.StatusOK))
	left := got.Override.Until.Sub(s.store.Now())
	if !got.Override.Maintenance || left < 9*time.Minute || left > 10*time.Minute || got.State != "healthy" {
		t.Errorf("maintenance: got %+v", got)
	}
	if list := decode[listed](s.get("/v1/services/web").want(http.StatusOK)); len(list.Instances) > 0 {
		t.Errorf("in maintenance, and found: %+v", list)
	}
	got = decode[instance](s.json(http.MethodPatch, path, `{"weight": 3, "for": "1m"}`).want(http.StatusOK))
	if got.Override.Weight != 3 || got.Weight != 1 || got.Override.Maintenance {
		t.Errorf("weight: got %+v", got)
	}
	got = decode[instance](s.form(http.MethodPatch, path, "maintenance", "false").want(http.StatusOK))
	if got.Override != nil {
		t.Errorf("taken back: got %+v", got)
	}

	before := s.stored()
	for _, c := range []struct {
		pairs []string
		want  string
	}{
		{[]string{}, "maintenance is missing; give maintenance=true or weight, with for=10m; or maintenance=false alone"},
		{[]string{"for", "10m"}, "maintenance is missing; give maintenance=true or weight, with for=10m; or maintenance=false alone"},
		{[]string{"maintenance", "true"}, "for is missing; an override always expires: give for=10m"},
		{[]string{"weight", "2"}, "for is missing; an override always expires: give for=10m"},
		{[]string{"maintenance", "yes", "for", "10m"}, `maintenance is "yes"; give true or false`},
		{[]string{"weight", "0", "for", "10m"}, "weight is 0; give at least 1"},
		{[]string{"weight", "101", "for", "10m"}, "weight is 101; give at most 100"},
		{[]string{"weight", "2", "for", "25h"}, "for is 25h0m0s; give at most 24h"},
		{[]string{"weight", "2", "for", "1ms"}, "for is 1ms; give at least 1s"},
		{[]string{"weight", "2", "for", "10"}, `for is "10"; give a duration with its unit, such as 500ms, 2s or 1m`},
		{[]string{"service", "db"}, "service is not a field of this call; it has maintenance, weight, for"},
	} {
		if p := s.form(http.MethodPatch, path, c.pairs...).problem(http.StatusUnprocessableEntity); p.Detail != c.want {
			t.Errorf("%q: got %s, want %s", c.pairs, p.Detail, c.want)
		}
	}
	same(t, "what is stored", s.stored(), before)
	s.form(http.MethodPatch, "/v1/instances/nobody", "maintenance", "true", "for", "10m").problem(http.StatusNotFound)
}
