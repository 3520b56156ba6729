package handlers_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"go.uber.org/goleak"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/app/webhook"
	"rollcall/handlers"
	"rollcall/handlers/agents"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(harness.Main(m), goleak.IgnoreAnyFunction(harness.DialsAgain))
}

// patience is how long something may take that happens soon.
const patience = 20 * time.Second

// callerIP is where calls come from unless they say otherwise.
const callerIP = "10.0.0.7"

// service is the API on a registry of its own.
type service struct {
	t      *testing.T
	api    *handlers.API
	http   http.Handler
	store  *redisstore.Store
	rdb    *redis.Client
	prefix string
	logs   *logs

	histories map[string]*app.History // of the instances that were probed
	calls     int64                   // of their owner
}

// newService returns the API on the Redis that tests share, with its reads up to
// date. The API is changed before it serves.
func newService(t *testing.T, change ...func(*handlers.API)) *service {
	t.Helper()
	s := newServiceOn(t, harness.SharedRedis(t), change...)
	s.follow(harness.SharedRedis)
	s.await(func() bool { return s.api.Replica.Revision() != "" })
	s.api.Replica.SetCurrent(time.Now()) // the follower says so only after it has waited for news
	return s
}

func noMetrics(w http.ResponseWriter, _ *http.Request) { w.Header().Set("Content-Type", "text/plain") }

// newServiceOn returns the API on a Redis, with an empty replica.
func newServiceOn(t *testing.T, rdb *redis.Client, change ...func(*handlers.API)) *service {
	t.Helper()
	s := &service{t: t, rdb: rdb, prefix: harness.Prefix(t), logs: &logs{}}
	s.store = s.storeOn(rdb)
	log := slog.New(slog.NewTextHandler(s.logs, nil))
	rep := replica.New()
	s.api = &handlers.API{
		Registry: registry.New(s.store, rep, s.store.Now, 5*time.Second, func(context.Context, app.Step) {}),
		Replica:  rep, Store: s.store, History: s.store.History(history.Default), Jobs: jobs{}, Now: s.store.Now, Log: log,
		Agents:   agents.Reports{Store: s.store, Now: s.store.Now},
		Webhooks: webhook.NewWebhooks(s.store.Webhooks(), nil, s.store.Now, func(context.Context, app.Event) {}),
		Metrics:  http.HandlerFunc(noMetrics), Settings: handlers.Settings{FrontendKey: hipache.Keys{}.Frontend, MaxBody: 256 << 10},
		Tokens: auth.NewTokens(s.store.Tokens(), "", false, s.store.Now, func(context.Context, app.Event) {}),
	}
	for _, c := range change {
		c(s.api)
	}
	s.serve()
	return s
}

// serve serves with the present parts of the API. A test that replaces a part calls it again.
func (s *service) serve() { s.http = harness.CheckAnswers(s.t, s.api.Handler()) }

// follow keeps the reads up to date until the test ends.
func (s *service) follow(client func(testing.TB) *redis.Client) {
	var following sync.WaitGroup
	s.t.Cleanup(following.Wait)
	store := s.storeOn(client(s.t)) // its client closes before the test ends, which ends a read that waits for events
	following.Go(func() { store.Follow(s.t.Context(), s.api.Replica) })
}

func (s *service) storeOn(rdb *redis.Client) *redisstore.Store {
	return redisstore.New(rdb, redisstore.Options{
		Prefix: s.prefix, Hipache: hipache.Keys{Prefix: s.prefix}, Log: slog.New(slog.DiscardHandler),
	})
}

// await waits until the replica is as it should be.
func (s *service) await(done func() bool) {
	s.t.Helper()
	harness.Await(s.t, "the replica is as it should be", done)
}

// stored is everything in Redis that belongs to the test.
func (s *service) stored() map[string]string {
	s.t.Helper()
	keys, err := s.rdb.Keys(s.t.Context(), s.prefix+"*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	all := map[string]string{}
	for _, key := range keys {
		if all[key], err = s.rdb.Dump(s.t.Context(), key).Result(); err != nil {
			s.t.Fatal(err)
		}
	}
	return all
}

// instance returns an instance from the store.
func (s *service) instance(id string) app.Instance {
	s.t.Helper()
	i, err := s.store.Get(s.t.Context(), id)
	if err != nil {
		s.t.Fatal(err)
	}
	return i
}

// probed judges a result of a probe of an instance, and writes it down, as its owner would.
func (s *service) probed(id string, r app.Result) {
	s.t.Helper()
	ctx := s.t.Context()
	i := s.instance(id)
	if !i.Probed() {
		s.t.Fatalf("%s is %s and not probed", id, i.State)
	}
	r.At = s.store.Now()
	if _, err := s.api.Registry.ApplyResult(ctx, registry.Outcome{Was: i, Result: r}); err != nil {
		s.t.Fatal(err)
	}
	if s.histories == nil {
		s.histories = map[string]*app.History{}
	}
	if s.histories[id] == nil {
		s.histories[id] = &app.History{}
	}
	s.histories[id].Add(r)
	s.calls++
	owned, err := s.store.Own(ctx, ownership.Call{Worker: "test", Count: s.calls})
	if err != nil {
		s.t.Fatal(err)
	}
	shard := ownership.ShardOf(id)
	p := ownership.Progress{ID: id, Due: s.store.Now().Add(i.Check.Interval).UnixMilli(), History: s.histories[id].Packed()}
	record := p.Append(ownership.AppendRecord(nil, s.store.Now().UnixMilli()))
	if refused, err := s.store.Flush(ctx, []ownership.Flush{{Shard: shard, Term: owned.Owned[shard], Record: record}}); err != nil || len(refused) > 0 {
		s.t.Fatalf("flushed: %v refused, %v", refused, err)
	}
}

// pass and refuse are results of a probe.
func pass() app.Result {
	return app.Result{Passed: true, Code: http.StatusOK, Latency: 3 * time.Millisecond}
}
func refuse() app.Result { return app.Result{Code: app.Refused} }

// call is a request that has not been made yet.
type call struct {
	service *service
	request *http.Request
}

func (s *service) call(method, path string, body io.Reader) call {
	r := httptest.NewRequestWithContext(s.t.Context(), method, path, body)
	r.RemoteAddr, r.Host = callerIP+":41234", "localhost:8080"
	return call{s, r}
}

// form is a call as curl -d makes it: name, value, name, value, ...
func (s *service) form(method, path string, pairs ...string) call {
	c := s.call(method, path, strings.NewReader(values(pairs...).Encode()))
	return c.header("Content-Type", "application/x-www-form-urlencoded")
}

func (s *service) json(method, path, body string) call {
	return s.call(method, path, strings.NewReader(body)).header("Content-Type", "application/json")
}

func (s *service) get(path string) call { return s.call(http.MethodGet, path, nil) }

// register registers an instance, which must be accepted.
func (s *service) register(pairs ...string) receipt {
	s.t.Helper()
	return decode[receipt](s.form(http.MethodPost, "/v1/register", pairs...).want(http.StatusCreated))
}

func (c call) header(name, value string) call {
	c.request.Header.Add(name, value)
	return c
}

func (c call) from(addr string) call {
	c.request.RemoteAddr = addr
	return c
}

func (c call) with(ctx context.Context) call {
	c.request = c.request.WithContext(ctx)
	return c
}

func (c call) do() answer {
	w := httptest.NewRecorder()
	c.service.http.ServeHTTP(w, c.request)
	return answer{c, w}
}

// start makes the call in the background and returns where its answer will be.
func (c call) start() <-chan answer {
	answers := make(chan answer, 1)
	go func() { answers <- c.do() }()
	return answers
}

// want makes the call and expects a status.
func (c call) want(status int) answer {
	c.service.t.Helper()
	a := c.do()
	if a.Code != status {
		c.service.t.Fatalf("%s: got %d %s, want %d", c, a.Code, a.Body, status)
	}
	return a
}

// problem makes the call and expects an error.
func (c call) problem(status int) problem {
	c.service.t.Helper()
	return c.do().problem(status)
}

func (c call) String() string { return c.request.Method + " " + c.request.URL.String() }

type answer struct {
	call
	*httptest.ResponseRecorder
}

// problem checks the properties that every error answer has.
func (a answer) problem(status int) problem {
	t := a.service.t
	t.Helper()
	p := decode[problem](a)
	if a.Code != status || p.Status != status {
		t.Errorf("%s: got %d %s, want %d", a.call, a.Code, a.Body, status)
	}
	if got := a.Header().Get("Content-Type"); got != "application/problem+json" {
		t.Errorf("%s: the error is %s", a.call, got)
	}
	if p.Type == "" || p.Title == "" || p.Field != "" && (p.Want == "" || p.Detail != p.Field+" "+p.problem()+"; "+p.Want) {
		t.Errorf("%s: the problem lacks something: %s", a.call, a.Body)
	}
	return p
}

// decode reads an answer. A field that T does not have fails the test.
func decode[T any](a answer) (v T) {
	t := a.service.t
	t.Helper()
	d := json.NewDecoder(strings.NewReader(a.Body.String()))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		t.Fatalf("%s: %s: %v", a.call, a.Body, err)
	}
	return v
}

type problem struct {
	Type, Title         string
	Status              int
	Detail, Field, Want string
	ID, State, Reason   string
}

// problem is the text between the name of the field and the advice.
func (p problem) problem() string {
	return strings.TrimSuffix(strings.TrimPrefix(p.Detail, p.Field+" "), "; "+p.Want)
}

type receipt struct {
	ID, Service, State string
	New                bool
	Address            string
	AddressFrom        string `json:"address_from"`
	Check              check
	FirstProbe         time.Time `json:"first_probe"`
	Frontends          []frontendChange
	Replaces, Next     string
	Links              map[string]string
	Revision, Key      string
}

type check struct {
	Kind, Target, Expect string
	ExpectBody           string   `json:"expect_body"`
	Host                 string   `json:"health_host"`
	Method               string   `json:"health_method"`
	Headers              []string `json:"health_header"`
	TLS                  bool     `json:"tls"`
	SkipVerify           bool     `json:"tls_skip_verify"`
	ServerName           string   `json:"tls_server_name"`
	Interval, Timeout    string
	Rise, Fall           int
	Grace, Forget, Lease string
}

type frontendChange struct {
	Host, Key, Backend string
	Slots              int
}

// values is name, value, name, value, ...; a name may come again.
func values(pairs ...string) url.Values {
	v := url.Values{}
	for n := 0; n < len(pairs); n += 2 {
		v.Add(pairs[n], pairs[n+1])
	}
	return v
}

func same[T any](t *testing.T, what string, got, want T) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// jobs are jobs of a test.
type jobs map[string]func(context.Context) error

func (j jobs) Names() []string { return []string{"compact", "probe"} }

func (j jobs) RunOnce(ctx context.Context, name string) error {
	if run := j[name]; run != nil {
		return run(ctx)
	}
	return nil
}

// logs keeps the lines of the log.
type logs struct {
	mu   sync.Mutex
	text strings.Builder
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}
