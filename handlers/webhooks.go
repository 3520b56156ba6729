package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/webhook"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// webhooks handles the calls on webhooks.
type webhooks struct {
	webhooks *webhook.Webhooks
	now      func() time.Time
}

// newWebhook is the body of a request for a webhook.
type newWebhook struct {
	URL         string   `field:"url"`
	Secret      string   `field:"secret"`
	Format      string   `field:"format" validate:"oneof=event slack alertmanager"`
	Headers     []string `field:"header"`
	Services    []string `field:"service" validate:"max=20"`
	Kinds       []string `field:"kind" validate:"max=20,dive,eventkind"`
	Rate        *int     `field:"rate"`
	Description string   `field:"description" validate:"text=200"`
}

func (n newWebhook) webhook() (webhook.Webhook, error) {
	w := webhook.Webhook{
		URL: n.URL, Secret: n.Secret, Format: webhook.Format(n.Format), Services: n.Services, Rate: *n.Rate,
		Description: n.Description,
	}
	if len(n.Headers) > 0 {
		w.Headers = map[string]string{}
	}
	for _, line := range n.Headers {
		name, value, err := webhook.ParseHeader(line)
		if err != nil {
			return w, err
		}
		if _, twice := w.Headers[name]; twice {
			return w, &app.FieldError{Field: "header", Problem: name + " is given twice", Want: "give each header once"}
		}
		w.Headers[name] = value
	}
	for _, kind := range n.Kinds {
		w.Kinds = append(w.Kinds, app.EventKind(kind))
	}
	return w, nil
}

// create adds a webhook if its receiver accepts a first ping. No other answer shows the secret.
func (h webhooks) create(c echo.Context) error {
	given := newWebhook{Format: string(webhook.EventFormat), Rate: new(webhook.DefaultRate)}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	w, err := given.webhook()
	if err != nil {
		return err
	}
	if w, err = h.webhooks.Create(c.Request().Context(), w); err != nil {
		return err
	}
	v := view.WebhookOf(w)
	v.Secret = w.Secret
	return c.JSON(http.StatusCreated, v)
}

// list answers with the webhooks.
func (h webhooks) list(c echo.Context) error {
	all, err := h.webhooks.List(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]view.Webhook, len(all))
	for n, w := range all {
		views[n] = view.WebhookOf(w)
	}
	return c.JSON(http.StatusOK, map[string]any{"webhooks": views})
}

// get answers with one webhook.
func (h webhooks) get(c echo.Context) error { return answerWith(c, h.webhooks.Get) }

// pause stops the deliveries of a webhook.
func (h webhooks) pause(c echo.Context) error { return answerWith(c, h.webhooks.Pause) }

// resume continues the deliveries of a paused webhook.
func (h webhooks) resume(c echo.Context) error { return answerWith(c, h.webhooks.Resume) }

func answerWith(c echo.Context, verb func(ctx context.Context, id string) (webhook.Webhook, error)) error {
	w, err := verb(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view.WebhookOf(w))
}

// delete removes a webhook. Removing an unknown webhook succeeds.
func (h webhooks) delete(c echo.Context) error {
	err := h.webhooks.Delete(c.Request().Context(), c.Param("id"))
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// test sends a ping and answers with the result.
func (h webhooks) test(c echo.Context) error {
	ping, err := h.webhooks.Ping(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view.AttemptOf(ping))
}

// deliveries answers with the last attempts, newest first.
func (h webhooks) deliveries(c echo.Context) error {
	attempts, err := h.webhooks.Attempts(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	views := make([]view.Attempt, len(attempts))
	for n, attempt := range attempts {
		views[n] = view.AttemptOf(attempt)
	}
	return c.JSON(http.StatusOK, map[string]any{"deliveries": views})
}
