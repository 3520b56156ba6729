package webhook

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"rollcall/app"
)

// alert is an entry of the body of Alertmanager's POST /api/v2/alerts.
type alert struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// An alert is a state. Rollcall repeats it every alertsEvery while it lasts, for an Alertmanager that
// was restarted without its data or added later. Without repetition it ends after alertFor.
// Prometheus also waits for four repetitions.
const (
	alertsEvery = time.Minute
	alertFor    = 5 * time.Minute
	untilOver   = time.Hour // no event ends a gap or a dispute
)

// nextAlerts plans the next message to an Alertmanager: all changes since the cursor at once, or all
// firing alerts if alertsEvery has passed since they were last sent.
func nextAlerts(ctx context.Context, log EventLog, firing Firing, w Webhook, now time.Time) (step, error) {
	s := step{then: w}
	events, err := log.Events(ctx, w.Cursor, batch)
	if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
		s.message, s.then.Cursor = gap(w.Cursor, trimmed.First, false), trimmed.First.Before()
		s.then.Repeated = time.Time{} // the firing alerts replace the lost events
		return s, nil
	}
	if err != nil {
		return step{}, err
	}
	if len(events) > 0 {
		s.then.Cursor = events[len(events)-1].Revision
	}
	if wanted := wantedOf(w, events); len(wanted) > 0 {
		s.message = digest(wanted)
		return s, nil
	}
	if s.due = w.Repeated.Add(alertsEvery); now.Before(s.due) {
		return s, nil
	}
	return s.repeatAlerts(ctx, firing, now)
}

// repeatAlerts makes a message of all firing alerts.
func (s step) repeatAlerts(ctx context.Context, firing Firing, now time.Time) (step, error) {
	all, err := firing(ctx)
	if err != nil {
		return step{}, err
	}
	s.then.Repeated, s.due = now, now.Add(alertsEvery)
	if wanted := wantedOf(s.then, all); len(wanted) > 0 {
		s.message = &message{id: fmt.Sprintf("firing_%d", now.UnixMilli()), kind: "firing", at: now, events: wanted}
	}
	return s, nil
}

// wantedOf returns the events that a webhook subscribes to.
func wantedOf(w Webhook, events []app.Event) []app.Event {
	return slices.DeleteFunc(slices.Clone(events), func(e app.Event) bool { return !wants(w, e) })
}

// Firing returns an event for each alert that is firing, as if it had just begun.
type Firing func(context.Context) ([]app.Event, error)

// FiringOf returns the events of Firing about instances and webhooks.
func FiringOf(instances []app.Instance, webhooks []Webhook) []app.Event {
	var all []app.Event
	for _, i := range instances {
		e := app.Event{
			Kind: app.EventKind(i.State), At: i.ChangedAt, Service: i.Service, Instance: i.ID, To: i.State,
			Reason: i.Last.Reason(), Maintenance: i.Override.Maintenance,
		}
		if a, ok := alertOf(e); ok && a.begins {
			all = append(all, e)
		}
	}
	for _, w := range webhooks {
		if w.Paused != "" {
			all = append(all, app.Event{Kind: app.EventPaused, At: w.Failing, Subject: w.ID, Reason: w.Paused})
		}
	}
	return all
}

// alerts returns the alerts of a message that is sent at a time. A ping has none. Of several events
// about the same subject, the last one counts.
func (m message) alerts(w Webhook, sent time.Time) []alert {
	all := []alert{}
	if m.kind == "gap" {
		return append(all, alert{
			Labels:      map[string]string{"alertname": "RollcallEventsMissed", "webhook": w.ID},
			Annotations: map[string]string{"summary": "events between " + string(m.lost) + " and " + string(m.until) + " were not delivered"},
			StartsAt:    m.at.UTC(), EndsAt: m.at.Add(untilOver).UTC(),
		})
	}
	place := map[string]int{}
	for _, e := range m.events {
		change, ok := alertOf(e)
		if !ok {
			continue
		}
		a := change.alert(e)
		if change.begins && !m.replayed { // an old alert does not fire again
			a.EndsAt = sent.Add(change.lasts()).UTC()
		}
		about := change.name + " " + e.Service + " " + e.Instance + " " + e.Subject
		if n, known := place[about]; known {
			all[n] = a
		} else {
			place[about], all = len(all), append(all, a)
		}
	}
	return all
}

// alertChange is the alert that an event begins or ends.
type alertChange struct {
	name   string // of the alert
	of     string // label of the event's subject; "": the subject is an instance
	begins bool   // else the event ends the alert
	noEnd  bool   // no event ends the alert
}

// alertOf returns the alert that an event begins or ends; ok is false if it does neither. Every event
// of an instance in maintenance ends its alert.
func alertOf(e app.Event) (c alertChange, ok bool) {
	if c, ok = subjectAlerts[e.Kind]; ok {
		return c, true
	}
	c.name = "RollcallInstanceDown"
	switch e.Kind {
	case app.EventUnhealthy, app.EventFailed:
		c.begins = true
	case app.EventUpdated: // maintenance may have begun or ended
		if e.To != app.Unhealthy && e.To != app.Failed {
			return c, false
		}
		c.begins = true
	case app.EventRegistered, app.EventHealthy, app.EventDraining, app.EventGone:
	default:
		return c, false
	}
	c.begins = c.begins && !e.Maintenance
	return c, e.Instance != ""
}

// subjectAlerts maps events without an instance to their alerts.
var subjectAlerts = map[app.EventKind]alertChange{
	app.EventPaused:  {name: "RollcallWebhookPaused", of: "webhook", begins: true},
	app.EventResumed: {name: "RollcallWebhookPaused", of: "webhook"},
	app.EventBenched: {name: "RollcallWorkerBenched", of: "worker", begins: true},
	app.EventBack:    {name: "RollcallWorkerBenched", of: "worker"},

	app.EventDisputed: {name: "RollcallWorkerDisputed", of: "worker", begins: true, noEnd: true},

	app.EventNamesFail: {name: "RollcallNameServerFailed", of: "worker", begins: true},
	app.EventNamesBack: {name: "RollcallNameServerFailed", of: "worker"},
}

// lasts returns how long the alert fires without repetition. Only an event ends the alert of a worker,
// because no process knows the state of the other workers. No event ends a dispute: its shard moves to another worker
// after half a minute, and a dispute that begins later has an event of its own.
func (c alertChange) lasts() time.Duration {
	switch {
	case c.noEnd:
		return untilOver
	case c.of == "worker":
		return app.MaxForget
	}
	return alertFor
}

// alert returns the alert of an event, with its end at the event.
func (c alertChange) alert(e app.Event) alert {
	a := alert{
		Labels:      map[string]string{"alertname": c.name, "service": e.Service, "instance": e.Instance},
		Annotations: map[string]string{"summary": e.Instance + " of " + e.Service + " is " + string(e.Kind) + ": " + e.Reason},
		StartsAt:    e.At.UTC(), EndsAt: e.At.UTC(),
	}
	if c.of != "" {
		a.Labels = map[string]string{"alertname": c.name, c.of: e.Subject}
		a.Annotations = map[string]string{"summary": c.of + " " + e.Subject + ": " + e.Reason}
	}
	return a
}
