package app

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"
)

// A WebhookStore keeps webhooks, and how far each is. What it does not know is
// ErrNotFound.
type WebhookStore interface {
	// Add adds a webhook, due at its Due, which is told of what happens from now on. It
	// returns a FieldError when there are MaxWebhooks.
	Add(ctx context.Context, w Webhook) error
	Get(ctx context.Context, id string) (Webhook, error)
	// List returns all, oldest first.
	List(ctx context.Context) ([]Webhook, error)
	Remove(ctx context.Context, id string) error
	// Pause pauses a webhook for a reason, or resumes it when that is empty, and adds an
	// event; neither when it is so already, which changed says. One that is resumed has
	// no failures.
	Pause(ctx context.Context, id, reason string, e Event) (changed bool, err error)
	// Replay has events told once more. It returns ErrConflict while others are.
	Replay(ctx context.Context, id string, r Replay) error
	// Attempts returns the last attempts, newest first.
	Attempts(ctx context.Context, id string) ([]Attempt, error)
	EventLog
}

// An EventLog has the events of the last while.
type EventLog interface {
	// Events returns up to limit events after a revision, oldest first, or a
	// *TrimmedError when some of them are no longer kept.
	Events(ctx context.Context, after Revision, limit int) ([]Event, error)
}

// An Outbox shares the webhooks out to those who deliver. One worker at a time has a
// webhook, so that what it is told comes in order.
type Outbox interface {
	EventLog
	// Claim takes up to limit webhooks that are due, or idle while there are events that
	// they were not told of yet, and says when the next one is due; zero: not by itself.
	// One that is not settled within DeliveryLease is due again.
	Claim(ctx context.Context, limit int) (claims []DeliveryClaim, next time.Time, err error)
	// Complete ends a claim, or returns ErrClaimLost.
	Complete(ctx context.Context, c DeliveryClaim, d Delivery) error
}

// DeliveryLease is how long a claim of a webhook is good for: longer than an attempt may
// take.
const DeliveryLease = 15 * time.Second

// A DeliveryClaim is one worker's right to make an attempt.
type DeliveryClaim struct {
	Webhook Webhook
	Token   string // changes with every claim
}

// A Delivery is the end of a claim: how far the webhook is now, its Due included, and what
// led to it.
type Delivery struct {
	Webhook Webhook
	Attempt *Attempt // nil when there was nothing to send
	Event   *Event   // nil when nobody is told
}

// A Sender sends messages.
type Sender interface {
	// Ping sends a message that tells nothing.
	Ping(ctx context.Context, w Webhook) Attempt
}

// Webhooks has the verbs that people change webhooks with; the zero value is not usable.
type Webhooks struct {
	store    WebhookStore
	sender   Sender
	now      func() time.Time
	onCommit func(context.Context, Event)
}

// NewWebhooks returns the verbs on a store; now and onCommit are as for NewRegistry.
func NewWebhooks(store WebhookStore, sender Sender, now func() time.Time, onCommit func(context.Context, Event)) *Webhooks {
	return &Webhooks{store: store, sender: sender, now: now, onCommit: onCommit}
}

// Create adds a webhook whose receiver takes a ping. It returns a FieldError, which is
// ErrUndelivered, too, when that is what is wrong.
func (v *Webhooks) Create(ctx context.Context, w Webhook) (Webhook, error) {
	w.ID, w.CreatedAt = "wh-"+strings.ToLower(rand.Text()[:16]), v.now()
	if w.Secret == "" {
		key := make([]byte, secretLength)
		_, _ = rand.Read(key) // it never fails
		w.Secret = secretPrefix + base64.StdEncoding.EncodeToString(key)
	}
	if err := w.validate(); err != nil {
		return Webhook{}, err
	}
	if ping := v.sender.Ping(ctx, w); !ping.Passed {
		return Webhook{}, fmt.Errorf("%w: %w", ErrUndelivered,
			invalid("url", "does not take a ping: "+ping.Reason(), "give the URL of a receiver that answers with 2xx within 10s"))
	}
	if w.Format == AlertmanagerFormat {
		w.Due = w.CreatedAt // send the alerts that are firing already
	}
	if err := v.store.Add(ctx, w); err != nil {
		return Webhook{}, fmt.Errorf("create webhook: %w", err)
	}
	return v.Get(ctx, w.ID)
}

// Get returns a webhook, or ErrNotFound.
func (v *Webhooks) Get(ctx context.Context, id string) (Webhook, error) { return v.store.Get(ctx, id) }

// List returns all webhooks, oldest first.
func (v *Webhooks) List(ctx context.Context) ([]Webhook, error) { return v.store.List(ctx) }

// Delete removes a webhook, or returns ErrNotFound.
func (v *Webhooks) Delete(ctx context.Context, id string) error { return v.store.Remove(ctx, id) }

// Attempts returns the last attempts of a webhook, newest first, or ErrNotFound.
func (v *Webhooks) Attempts(ctx context.Context, id string) ([]Attempt, error) {
	return v.store.Attempts(ctx, id)
}

// Ping sends a webhook's receiver a message that tells nothing, and returns how that went.
func (v *Webhooks) Ping(ctx context.Context, id string) (Attempt, error) {
	w, err := v.Get(ctx, id)
	if err != nil {
		return Attempt{}, err
	}
	return v.sender.Ping(ctx, w), nil
}

// Pause has a webhook told nothing until it is resumed; then it goes on where it was.
func (v *Webhooks) Pause(ctx context.Context, id string) (Webhook, error) {
	return v.pause(ctx, id, "paused by hand", Event{Kind: EventPaused, Reason: "paused by hand"})
}

// Resume ends a pause.
func (v *Webhooks) Resume(ctx context.Context, id string) (Webhook, error) {
	return v.pause(ctx, id, "", Event{Kind: EventResumed, Reason: "resumed by hand"})
}

func (v *Webhooks) pause(ctx context.Context, id, reason string, e Event) (Webhook, error) {
	e.Subject, e.At, e.Actor = id, v.now(), CallerOf(ctx).Actor()
	changed, err := v.store.Pause(ctx, id, reason, e)
	if err != nil {
		return Webhook{}, err
	}
	if changed {
		v.onCommit(ctx, e)
	}
	return v.Get(ctx, id)
}

// Replay has a webhook told once more of the events of r, as far as they pass its filters.
// It returns ErrNotFound when there are none, a *TrimmedError when some of them are no
// longer kept, and ErrConflict while it is at another replay.
func (v *Webhooks) Replay(ctx context.Context, id string, r Replay) (Webhook, error) {
	first, err := v.store.Events(ctx, r.After, 1)
	if trimmed, ok := errors.AsType[*TrimmedError](err); ok && trimmed.Lost != "" {
		first, err = nil, nil // no event followed it
	}
	if err != nil {
		return Webhook{}, err
	}
	if len(first) == 0 || first[0].Revision.Compare(r.Until) > 0 {
		return Webhook{}, fmt.Errorf("events to replay: %w", ErrNotFound)
	}
	if err := v.store.Replay(ctx, id, r); err != nil {
		return Webhook{}, err
	}
	return v.Get(ctx, id)
}
