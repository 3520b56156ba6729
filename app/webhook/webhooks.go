package webhook

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"
	"time"

	"rollcall/app"
)

// A Store keeps webhooks and the progress of their deliveries. Its methods return
// ErrNotFound for an unknown id.
type Store interface {
	// Add adds a webhook, due at its Due, which receives the events from now on. It returns a
	// FieldError if the registry has MaxWebhooks.
	Add(ctx context.Context, w Webhook) error
	Get(ctx context.Context, id string) (Webhook, error)
	// List returns all webhooks, oldest first.
	List(ctx context.Context) ([]Webhook, error)
	Remove(ctx context.Context, id string) error
	// Pause pauses a webhook for a reason, or resumes it if the reason is empty, and adds an event.
	// changed is false, and no event is added, if the webhook was so already. A resumed webhook has
	// no failures.
	Pause(ctx context.Context, id, reason string, e app.Event) (changed bool, err error)
	// Replay starts a replay. It returns ErrConflict during another one.
	Replay(ctx context.Context, id string, r Replay) error
	// Attempts returns the last attempts, newest first.
	Attempts(ctx context.Context, id string) ([]Attempt, error)
	EventLog
}

// An EventLog has the recent events.
type EventLog interface {
	// Events returns up to limit events after a revision, oldest first, or a *TrimmedError if some
	// of them are no longer stored.
	Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error)
}

// An Outbox distributes the webhooks to the workers that deliver. One worker at a time has a
// webhook, so that its events arrive in order.
type Outbox interface {
	EventLog
	// Claim claims up to limit webhooks that are due, or that have undelivered events. next is when
	// the next webhook is due; zero: none is until another event. A claim that is not completed
	// within DeliveryLease ends, and the webhook is due again.
	Claim(ctx context.Context, limit int) (claims []DeliveryClaim, next time.Time, err error)
	// Complete ends a claim, or returns ErrClaimLost.
	Complete(ctx context.Context, c DeliveryClaim, d Delivery) error
}

// DeliveryLease is how long a claim of a webhook is valid: longer than an attempt can take.
const DeliveryLease = 15 * time.Second

// A DeliveryClaim is a worker's right to make an attempt.
type DeliveryClaim struct {
	Webhook Webhook
	Token   string // another one with each claim
}

// A Delivery is the outcome of a claim: the webhook with its new progress and Due, and the attempt
// and event that led to it.
type Delivery struct {
	Webhook Webhook
	Attempt *Attempt   // nil if there was no message to send
	Event   *app.Event // nil if the outcome has no event
}

// A Pinger sends messages without an event.
type Pinger interface {
	Ping(ctx context.Context, w Webhook) Attempt
}

// Webhooks has the verbs that change webhooks. The zero value is not usable.
type Webhooks struct {
	store    Store
	sender   Pinger
	now      func() time.Time
	onCommit func(context.Context, app.Event)
}

// NewWebhooks returns the verbs on a store; now and onCommit are as for registry.New.
func NewWebhooks(store Store, sender Pinger, now func() time.Time, onCommit func(context.Context, app.Event)) *Webhooks {
	return &Webhooks{store: store, sender: sender, now: now, onCommit: onCommit}
}

// Create adds a webhook if its receiver answers a ping. Otherwise the FieldError is also
// ErrUndelivered.
func (v *Webhooks) Create(ctx context.Context, w Webhook) (Webhook, error) {
	w.ID, w.CreatedAt = "wh-"+strings.ToLower(rand.Text()[:16]), v.now()
	if w.Secret == "" {
		w.Secret = newSecret()
	}
	if err := validate(w); err != nil {
		return Webhook{}, err
	}
	if ping := v.sender.Ping(ctx, w); !ping.Passed {
		return Webhook{}, fmt.Errorf("%w: %w", app.ErrUndelivered,
			app.Invalid("url", "does not take a ping: "+ping.Reason(), "give the URL of a receiver that answers with 2xx within 10s"))
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
func (v *Webhooks) Get(ctx context.Context, id string) (Webhook, error) {
	return v.store.Get(ctx, id)
}

// List returns all webhooks, oldest first.
func (v *Webhooks) List(ctx context.Context) ([]Webhook, error) { return v.store.List(ctx) }

// Delete removes a webhook, or returns ErrNotFound.
func (v *Webhooks) Delete(ctx context.Context, id string) error { return v.store.Remove(ctx, id) }

// Attempts returns the last attempts of a webhook, newest first, or ErrNotFound.
func (v *Webhooks) Attempts(ctx context.Context, id string) ([]Attempt, error) {
	return v.store.Attempts(ctx, id)
}

// Ping sends a message without an event to a webhook's receiver, and returns the outcome.
func (v *Webhooks) Ping(ctx context.Context, id string) (Attempt, error) {
	w, err := v.Get(ctx, id)
	if err != nil {
		return Attempt{}, err
	}
	return v.sender.Ping(ctx, w), nil
}

// Pause stops the deliveries of a webhook until Resume. Then they continue with the next
// undelivered event.
func (v *Webhooks) Pause(ctx context.Context, id string) (Webhook, error) {
	return v.pause(ctx, id, "paused by hand", app.Event{Kind: app.EventPaused, Reason: "paused by hand"})
}

// Resume ends a pause.
func (v *Webhooks) Resume(ctx context.Context, id string) (Webhook, error) {
	return v.pause(ctx, id, "", app.Event{Kind: app.EventResumed, Reason: "resumed by hand"})
}

func (v *Webhooks) pause(ctx context.Context, id, reason string, e app.Event) (Webhook, error) {
	e.Subject, e.At, e.Actor = id, v.now(), app.CallerOf(ctx).Actor()
	changed, err := v.store.Pause(ctx, id, reason, e)
	if err != nil {
		return Webhook{}, err
	}
	if changed {
		v.onCommit(ctx, e)
	}
	return v.Get(ctx, id)
}

// Replay delivers the events of r that pass the webhook's filters once more. It returns ErrNotFound
// if there are none, a *TrimmedError if some of them are no longer stored, and ErrConflict during
// another replay.
func (v *Webhooks) Replay(ctx context.Context, id string, r Replay) (Webhook, error) {
	first, err := v.store.Events(ctx, r.After, 1)
	if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok && trimmed.Lost != "" {
		first, err = nil, nil // no event followed it
	}
	if err != nil {
		return Webhook{}, err
	}
	if len(first) == 0 || first[0].Revision.Compare(r.Until) > 0 {
		return Webhook{}, fmt.Errorf("events to replay: %w", app.ErrNotFound)
	}
	if err := v.store.Replay(ctx, id, r); err != nil {
		return Webhook{}, err
	}
	return v.Get(ctx, id)
}
