package webhook

import (
	"slices"
	"time"

	"rollcall/app"
)

// Format is the format of a webhook's messages.
type Format string

// The formats.
const (
	EventFormat        Format = "event"        // events as in /v1/events
	SlackFormat        Format = "slack"        // a line of text for a Slack channel
	AlertmanagerFormat Format = "alertmanager" // alerts for Alertmanager's /api/v2/alerts
)

// Limits and defaults of webhooks.
const (
	DefaultRate  = 60
	MaxRate      = 10_000
	MaxWebhooks  = 200 // of a registry
	KeptAttempts = 100 // of a webhook, in its log
)

// A Webhook is the subscription of a receiver to events, with the progress of its deliveries.
type Webhook struct {
	ID          string
	URL         string
	Secret      string // signs the messages; whsec_ and base64
	Format      Format
	Headers     map[string]string // sent with each message, by canonical name; the values are secrets
	Services    []string          // filter; empty: all services
	Kinds       []app.EventKind   // filter; empty: all kinds
	Rate        int               // events of a minute that are sent one by one; a digest contains the others
	Description string
	CreatedAt   time.Time
	Newer       bool // a newer version has written fields that this one does not know

	Paused   string       // why it is paused; empty: it is not
	Cursor   app.Revision // the last event that was delivered or filtered out
	Minute   time.Time    // the beginning of the minute of Told
	Told     int          // events that were sent one by one
	Repeated time.Time    // Alertmanager: when the firing alerts were last repeated
	Failures int          // consecutive failed attempts
	Failing  time.Time    // when the first of them was made
	Replay   Replay       // zero: none
	Due      time.Time    // when the next attempt is due; zero: at the next event
}

// A Replay delivers the events after After, up to Until, once more.
type Replay struct{ After, Until app.Revision }

// Understood reports whether this version knows all fields and the format of the webhook, so that
// it can deliver.
func (w Webhook) Understood() bool {
	switch w.Format {
	case EventFormat, SlackFormat, AlertmanagerFormat:
		return !w.Newer
	}
	return false
}

// Wants reports whether an event passes the filters. No webhook receives events about itself.
func (w Webhook) Wants(e app.Event) bool {
	return e.Subject != w.ID &&
		(len(w.Services) == 0 || slices.Contains(w.Services, e.Service)) &&
		(len(w.Kinds) == 0 || slices.Contains(w.Kinds, e.Kind))
}

// An Attempt is one try to deliver a message.
type Attempt struct {
	Message string // the message's id, the same in each attempt
	Kind    string // the kind of its event, or digest, gap or ping
	Number  int    // 1 is the message's first
	app.Result

	RetryAfter time.Duration // as the receiver asked; zero: it did not
}
