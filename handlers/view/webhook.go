package view

import (
	"maps"
	"slices"
	"time"

	"rollcall/app"
	"rollcall/app/webhook"
)

// Webhook is a webhook in an answer.
type Webhook struct {
	ID          string          `json:"id"`
	URL         string          `json:"url"`
	Secret      string          `json:"secret,omitempty"` // only in the answer to its creation
	Format      webhook.Format  `json:"format"`
	Headers     []string        `json:"headers,omitempty"` // names; the values are never shown
	Services    []string        `json:"services,omitempty"`
	Kinds       []app.EventKind `json:"kinds,omitempty"`
	Rate        int             `json:"rate"`
	Description string          `json:"description,omitempty"`
	CreatedAt   *time.Time      `json:"created_at"`
	State       string          `json:"state"`
	Reason      string          `json:"reason,omitempty"` // of the pause
	Cursor      app.Revision    `json:"cursor"`           // last event that is delivered or needs no delivery
	Failures    int             `json:"failures"`         // consecutive
	Failing     *time.Time      `json:"failing_since,omitempty"`
	Next        *time.Time      `json:"next_attempt,omitempty"` // absent if none is due
	Replay      *Replay         `json:"replay,omitempty"`       // while one is running
}

// Replay is the range of a replay.
type Replay struct {
	After app.Revision `json:"after"`
	Until app.Revision `json:"until"`
}

// Attempt is one attempt to deliver a message.
type Attempt struct {
	Message string `json:"message"` // its webhook-id
	Kind    string `json:"kind"`
	Number  int    `json:"number"`
	Result
}

// WebhookOf returns a webhook without its secrets.
func WebhookOf(w webhook.Webhook) Webhook {
	v := Webhook{
		ID: w.ID, URL: w.URL, Format: w.Format, Headers: slices.Sorted(maps.Keys(w.Headers)), Services: w.Services, Kinds: w.Kinds, Rate: w.Rate, Description: w.Description,
		CreatedAt: Instant(w.CreatedAt), State: "active", Cursor: w.Cursor, Failures: w.Failures, Failing: Instant(w.Failing),
		Next: Instant(w.Due),
	}
	if w.Paused != "" {
		v.State, v.Reason, v.Next = "paused", w.Paused, nil
	}
	if w.Replay != (webhook.Replay{}) {
		v.Replay = &Replay{After: w.Replay.After, Until: w.Replay.Until}
	}
	return v
}

// AttemptOf returns an attempt.
func AttemptOf(a webhook.Attempt) Attempt {
	return Attempt{Message: a.Message, Kind: a.Kind, Number: a.Number, Result: ResultOf(a.Result)}
}
