package boot

import (
	"context"
	"net/netip"
	"time"

	"rollcall/app"
	"rollcall/app/webhook"
)

// sender calls receivers. Loopback is only theirs where it is the callers', too.
func (p *Process) sender() *webhook.Sender {
	allow := func(a netip.Addr) bool { return p.config.Bind.IsLoopback() || !a.IsLoopback() }
	return webhook.NewSender(allow, time.Now)
}

// webhooks is the verbs that people change webhooks with.
func (p *Process) webhooks() *app.Webhooks {
	return app.NewWebhooks(p.store.Webhooks(), p.sender(), p.store.Now, p.webhookChanged)
}

// deliver has a courier deliver what happens, until the context is over.
func (p *Process) deliver(run func(string, func(context.Context) error)) {
	courier := webhook.NewCourier(p.store.Webhooks(), p.sender(), p.store.Now, p.delivered, p.log)
	run("courier", func(ctx context.Context) error { courier.Work(ctx); return nil })
	run("events", func(ctx context.Context) error { p.store.Happens(ctx, courier.Poke); return nil })
}

// delivered hears of every attempt to deliver.
func (p *Process) delivered(ctx context.Context, d app.Delivery) {
	if d.Event != nil {
		p.webhookChanged(ctx, *d.Event)
	}
}

func (p *Process) webhookChanged(ctx context.Context, e app.Event) {
	p.log.InfoContext(ctx, "webhook changed", "event", e.Kind, "webhook", e.Subject, "reason", e.Reason)
}
