package page

import (
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/webhook"
)

// WebhookList answers with the webhooks and a form that creates one.
func (p *Page) WebhookList(c echo.Context) error { return p.serve(c, p.webhooks) }

// Webhook answers with one webhook and its last deliveries.
func (p *Page) Webhook(c echo.Context) error { return p.serve(c, p.webhook) }

// TokenList answers with the tokens and a form that creates one.
func (p *Page) TokenList(c echo.Context) error { return p.serve(c, p.tokens) }

// webhookRow is a webhook without its secrets.
type webhookRow struct {
	ID, URL, Format, Description, Paused string
	Services                             []string
	Kinds                                []app.EventKind
	Failures                             int
	Failing, Next                        moment
}

func (p *Page) webhookRow(w webhook.Webhook) webhookRow {
	return webhookRow{
		ID: w.ID, URL: w.URL, Format: string(w.Format), Description: w.Description, Paused: w.Paused, Services: w.Services, Kinds: w.Kinds,
		Failures: w.Failures, Failing: p.moment(w.Failing), Next: p.moment(w.Due),
	}
}

func (p *Page) webhooks(c echo.Context, _ []app.Instance) (view, error) {
	v := struct {
		Rows   []webhookRow
		Kinds  []app.EventKind
		Unread bool
	}{Kinds: app.EventKinds}
	_, err := p.Replica.Age(time.Now())
	var all []webhook.Webhook
	if err == nil {
		all, err = p.Webhooks.List(c.Request().Context())
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	v.Unread = err != nil
	for _, w := range all {
		v.Rows = append(v.Rows, p.webhookRow(w))
	}
	return view{template: "webhooks", Title: "Webhooks", Section: "webhooks", Body: v}, nil
}

// attemptRow is one attempt to deliver a message.
type attemptRow struct {
	Message, Kind, Answer, Latency string
	Number                         int
	Passed                         bool
	When                           moment
}

func (p *Page) webhook(c echo.Context, _ []app.Instance) (view, error) {
	ctx, id := c.Request().Context(), c.Param("id")
	w, err := p.Webhooks.Get(ctx, id)
	if err != nil {
		return view{}, err
	}
	attempts, err := p.Webhooks.Attempts(ctx, id)
	if err != nil {
		return view{}, err
	}
	v := struct {
		webhookRow
		Attempts []attemptRow
	}{webhookRow: p.webhookRow(w)}
	for _, a := range attempts {
		v.Attempts = append(v.Attempts, attemptRow{a.Message, a.Kind, a.Reason(), latency(a.Latency), a.Number, a.Passed, p.moment(a.At)})
	}
	return view{template: "webhook", Title: id, Section: "webhooks", Body: v}, nil
}

// tokenRow is a token. The page never has its secret.
type tokenRow struct {
	ID, Name         string
	Scopes           []auth.Scope
	Created, Expires moment
}

func (p *Page) tokens(c echo.Context, _ []app.Instance) (view, error) {
	var v struct {
		Rows   []tokenRow
		Unread bool
	}
	_, err := p.Replica.Age(time.Now())
	var all []auth.Token
	if err == nil {
		all, err = p.Tokens.List(c.Request().Context())
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	v.Unread = err != nil
	for _, t := range all {
		v.Rows = append(v.Rows, tokenRow{t.ID, t.Name, t.Scopes, p.moment(t.CreatedAt), p.moment(t.ExpiresAt)})
	}
	return view{template: "tokens", Title: "Tokens", Section: "tokens", Body: v}, nil
}
