package webhook

import (
	"time"

	"rollcall/app"
)

// alert is an entry of what Alertmanager's POST /api/v2/alerts takes.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Alertmanager takes an alert that is not repeated for over unless it says when it ends.
// None is repeated here: the event that ends it tells, and comes within app.MaxForget.
const (
	alertFor = app.MaxForget
	gapFor   = time.Hour // nothing ends a gap
)

// alerts are those of a message, an empty list for a ping. Of several events about the
// same, the last says how it stands.
func (m message) alerts(w app.Webhook) []alert {
	all := []alert{}
	if m.kind == "gap" {
		return append(all, alert{
			Labels:      map[string]string{"alertname": "RollcallEventsMissed", "webhook": w.ID},
			Annotations: map[string]string{"summary": "events between " + string(m.lost) + " and " + string(m.until) + " were not told"},
			StartsAt:    m.at.UTC(), EndsAt: m.at.Add(gapFor).UTC(),
		})
	}
	place := map[string]int{}
	for _, e := range m.events {
		a, ok := alertOf(e)
		if !ok {
			continue
		}
		about := a.Labels["alertname"] + " " + e.Service + " " + e.Instance + " " + e.Subject
		if n, known := place[about]; known {
			all[n] = a
		} else {
			place[about], all = len(all), append(all, a)
		}
	}
	return all
}

// alertOf makes an alert of an event: one that begins, or that ends. Not every event is
// one.
func alertOf(e app.Event) (a alert, ok bool) {
	m, ok := meanings[e.Kind]
	a = alert{
		Labels:      map[string]string{"alertname": m.alert, "service": e.Service, "instance": e.Instance},
		Annotations: map[string]string{"summary": e.Instance + " of " + e.Service + " is " + string(e.Kind) + ": " + e.Reason},
		StartsAt:    e.At.UTC(), EndsAt: e.At.UTC(),
	}
	if m.of != "" {
		a.Labels = map[string]string{"alertname": m.alert, m.of: e.Subject}
		a.Annotations = map[string]string{"summary": m.of + " " + e.Subject + ": " + e.Reason}
	}
	if m.begins {
		a.EndsAt = a.StartsAt.Add(alertFor)
	}
	return a, ok
}

// meanings are what events mean to alerts.
var meanings = map[app.EventKind]struct {
	alert  string
	begins bool   // or else ends
	of     string // the label of what it is about, when that is not an instance
}{
	app.EventRegistered: {alert: "RollcallInstanceDown"},
	app.EventHealthy:    {alert: "RollcallInstanceDown"},
	app.EventUnhealthy:  {alert: "RollcallInstanceDown", begins: true},
	app.EventFailed:     {alert: "RollcallInstanceDown", begins: true},
	app.EventDraining:   {alert: "RollcallInstanceDown"},
	app.EventGone:       {alert: "RollcallInstanceDown"},
	app.EventPaused:     {alert: "RollcallWebhookPaused", begins: true, of: "webhook"},
	app.EventResumed:    {alert: "RollcallWebhookPaused", of: "webhook"},
	app.EventBenched:    {alert: "RollcallWorkerBenched", begins: true, of: "worker"},
	app.EventBack:       {alert: "RollcallWorkerBenched", of: "worker"},
	app.EventNamesFail:  {alert: "RollcallNameServerFailed", begins: true, of: "worker"},
	app.EventNamesBack:  {alert: "RollcallNameServerFailed", of: "worker"},
}
