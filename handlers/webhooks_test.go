package handlers_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/webhook"
)

// receiver answers pings with a result.
type receiver struct {
	mu     sync.Mutex
	result app.Result
	pinged []string // ids of webhooks
}

func (r *receiver) Ping(_ context.Context, w webhook.Webhook) webhook.Attempt {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pinged = append(r.pinged, w.ID)
	return webhook.Attempt{Message: "ping_1", Kind: "ping", Number: 1, Result: r.result}
}

func takes() *receiver {
	return &receiver{result: app.Result{At: time.Unix(1_900_000_000, 0), Passed: true, Code: 204, Latency: 7 * time.Millisecond}}
}

// newHooks returns the API with webhooks that deliver to r.
func newHooks(t *testing.T, r *receiver) *service {
	t.Helper()
	s := newService(t)
	s.api.Webhooks = webhook.NewWebhooks(s.store.Webhooks(), r, s.store.Now, func(context.Context, app.Event) {})
	s.serve()
	return s
}

type webhookAnswer struct {
	ID, URL, Secret, Format  string
	Headers, Services, Kinds []string
	Rate                     int
	Description              string
	CreatedAt                time.Time `json:"created_at"`
	State, Reason, Cursor    string
	Failures                 int
	FailingSince             *time.Time `json:"failing_since"`
	NextAttempt              *time.Time `json:"next_attempt"`
	Replay                   *struct{ After, Until string }
}

func (s *service) createHook(pairs ...string) webhookAnswer {
	s.t.Helper()
	pairs = append([]string{"url", "https://receiver.test/hooks?x=1"}, pairs...)
	return decode[webhookAnswer](s.form(http.MethodPost, "/v1/webhooks", pairs...).want(http.StatusCreated))
}

func TestAWebhookIsCreatedWithASecretThatIsShownOnce(t *testing.T) {
	t.Parallel()
	r := takes()
	s := newHooks(t, r)
	plain := s.createHook()
	key, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(plain.Secret, "whsec_"))
	if err != nil || len(key) != 32 || !strings.HasPrefix(plain.Secret, "whsec_") {
		t.Errorf("the secret is %q", plain.Secret)
	}
	same(t, "with defaults", plain, webhookAnswer{
		ID: plain.ID, URL: "https://receiver.test/hooks?x=1", Secret: plain.Secret, Format: "event", Rate: 60,
		CreatedAt: plain.CreatedAt, State: "active", Cursor: "0-0",
	})

	secret := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of just 24 byte"))
	full := decode[webhookAnswer](s.json(http.MethodPost, "/v1/webhooks", `{"url": "http://127.0.0.1:9/", "format": "slack", "service": ["web", "db"],
		"kind": ["healthy", "webhook-paused"], "rate": 3, "description": "on call", "secret": "`+secret+`"}`).want(http.StatusCreated))
	same(t, "with all", full, webhookAnswer{
		ID: full.ID, URL: "http://127.0.0.1:9/", Secret: secret, Format: "slack", Services: []string{"web", "db"},
		Kinds: []string{"healthy", "webhook-paused"}, Rate: 3, Description: "on call", CreatedAt: full.CreatedAt, State: "active", Cursor: "0-0",
	})
	same(t, "pinged", r.pinged, []string{plain.ID, full.ID})

	plain.Secret, full.Secret = "", ""
	same(t, "read", decode[webhookAnswer](s.get("/v1/webhooks/"+full.ID).want(200)), full)
	list := decode[struct{ Webhooks []webhookAnswer }](s.get("/v1/webhooks").want(200))
	want := []webhookAnswer{plain, full}
	if full.CreatedAt.Equal(plain.CreatedAt) { // of one millisecond they are in the order of their ids
		slices.SortFunc(want, func(a, b webhookAnswer) int { return strings.Compare(a.ID, b.ID) })
	}
	same(t, "list", list.Webhooks, want)

	s.call(http.MethodDelete, "/v1/webhooks/"+full.ID, nil).want(http.StatusNoContent)
	s.call(http.MethodDelete, "/v1/webhooks/"+full.ID, nil).want(http.StatusNoContent)
	s.get("/v1/webhooks/" + full.ID).problem(http.StatusNotFound)
}

// The values are passwords and tokens.
func TestTheHeadersOfAWebhookAreNotShown(t *testing.T) {
	t.Parallel()
	r := &receiver{}
	s := newHooks(t, r)
	fields := []string{"url", "https://receiver.test/", "format", "alertmanager", "header", "authorization:Bearer hunter2 ", "header", "x-api-key: hunter2:a,b"}
	p := s.form(http.MethodPost, "/v1/webhooks", fields...).problem(http.StatusFailedDependency)
	if strings.Contains(p.Detail+p.Want, "hunter2") {
		t.Errorf("the problem is %+v", p)
	}
	r.result.Passed = true
	made := s.form(http.MethodPost, "/v1/webhooks", fields...).want(http.StatusCreated)
	w := decode[webhookAnswer](made)
	same(t, "created", w.Headers, []string{"Authorization", "X-Api-Key"})
	for _, answer := range []answer{made, s.get("/v1/webhooks").want(200), s.get("/v1/webhooks/" + w.ID).want(200), s.get("/events").want(200)} {
		if strings.Contains(answer.Body.String(), "hunter2") {
			t.Errorf("%s: %s", answer.call, answer.Body)
		}
	}
	if strings.Contains(s.logs.String(), "hunter2") {
		t.Errorf("the log is %s", s.logs)
	}
	kept, err := s.store.Webhooks().Get(t.Context(), w.ID)
	if want := map[string]string{"Authorization": "Bearer hunter2", "X-Api-Key": "hunter2:a,b"}; err != nil || !maps.Equal(kept.Headers, want) {
		t.Errorf("kept are %v, %v", kept.Headers, err)
	}
}

func TestAWebhookThatDoesNotTakeThePingIsNotKept(t *testing.T) {
	t.Parallel()
	s := newHooks(t, &receiver{result: app.Result{Code: 500, Detail: `begins "no"`}})
	before := s.stored()
	p := s.form(http.MethodPost, "/v1/webhooks", "url", "https://receiver.test/").problem(http.StatusFailedDependency)
	if p.Field != "url" || p.Type != "urn:rollcall:undelivered" || p.problem() != `does not take a ping: status 500 Internal Server Error: begins "no"` {
		t.Errorf("the problem is %+v", p)
	}
	same(t, "stored", s.stored(), before)
}

func TestAWebhookThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	r := takes()
	s := newHooks(t, r)
	before := s.stored()
	const url = "https://receiver.test/"
	long := url + strings.Repeat("x", 2048)
	short := "whsec_" + base64.StdEncoding.EncodeToString([]byte("a secret of 23 bytes..."))
	for field, calls := range map[string][][]string{
		"url": {
			{},
			{"url", "receiver.test"},
			{"url", "ftp://receiver.test/"},
			{"url", "https:///hooks"},
			{"url", "https://"},
			{"url", "https://:443/"},
			{"url", "https://user@receiver.test/"},
			{"url", "https://u:p@receiver.test/"},
			{"url", url + "#x"},
			{"url", url + "#"},
			{"url", "https://receiver.test:0/"},
			{"url", "https://receiver.test:65536/"},
			{"url", "https://receiver.test:x/"},
			{"url", long},
			{"url", "https://receiver.test/\x00"},
			{"url", "https://receiver .test/"},
			{"url", url, "url", url},
		},
		"secret": {
			{"url", url, "secret", "hunter2"},
			{"url", url, "secret", short},
			{"url", url, "secret", "whsec_***"},
			{"url", url, "secret", strings.TrimPrefix(short, "whsec_") + "AAAA"},
		},
		"format":  {{"url", url, "format", "xml"}},
		"service": {{"url", url, "service", "No"}, {"url", url, "service", "web", "service", ""}},
		"kind":    {{"url", url, "kind", "sick"}, {"url", url, "kind", "healthy", "kind", "ping"}},
		"rate":    {{"url", url, "rate", "0"}, {"url", url, "rate", "-1"}, {"url", url, "rate", "10001"}, {"url", url, "rate", "x"}},
		"header": {
			{"url", url, "header", "hunter2"},
			{"url", url, "header", "Authorization:"},
			{"url", url, "header", ": hunter2"},
			{"url", url, "header", "A B: hunter2"},
			{"url", url, "header", "Authorization: hunter2\r\nX: y"},
			{"url", url, "header", "Authorization: hünter2"},
			{"url", url, "header", "A: hunter2\x00"},
			{"url", url, "header", "host: hunter2"},
			{"url", url, "header", "Content-length: 1"},
			{"url", url, "header", "WEBHOOK-ID: hunter2"},
			{"url", url, "header", "A: hunter2", "header", "a: hunter2"},
			{"url", url, "header", "A: " + strings.Repeat("x", 4097)},
			{
				"url", url, "header", "A1: x", "header", "A2: x", "header", "A3: x", "header", "A4: x", "header", "A5: x", "header", "A6: x", "header", "A7: x",
				"header", "A8: x", "header", "A9: x", "header", "A10: x", "header", "A11: x",
			},
		},
		"description": {{"url", url, "description", strings.Repeat("x", 201)}, {"url", url, "description", "a\nb"}},
		"colour":      {{"url", url, "colour", "red"}},
	} {
		for _, pairs := range calls {
			if p := s.form(http.MethodPost, "/v1/webhooks", pairs...).problem(http.StatusUnprocessableEntity); p.Field != field || strings.Contains(p.Detail, "unter2") {
				t.Errorf("%.100q: field %q is at fault (%s), want %q", pairs, p.Field, p.Detail, field)
			}
		}
	}
	same(t, "stored", s.stored(), before)
	same(t, "pinged", r.pinged, nil)
}

func TestAWebhookIsPausedResumedAndTested(t *testing.T) {
	t.Parallel()
	r := takes()
	s := newHooks(t, r)
	w := s.createHook()
	path := "/v1/webhooks/" + w.ID
	post := func(verb string) webhookAnswer {
		t.Helper()
		return decode[webhookAnswer](s.call(http.MethodPost, path+verb, nil).want(http.StatusOK))
	}
	for range 2 {
		if got := post("/pause"); got.State != "paused" || got.Reason != "paused by hand" || got.Secret != "" {
			t.Errorf("paused it is %+v", got)
		}
	}
	for range 2 {
		if got := post("/resume"); got.State != "active" || got.Reason != "" {
			t.Errorf("resumed it is %+v", got)
		}
	}
	events, err := s.store.Events(t.Context(), "0", 10)
	if err != nil || len(events) != 2 || events[0].Kind != app.EventPaused || events[1].Kind != app.EventResumed || events[1].Subject != w.ID {
		t.Errorf("told %+v, %v, want that it was paused and resumed, once", events, err)
	}

	r.result = app.Result{At: time.Unix(1_900_000_000, 0), Code: app.Refused, Latency: 5 * time.Millisecond}
	got := s.call(http.MethodPost, path+"/test", nil).want(http.StatusOK).Body.String()
	want := `{"message":"ping_1","kind":"ping","number":1,"at":"2030-03-17T17:46:40Z","passed":false,"reason":"connection refused","latency_ms":5}`
	same(t, "tested", strings.TrimSpace(got), want)

	for _, verb := range []string{"/pause", "/resume", "/test", "/replay?since=0"} {
		s.call(http.MethodPost, "/v1/webhooks/nobody"+verb, nil).problem(http.StatusNotFound)
	}
	s.get("/v1/webhooks/nobody/deliveries").problem(http.StatusNotFound)
}

func TestDeliveriesAreListed(t *testing.T) {
	t.Parallel()
	s := newHooks(t, takes())
	w := s.createHook()
	s.register("service", "web", "port", "80")
	claims, _, err := s.store.Webhooks().Claim(t.Context(), 1)
	if err != nil || len(claims) != 1 {
		t.Fatal(claims, err)
	}
	failing := claims[0].Webhook
	failing.Failures, failing.Failing, failing.Due = 1, time.Unix(1_900_000_000, 0), time.Unix(1_900_000_005, 0)
	attempt := webhook.Attempt{Message: "msg_5-0", Kind: "registered", Number: 1, Result: app.Result{At: failing.Failing, Code: 503, Latency: time.Second}}
	if err := s.store.Webhooks().Complete(t.Context(), claims[0], webhook.Delivery{Webhook: failing, Attempt: &attempt}); err != nil {
		t.Fatal(err)
	}
	got := s.get("/v1/webhooks/" + w.ID + "/deliveries").want(http.StatusOK).Body.String()
	want := `{"deliveries":[{"message":"msg_5-0","kind":"registered","number":1,"at":"2030-03-17T17:46:40Z","passed":false,` +
		`"reason":"status 503 Service Unavailable","latency_ms":1000}]}`
	same(t, "deliveries", strings.TrimSpace(got), want)
	v := decode[webhookAnswer](s.get("/v1/webhooks/" + w.ID).want(http.StatusOK))
	if v.Failures != 1 || !v.FailingSince.Equal(failing.Failing) || !v.NextAttempt.Equal(failing.Due) {
		t.Errorf("it is %+v, want one failure", v)
	}
}

func TestReplay(t *testing.T) {
	t.Parallel()
	s := newHooks(t, takes())
	var ids []app.Revision
	var first app.Event
	for n := range 3 {
		ids = append(ids, app.Revision(s.register("service", "web", "port", fmt.Sprint(80+n)).Revision))
	}
	if events, err := s.store.Events(t.Context(), "0", 1); err == nil && len(events) == 1 {
		first = events[0]
	}
	before := func(n int) string { return string(ids[n].Before()) }
	for query, want := range map[string][2]string{
		"event=" + string(ids[1]):                                {before(1), string(ids[1])},
		"since=" + string(ids[1]):                                {before(1), "now"},
		"since=" + string(ids[0]) + "&until=" + string(ids[1]):   {before(0), string(ids[1])},
		"since=" + first.At.Add(-time.Hour).Format(time.RFC3339): {"0-0", "now"}, // all there are
		"since=" + ids[0].Time().UTC().Format(time.RFC3339Nano):  {before(0), "now"},
		"since=0": {"0-0", "now"},
	} {
		w := s.createHook()
		path := "/v1/webhooks/" + w.ID + "/replay"
		got := decode[webhookAnswer](s.call(http.MethodPost, path+"?"+query, nil).want(http.StatusAccepted))
		if got.Replay == nil || got.Replay.After != want[0] || want[1] != "now" && got.Replay.Until != want[1] {
			t.Errorf("%s: replays %+v, want %v", query, got.Replay, want)
		}
		if want[1] == "now" && app.Revision(got.Replay.Until).Time().Before(ids[2].Time()) {
			t.Errorf("%s: replays until %s, want until now", query, got.Replay.Until)
		}
		s.call(http.MethodPost, path+"?"+query, nil).problem(http.StatusConflict)
	}
}

func TestAReplayThatCannotBeIsRefused(t *testing.T) {
	t.Parallel()
	s := newHooks(t, takes())
	w := s.createHook()
	path := "/v1/webhooks/" + w.ID + "/replay"
	s.call(http.MethodPost, path+"?since=0", nil).problem(http.StatusNotFound) // there is no event yet
	var ids []string
	for n := range 3 {
		ids = append(ids, s.register("service", "web", "port", fmt.Sprint(80+n)).Revision)
	}
	before := s.stored()
	for query, field := range map[string]string{
		"": "since", "until=5": "since", "since=yesterday": "since", "since=5&until=x": "until", "since=5&until=4": "until",
		"event=x": "event", "event=2030-01-02T15:04:05Z": "event", "event=5&since=4": "event", "event=5&until=9": "event", "after=5": "after",
	} {
		if p := s.call(http.MethodPost, path+"?"+query, nil).problem(http.StatusUnprocessableEntity); p.Field != field {
			t.Errorf("%q: field %q is at fault, want %q", query, p.Field, field)
		}
	}
	s.call(http.MethodPost, path+"?event=9999999999999-0", nil).problem(http.StatusNotFound)
	s.call(http.MethodPost, path+"?since=9999999999999-0", nil).problem(http.StatusNotFound)
	if diff := cmp.Diff(before, s.stored()); diff != "" {
		t.Errorf("something was written:\n%s", diff)
	}

	if err := s.rdb.XTrimMinID(t.Context(), s.prefix+"events", ids[2]).Err(); err != nil {
		t.Fatal(err)
	}
	for _, query := range []string{"event=" + ids[0], "since=" + ids[1]} {
		if p := s.call(http.MethodPost, path+"?"+query, nil).problem(http.StatusGone); !strings.Contains(p.Detail, ids[2]) {
			t.Errorf("%s: %+v, want where to begin", query, p)
		}
	}
	all := decode[webhookAnswer](s.call(http.MethodPost, path+"?since=2001-01-01T00:00:00Z", nil).want(http.StatusAccepted))
	if all.Replay == nil || all.Replay.After != "0-0" {
		t.Errorf("since long ago: replays %+v, want all there is", all.Replay)
	}
}
