package webhook

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"time"

	"rollcall/app"
)

const (
	maxAttempts   = 200             // concurrent attempts
	pollEvery     = 5 * time.Second // for due webhooks, in case a Poke was lost
	retryAfter    = time.Second     // after the store could not be read
	completeEvery = time.Second / 5 // between tries to record an attempt
)

// Courier claims webhooks that are due and sends each its next message, each in a goroutine. Several
// couriers may share an outbox.
type Courier struct {
	outbox    Outbox
	sender    *Sender
	firing    Firing
	now       func() time.Time
	onAttempt func(context.Context, Delivery)
	log       *slog.Logger

	wake chan struct{}
}

// NewCourier returns a courier. Call Work or Once to deliver. firing lists the alerts of Alertmanagers,
// now returns the outbox's time, and onAttempt is called with every recorded attempt.
func NewCourier(outbox Outbox, sender *Sender, firing Firing, now func() time.Time, onAttempt func(context.Context, Delivery), log *slog.Logger) *Courier {
	return &Courier{outbox: outbox, sender: sender, firing: firing, now: now, onAttempt: onAttempt, log: log, wake: make(chan struct{}, 1)}
}

// Poke makes the courier look for due webhooks at once.
func (c *Courier) Poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Work delivers until ctx ends. It then finishes the attempts in progress and returns.
func (c *Courier) Work(ctx context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	places := make(chan struct{}, maxAttempts)
	failing := false
	for {
		claims, next, err := c.outbox.Claim(ctx, maxAttempts-len(places))
		if err != nil && !failing && ctx.Err() == nil {
			c.log.ErrorContext(ctx, "claiming webhooks fails", "err", err)
		}
		failing = err != nil
		for _, claim := range claims {
			places <- struct{}{} // never blocks: only this loop adds to places
			flights.Go(func() {
				c.deliver(context.WithoutCancel(ctx), claim)
				<-places
				c.Poke()
			})
		}
		select {
		case <-c.wake:
		case <-time.After(c.until(next)):
		case <-ctx.Done():
			return
		}
	}
}

// until returns how long no delivery is due. next is when the next one is; zero: none.
func (c *Courier) until(next time.Time) time.Duration {
	if next.IsZero() {
		return pollEvery
	}
	return min(max(next.Sub(c.now()), time.Millisecond), pollEvery)
}

// Once delivers until no webhook is due.
func (c *Courier) Once(ctx context.Context) error {
	for ctx.Err() == nil {
		claims, _, err := c.outbox.Claim(ctx, maxAttempts)
		if err != nil || len(claims) == 0 {
			return err
		}
		var flights sync.WaitGroup
		for _, claim := range claims {
			flights.Go(func() { c.deliver(context.WithoutCancel(ctx), claim) })
		}
		flights.Wait()
	}
	return ctx.Err()
}

// deliver sends a webhook its next message, if there is one.
func (c *Courier) deliver(ctx context.Context, claim DeliveryClaim) {
	was := claim.Webhook
	s, err := plan(ctx, c.outbox, c.firing, was, c.now())
	switch {
	case err != nil:
		c.log.WarnContext(ctx, "reading the events of a webhook fails", "webhook", was.ID, "err", err)
		was.Due = c.now().Add(retryAfter)
		c.complete(ctx, claim, Delivery{Webhook: was})
		return
	case s.message == nil:
		s.then.Due = s.due
		c.complete(ctx, claim, Delivery{Webhook: s.then})
		return
	}
	d := deliveryAfter(was, s.then, c.sender.send(ctx, was, *s.message, was.Failures+1), c.now())
	if c.complete(ctx, claim, d) {
		c.onAttempt(ctx, d)
		c.report(ctx, was, d)
	}
}

// complete records the end of a claim and reports whether it could. It retries while the claim is
// valid, because an unrecorded message is sent again.
func (c *Courier) complete(ctx context.Context, claim DeliveryClaim, d Delivery) bool {
	for end := time.Now().Add(DeliveryLease - attemptTimeout); ; {
		err := c.outbox.Complete(ctx, claim, d)
		switch {
		case err == nil:
			return true
		case errors.Is(err, app.ErrClaimLost): // it was removed, or another has it by now
			return false
		case !errors.Is(err, app.ErrUnavailable), time.Now().After(end):
			c.log.WarnContext(ctx, "recording a delivery fails, the message is sent again", "webhook", claim.Webhook.ID, "err", err)
			return false
		}
		time.Sleep(completeEvery)
	}
}

// report logs when a receiver begins to fail, and when it recovers.
func (c *Courier) report(ctx context.Context, was Webhook, d Delivery) {
	switch is := d.Webhook; {
	case is.Failures == 1:
		c.log.WarnContext(ctx, "a webhook's receiver fails", "webhook", is.ID, "message", d.Attempt.Message, "reason", d.Attempt.Reason())
	case was.Failures > 0 && is.Failures == 0:
		c.log.InfoContext(ctx, "a webhook's receiver works again", "webhook", is.ID, "failures", was.Failures)
	}
}
