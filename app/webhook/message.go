package webhook

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/app"
)

// message is one message to a receiver.
type message struct {
	id       string
	kind     string // the event's, or digest, firing, gap or ping
	at       time.Time
	events   []app.Event  // one, or several of a digest or of firing alerts, else none
	lost     app.Revision // of a gap: after this event
	until    app.Revision // and before this one
	replayed bool
}

func single(e app.Event, replayed bool) *message {
	return &message{id: "msg_" + string(e.Revision), kind: string(e.Kind), at: e.At, events: []app.Event{e}, replayed: replayed}
}

// digest returns a message about several events, or the usual message about one.
func digest(events []app.Event) *message {
	if len(events) == 1 {
		return single(events[0], false)
	}
	first, last := events[0], events[len(events)-1]
	return &message{id: fmt.Sprintf("digest_%s_%s", first.Revision, last.Revision), kind: "digest", at: last.At, events: events}
}

// gap returns a message about events between two revisions that are no longer stored.
func gap(after, before app.Revision, replayed bool) *message {
	return &message{id: fmt.Sprintf("gap_%s_%s", after, before), kind: "gap", at: before.Time(), lost: after, until: before, replayed: replayed}
}

// render encodes the message in the webhook's format, to be sent at a time.
func (m message) render(w Webhook, sent time.Time) ([]byte, error) {
	var payload any
	switch w.Format {
	case SlackFormat:
		payload = map[string]string{"text": m.text(w)}
	case AlertmanagerFormat:
		payload = m.alerts(w, sent)
	case EventFormat:
		payload = m.payload(w)
	default:
		return nil, fmt.Errorf("unknown format %q", w.Format)
	}
	return json.Marshal(payload)
}

// payload returns a message in the form that Standard Webhooks recommends.
func (m message) payload(w Webhook) any {
	p := struct {
		Type      string    `json:"type"`
		Timestamp time.Time `json:"timestamp"`
		Replayed  bool      `json:"replayed,omitempty"`
		Data      any       `json:"data"`
	}{Type: m.kind, Timestamp: m.at.UTC(), Replayed: m.replayed}
	switch {
	case m.kind == "digest":
		p.Data = map[string]any{
			"events": len(m.events), "first": m.first(), "last": m.last(), "counts": m.counts(), "replay": m.replay(w),
		}
	case m.kind == "gap":
		p.Data = map[string]any{"after": m.lost, "before": m.until}
	case len(m.events) == 1:
		p.Data = m.events[0]
	default:
		p.Data = map[string]any{"webhook": w.ID}
	}
	return p
}

func (m message) first() app.Revision { return m.events[0].Revision }
func (m message) last() app.Revision  { return m.events[len(m.events)-1].Revision }

// replay returns the call that sends the events of a digest one by one.
func (m message) replay(w Webhook) string {
	return fmt.Sprintf("POST /v1/webhooks/%s/replay?since=%s&until=%s", w.ID, m.first(), m.last())
}

// count is the number of a digest's events of one kind and service.
type count struct {
	Service string        `json:"service,omitempty"`
	Kind    app.EventKind `json:"kind"`
	Events  int           `json:"events"`
}

func (m message) counts() []count {
	found := map[count]int{}
	for _, e := range m.events {
		found[count{Service: e.Service, Kind: e.Kind}]++
	}
	var counts []count
	for c, n := range found {
		c.Events = n
		counts = append(counts, c)
	}
	slices.SortFunc(counts, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.Events, a.Events), strings.Compare(a.Service, b.Service), strings.Compare(string(a.Kind), string(b.Kind)))
	})
	return counts
}
