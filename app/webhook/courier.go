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
	inFlight    = 200             // attempts at once
	lookEvery   = 5 * time.Second // for what is due, should a poke be lost
	retryAfter  = time.Second     // when the store could not be read
	settleEvery = time.Second / 5 // attempts to write down what became of an attempt
)

// Courier delivers: it claims webhooks that are due, and each is told the next thing in a
// goroutine of its own. Any number of couriers may share an outbox.
type Courier struct {
	outbox  app.Outbox
	sender  *Sender
	firing  Firing
	now     func() time.Time
	settled func(context.Context, app.Delivery)
	log     *slog.Logger

	wake chan struct{}
}

// NewCourier returns a courier; it does nothing before Work or Once. firing lists what Alertmanagers have to know,
// now is the outbox's time, and settled is called with the outcome of every attempt.
func NewCourier(outbox app.Outbox, sender *Sender, firing Firing, now func() time.Time, settled func(context.Context, app.Delivery), log *slog.Logger) *Courier {
	return &Courier{outbox: outbox, sender: sender, firing: firing, now: now, settled: settled, log: log, wake: make(chan struct{}, 1)}
}

// Poke has the courier look for webhooks that are due at once.
func (c *Courier) Poke() {
	select {
	case c.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Work delivers until the context is over; then it ends the attempts under way and
// returns.
func (c *Courier) Work(ctx context.Context) {
	var flights sync.WaitGroup
	defer flights.Wait()
	room := make(chan struct{}, inFlight)
	failing := false
	for {
		claims, next, err := c.outbox.Claim(ctx, inFlight-len(room))
		if ctx.Err() != nil && err != nil {
			return
		}
		if err != nil && !failing {
			c.log.ErrorContext(ctx, "no webhooks can be claimed", "err", err)
		}
		failing = err != nil
		for _, claim := range claims {
			room <- struct{}{} // there is: only this loop takes it
			flights.Go(func() {
				c.deliver(context.WithoutCancel(ctx), claim)
				<-room
				c.Poke()
			})
		}
		idle := lookEvery
		if !next.IsZero() {
			idle = min(max(next.Sub(c.now()), time.Millisecond), lookEvery)
		}
		select {
		case <-c.wake:
		case <-time.After(idle):
		case <-ctx.Done():
			return
		}
	}
}

// Once delivers what is due now, and all that follows from it at once.
func (c *Courier) Once(ctx context.Context) error {
	for ctx.Err() == nil {
		claims, _, err := c.outbox.Claim(ctx, inFlight)
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

// deliver tells a webhook the next thing, if there is one.
func (c *Courier) deliver(ctx context.Context, claim app.DeliveryClaim) {
	was := claim.Webhook
	s, err := plan(ctx, c.outbox, c.firing, was, c.now())
	switch {
	case err != nil:
		c.log.WarnContext(ctx, "the events for a webhook cannot be read", "webhook", was.ID, "err", err)
		was.Due = c.now().Add(retryAfter)
		c.settle(ctx, claim, app.Delivery{Webhook: was})
		return
	case s.message == nil:
		s.then.Due = s.due
		c.settle(ctx, claim, app.Delivery{Webhook: s.then})
		return
	}
	d := judge(was, s.then, c.sender.send(ctx, was, *s.message, was.Failures+1), c.now())
	if c.settle(ctx, claim, d) {
		c.settled(ctx, d)
		c.report(ctx, was, d)
	}
}

// settle writes down how a claim ended, and says whether it could. It tries as long as the
// claim is good: what is not written down is sent again.
func (c *Courier) settle(ctx context.Context, claim app.DeliveryClaim, d app.Delivery) bool {
	for end := time.Now().Add(app.DeliveryLease - attemptTimeout); ; {
		err := c.outbox.Complete(ctx, claim, d)
		switch {
		case err == nil:
			return true
		case errors.Is(err, app.ErrClaimLost): // it was removed, or another has it by now
			return false
		case !errors.Is(err, app.ErrUnavailable), time.Now().After(end):
			c.log.WarnContext(ctx, "a delivery could not be written down and is made again", "webhook", claim.Webhook.ID, "err", err)
			return false
		}
		time.Sleep(settleEvery)
	}
}

// report logs when a receiver begins to fail, and when that ends.
func (c *Courier) report(ctx context.Context, was app.Webhook, d app.Delivery) {
	switch is := d.Webhook; {
	case is.Failures == 1:
		c.log.WarnContext(ctx, "a webhook's receiver fails", "webhook", is.ID, "message", d.Attempt.Message, "reason", d.Attempt.Reason())
	case was.Failures > 0 && is.Failures == 0:
		c.log.InfoContext(ctx, "a webhook's receiver works again", "webhook", is.ID, "failures", was.Failures)
	}
}
