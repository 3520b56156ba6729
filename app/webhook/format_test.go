package webhook_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app"
	"rollcall/app/webhook"
)

// history is the content of every format: the first event alone, the others in a digest.
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
		later  = "2000-01-01T00:05:00Z"
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
	ended := func(alert string) string { return strings.Replace(alert, later, at, 1) }
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
	for format, want := range map[webhook.Format][]string{
		webhook.EventFormat: {
			events[0],
			`{"type":"digest","timestamp":"` + at + `","data":{"counts":[{"kind":"webhook-paused","events":1},{"service":"web","kind":"healthy","events":1},` +
				`{"service":"web","kind":"unhealthy","events":1}],"events":3,"first":"` + first + `","last":"` + last + `","replay":"` + replay + `"}}`,
			`{"type":"ping","timestamp":"2000-01-01T00:01:00Z","data":{"webhook":"w"}}`,
			replayed(events[0]), replayed(events[1]), replayed(events[2]), replayed(events[3]),
		},
		webhook.SlackFormat: {
			lines[0] + `"}`,
			`{"text":":warning: *3 events* at once\n1 × webhook-paused\n1 × web healthy\n1 × web unhealthy\none by one: ` + "`" +
				strings.Replace(replay, "\\u0026", "\\u0026amp;", 1) + "`" + `"}`,
			`{"text":"Rollcall sends events to this channel"}`,
			lines[0] + again + `"}`, lines[1] + again + `"}`, lines[2] + again + `"}`, lines[3] + again + `"}`,
		},
		webhook.AlertmanagerFormat: { // the state after all events; a replayed alert has ended
			`[` + up1 + `,` + paused + `,` + down2 + `]`, `[]`,
			`[` + ended(down1) + `]`, `[` + ended(paused) + `]`, `[` + ended(down2) + `]`, `[` + up1 + `]`,
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

// summaries returns the alerts in the messages to a webhook since the last call: "name instance" of a
// firing alert, with "ended" for an ended one.
func (b *bubble) summaries(id string) (all []string) {
	b.t.Helper()
	for _, p := range b.got(id) {
		var alerts []struct {
			Labels map[string]string
			EndsAt time.Time
		}
		if err := json.Unmarshal([]byte(p.text), &alerts); err != nil {
			b.t.Fatal(err)
		}
		var message []string
		for _, a := range alerts {
			is := strings.TrimPrefix(a.Labels["alertname"], "Rollcall") + " " + a.Labels["instance"] + a.Labels["webhook"]
			if !a.EndsAt.After(p.at) {
				is += " ended"
			}
			message = append(message, is)
		}
		all = append(all, strings.Join(message, ", "))
	}
	return all
}

func (b *bubble) wantAlerts(what string, want ...string) {
	b.t.Helper()
	if diff := cmp.Diff(want, b.summaries("w"), cmpopts.EquateEmpty()); diff != "" {
		b.t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func down(id string) app.Event {
	return app.Event{Kind: app.EventUnhealthy, Service: "web", Instance: id, To: app.Unhealthy, Reason: "refused"}
}

func TestAnAlertIsRepeatedWhileItLasts(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.firing = []app.Event{down("web-0")}
		b.add("w", func(w *webhook.Webhook) { w.Format, w.Due = webhook.AlertmanagerFormat, time.Now() })
		time.Sleep(time.Second)
		b.wantAlerts("a new webhook", "InstanceDown web-0")
		time.Sleep(3 * time.Minute)
		b.wantAlerts("three minutes later", "InstanceDown web-0", "InstanceDown web-0", "InstanceDown web-0")
		b.firing = nil
		b.tell(app.Event{Kind: app.EventHealthy, Service: "web", Instance: "web-0", To: app.Healthy})
		time.Sleep(10 * time.Second)
		b.wantAlerts("when it ends", "InstanceDown web-0 ended")
		time.Sleep(10 * time.Minute)
		b.wantAlerts("later")
	})
}

// TestAnAlertOfADisputeEnds checks that the alert ends by itself: no event ends a dispute.
func TestAnAlertOfADisputeEnds(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w", func(w *webhook.Webhook) { w.Format = webhook.AlertmanagerFormat })
		at := time.Now()
		b.tell(app.Event{Kind: app.EventDisputed, Subject: "cron-1", Reason: "worker cron-2 reaches web-1", At: at})
		time.Sleep(10 * time.Second)
		got := b.got("w")
		if len(got) != 1 {
			t.Fatalf("got %d messages, want 1", len(got))
		}
		var alerts []struct {
			Labels map[string]string
			EndsAt time.Time
		}
		if err := json.Unmarshal([]byte(got[0].text), &alerts); err != nil || len(alerts) != 1 {
			t.Fatalf("%s: %v", got[0].text, err)
		}
		want := map[string]string{"alertname": "RollcallWorkerDisputed", "worker": "cron-1"}
		if diff := cmp.Diff(want, alerts[0].Labels); diff != "" {
			t.Errorf("(-want +got):\n%s", diff)
		}
		if lasts := alerts[0].EndsAt.Sub(got[0].at); lasts != time.Hour {
			t.Errorf("the alert lasts %s, want 1h", lasts)
		}
	})
}

func TestNoAlertFiresDuringMaintenance(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w", func(w *webhook.Webhook) { w.Format = webhook.AlertmanagerFormat })
		event := func(kind app.EventKind, state app.State, maintenance bool) {
			b.tell(app.Event{Kind: kind, Service: "web", Instance: "web-1", To: state, Maintenance: maintenance})
			time.Sleep(10 * time.Second) // longer than pollEvery
		}
		event(app.EventUpdated, app.Healthy, true)
		b.wantAlerts("a healthy instance in maintenance")
		event(app.EventUnhealthy, app.Unhealthy, true)
		b.wantAlerts("unhealthy in maintenance", "InstanceDown web-1 ended")
		event(app.EventUpdated, app.Unhealthy, false)
		b.wantAlerts("maintenance is over, and it is still down", "InstanceDown web-1")
		event(app.EventUpdated, app.Unhealthy, true)
		b.wantAlerts("maintenance of an instance that is down", "InstanceDown web-1 ended")
		event(app.EventHealthy, app.Healthy, true)
		event(app.EventUpdated, app.Healthy, false)
		b.wantAlerts("healthy again", "InstanceDown web-1 ended")
	})
}

func TestAnAlertmanagerThatWasUnavailableGetsTheState(t *testing.T) {
	t.Parallel()
	inBubble(t, func(b *bubble) {
		b.add("w", func(w *webhook.Webhook) { w.Format = webhook.AlertmanagerFormat })
		b.answers(status(503))
		b.tell(down("web-1"))
		b.tell(down("web-2"))
		b.tell(app.Event{Kind: app.EventHealthy, Service: "web", Instance: "web-1", To: app.Healthy})
		time.Sleep(3 * time.Hour)
		b.got("w")
		b.answers(nil)
		time.Sleep(72 * time.Second) // a minute and 20 %
		b.wantAlerts("within a minute", "InstanceDown web-1 ended, InstanceDown web-2")
	})
}

func TestFiringAlerts(t *testing.T) {
	t.Parallel()
	at := time.Unix(1_900_000_000, 0)
	i := func(id string, s app.State, maintenance bool) app.Instance {
		return app.Instance{ID: id, Service: "web", State: s, ChangedAt: at, Last: app.Result{Code: app.Refused}, Override: app.Override{Maintenance: maintenance}}
	}
	got := webhook.FiringOf([]app.Instance{
		i("starting", app.Starting, false), i("healthy", app.Healthy, false), i("unhealthy", app.Unhealthy, false), i("failed", app.Failed, false),
		i("draining", app.Draining, false), i("maintained", app.Unhealthy, true),
	}, []webhook.Webhook{{ID: "on"}, {ID: "off", Paused: "by hand"}})
	var names []string
	for _, e := range got {
		names = append(names, e.Instance+e.Subject)
	}
	if want := []string{"unhealthy", "failed", "off"}; !slices.Equal(names, want) {
		t.Errorf("got %q, want %q", names, want)
	}
	if e := got[0]; !e.At.Equal(at) || e.Reason != "connection refused" || e.Service != "web" {
		t.Errorf("got %+v", e)
	}
}

// formats delivers events to a webhook of a format and returns the bodies.
func formats(t *testing.T, format webhook.Format, rate int, log ...app.Event) []string {
	t.Helper()
	b := newBubble(t)
	b.add("w", func(w *webhook.Webhook) { w.Format, w.Rate = format, rate })
	for _, e := range log {
		b.tell(e)
	}
	b.work()
	time.Sleep(time.Minute)
	b.sender.Ping(t.Context(), b.hook("w"))
	if err := b.outbox.Replay(t.Context(), "w", webhook.Replay{After: "0-0", Until: "99999999999999-0"}); err != nil {
		t.Fatal(err)
	}
	time.Sleep(time.Minute)
	var bodies []string
	for _, p := range b.got("w") {
		bodies = append(bodies, p.text)
	}
	return bodies
}
