package boot

import (
	"context"
	"time"

	"rollcall/app"
	"rollcall/app/webhook"
)

func (p *Process) sender() *webhook.Sender { return webhook.NewSender(p.config.mayTell, time.Now) }

// webhooks returns the verbs that change webhooks.
func (p *Process) webhooks() *webhook.Webhooks {
	return webhook.NewWebhooks(p.store.Webhooks(), p.sender(), p.store.Now, p.webhookChanged)
}

func (p *Process) courier() *webhook.Courier {
	return webhook.NewCourier(p.store.Webhooks(), p.sender(), p.firing, p.store.Now, p.delivered, p.log)
}

// firing lists the alerts that fire now.
func (p *Process) firing(ctx context.Context) ([]app.Event, error) {
	instances, err := p.store.All(ctx)
	if err != nil {
		return nil, err
	}
	webhooks, err := p.store.Webhooks().List(ctx)
	if err != nil {
		return nil, err
	}
	return webhook.FiringOf(instances, webhooks), nil
}

// deliver runs a courier until the context ends.
func (p *Process) deliver(run func(string, func(context.Context) error)) {
	courier := p.courier()
	run("courier", func(ctx context.Context) error { courier.Work(ctx); return nil })
	run("events", func(ctx context.Context) error { p.watchEvents(ctx, courier.Poke); return nil })
}

// watchEvents calls wake after every event, until the context ends.
func (p *Process) watchEvents(ctx context.Context, wake func()) {
	var seen app.Revision
	for p.replica.Wait(ctx, func() bool { return p.replica.Revision() != seen }) == nil {
		seen = p.replica.Revision()
		wake()
	}
}

// delivered counts an attempt to deliver.
func (p *Process) delivered(ctx context.Context, d webhook.Delivery) {
	if d.Attempt != nil {
		p.metrics.deliveries.WithLabelValues(map[bool]string{true: "delivered", false: "failed"}[d.Attempt.Passed]).Inc()
	}
	if d.Event != nil {
		p.webhookChanged(ctx, *d.Event)
	}
}

func (p *Process) webhookChanged(ctx context.Context, e app.Event) {
	p.log.InfoContext(ctx, "webhook changed", "event", e.Kind, "webhook", e.Subject, "reason", e.Reason, "actor", e.Actor)
}
