package webhook_test

import (
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
)

// history is what is told in every format: the first event by itself, the others in a
// digest.
var history = []app.Event{
	{Kind: app.EventUnhealthy, Service: "web", Instance: "web-1", From: app.Healthy, To: app.Unhealthy, Reason: "status 500: <b> & co"},
	{Kind: app.EventPaused, Subject: "wh-1", Reason: "the receiver is gone"},
	{Kind: app.EventUnhealthy, Service: "web", Instance: "web-2", From: app.Healthy, To: app.Unhealthy, Reason: "timed out"},
	{Kind: app.EventHealthy, Service: "web", Instance: "web-1", From: app.Unhealthy, To: app.Healthy, Reason: "passed"},
}

func TestFormats(t *testing.T) {
	t.Parallel()
	const (
		at     = "2000-01-01T00:00:00Z"
		later  = "2000-01-31T00:00:00Z"
		first  = "946684800000-1"
		last   = "946684800000-3"
		replay = "POST /v1/webhooks/w/replay?since=" + first + "\\u0026until=" + last
		down1  = `{"labels":{"alertname":"RollcallInstanceDown","instance":"web-1","service":"web"},` +
			`"annotations":{"summary":"web-1 of web is unhealthy: status 500: \u003cb\u003e \u0026 co"},"startsAt":"` + at + `","endsAt":"` + later + `"}`
		paused = `{"labels":{"alertname":"RollcallWebhookPaused","webhook":"wh-1"},` +
			`"annotations":{"summary":"webhook wh-1: the receiver is gone"},"startsAt":"` + at + `","endsAt":"` + later + `"}`
		down2 = `{"labels":{"alertname":"RollcallInstanceDown","instance":"web-2","service":"web"},` +
			`"annotations":{"summary":"web-2 of web is unhealthy: timed out"},"startsAt":"` + at + `","endsAt":"` + later + `"}`
		up1 = `{"labels":{"alertname":"RollcallInstanceDown","instance":"web-1","service":"web"},` +
			`"annotations":{"summary":"web-1 of web is healthy: passed"},"startsAt":"` + at + `","endsAt":"` + at + `"}`
		again = ` (replayed; it was at 2000-01-01 00:00:00 UTC)`
	)
	event := func(n, kind, data string) string {
		return `{"type":"` + kind + `","timestamp":"` + at + `","data":{"id":"946684800000-` + n + `","kind":"` + kind + `","at":"` + at + `",` + data + `}}`
	}
	events := []string{
		event("0", "unhealthy", `"service":"web","instance":"web-1","from":"healthy","to":"unhealthy","reason":"status 500: \u003cb\u003e \u0026 co"`),
		event("1", "webhook-paused", `"subject":"wh-1","reason":"the receiver is gone"`),
		event("2", "unhealthy", `"service":"web","instance":"web-2","from":"healthy","to":"unhealthy","reason":"timed out"`),
		event("3", "healthy", `"service":"web","instance":"web-1","from":"unhealthy","to":"healthy","reason":"passed"`),
	}
	replayed := func(s string) string { return strings.Replace(s, `,"data"`, `,"replayed":true,"data"`, 1) }
	lines := []string{
		`{"text":":red_circle: *web web-1* unhealthy: status 500: \u0026lt;b\u0026gt; \u0026amp; co`,
		`{"text":":warning: *wh-1* webhook-paused: the receiver is gone`,
		`{"text":":red_circle: *web web-2* unhealthy: timed out`,
		`{"text":":large_green_circle: *web web-1* healthy: passed`,
	}
	for format, want := range map[app.Format][]string{
		app.EventFormat: {
			events[0],
			`{"type":"digest","timestamp":"` + at + `","data":{"counts":[{"kind":"webhook-paused","events":1},{"service":"web","kind":"healthy","events":1},` +
				`{"service":"web","kind":"unhealthy","events":1}],"events":3,"first":"` + first + `","last":"` + last + `","replay":"` + replay + `"}}`,
			`{"type":"ping","timestamp":"2000-01-01T00:01:00Z","data":{"webhook":"w"}}`,
			replayed(events[0]), replayed(events[1]), replayed(events[2]), replayed(events[3]),
		},
		app.SlackFormat: {
			lines[0] + `"}`,
			`{"text":":warning: *3 events* at once\n1 × webhook-paused\n1 × web healthy\n1 × web unhealthy\none by one: ` + "`" +
				strings.Replace(replay, "\\u0026", "\\u0026amp;", 1) + "`" + `"}`,
			`{"text":"Rollcall tells this channel what happens"}`,
			lines[0] + again + `"}`, lines[1] + again + `"}`, lines[2] + again + `"}`, lines[3] + again + `"}`,
		},
		app.AlertmanagerFormat: {
			`[` + down1 + `]`, `[` + paused + `,` + down2 + `,` + up1 + `]`, `[]`,
			`[` + down1 + `]`, `[` + paused + `]`, `[` + down2 + `]`, `[` + up1 + `]`,
		},
	} {
		t.Run(string(format), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				if diff := cmp.Diff(want, formats(t, format, 1, history...)); diff != "" {
					t.Errorf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// Alertmanager would be told of an alert that is none.
func TestAlertmanagerIsOnlyToldOfAlerts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		got := formats(t, app.AlertmanagerFormat, 10, app.Event{Kind: app.EventUpdated, Service: "web", Instance: "web-1"})
		if diff := cmp.Diff([]string{"[]"}, got); diff != "" { // the ping
			t.Errorf("(-want +got):\n%s", diff)
		}
	})
}

// formats sends what happens to a webhook in a format and returns the bodies.
func formats(t *testing.T, format app.Format, rate int, log ...app.Event) []string {
	t.Helper()
	b := newBubble(t)
	b.add("w", func(w *app.Webhook) { w.Format, w.Rate = format, rate })
	for _, e := range log {
		b.tell(e)
	}
	b.work()
	time.Sleep(time.Minute)
	b.sender.Ping(t.Context(), b.hook("w"))
	if err := b.outbox.Replay(t.Context(), "w", app.Replay{After: "0-0", Until: "99999999999999-0"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	var bodies []string
	for _, p := range b.got("w") {
		bodies = append(bodies, p.text)
	}
	return bodies
}
