package handlers

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/webhook"
	"rollcall/handlers/input"
)

// webhooks handles the calls on webhooks.
type webhooks struct {
	webhooks *webhook.Webhooks
	now      func() time.Time
}

// webhookView is a webhook in an answer.
type webhookView struct {
	ID          string          `json:"id"`
	URL         string          `json:"url"`
	Secret      string          `json:"secret,omitempty"` // only in the answer to its creation
	Format      app.Format      `json:"format"`
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
	Replay      *replayView     `json:"replay,omitempty"`       // while one is running
}

// replayView is the range of a replay.
type replayView struct {
	After app.Revision `json:"after"`
	Until app.Revision `json:"until"`
}

// attemptView is one attempt to deliver a message.
type attemptView struct {
	Message string `json:"message"` // its webhook-id
	Kind    string `json:"kind"`
	Number  int    `json:"number"`
	resultView
}

func webhookOf(w app.Webhook) webhookView {
	v := webhookView{
		ID: w.ID, URL: w.URL, Format: w.Format, Headers: slices.Sorted(maps.Keys(w.Headers)), Services: w.Services, Kinds: w.Kinds, Rate: w.Rate, Description: w.Description,
		CreatedAt: instant(w.CreatedAt), State: "active", Cursor: w.Cursor, Failures: w.Failures, Failing: instant(w.Failing),
		Next: instant(w.Due),
	}
	if w.Paused != "" {
		v.State, v.Reason, v.Next = "paused", w.Paused, nil
	}
	if w.Replay != (app.Replay{}) {
		v.Replay = &replayView{After: w.Replay.After, Until: w.Replay.Until}
	}
	return v
}

func attemptOf(a app.Attempt) attemptView {
	return attemptView{Message: a.Message, Kind: a.Kind, Number: a.Number, resultView: resultOf(a.Result)}
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

func (n newWebhook) webhook() (app.Webhook, error) {
	w := app.Webhook{
		URL: n.URL, Secret: n.Secret, Format: app.Format(n.Format), Services: n.Services, Rate: *n.Rate,
		Description: n.Description,
	}
	if len(n.Headers) > 0 {
		w.Headers = map[string]string{}
	}
	for _, line := range n.Headers {
		name, value, err := app.ParseHeader(line)
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
	given := newWebhook{Format: string(app.EventFormat), Rate: new(app.DefaultRate)}
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
	v := webhookOf(w)
	v.Secret = w.Secret
	return c.JSON(http.StatusCreated, v)
}

// list answers with the webhooks.
func (h webhooks) list(c echo.Context) error {
	all, err := h.webhooks.List(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]webhookView, len(all))
	for n, w := range all {
		views[n] = webhookOf(w)
	}
	return c.JSON(http.StatusOK, map[string]any{"webhooks": views})
}

// get answers with one webhook.
func (h webhooks) get(c echo.Context) error { return answerWith(c, h.webhooks.Get) }

// pause stops the deliveries of a webhook.
func (h webhooks) pause(c echo.Context) error { return answerWith(c, h.webhooks.Pause) }

// resume continues the deliveries of a paused webhook.
func (h webhooks) resume(c echo.Context) error { return answerWith(c, h.webhooks.Resume) }

func answerWith(c echo.Context, verb func(ctx context.Context, id string) (app.Webhook, error)) error {
	w, err := verb(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, webhookOf(w))
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
	return c.JSON(http.StatusOK, attemptOf(ping))
}

// deliveries answers with the last attempts, newest first.
func (h webhooks) deliveries(c echo.Context) error {
	attempts, err := h.webhooks.Attempts(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	views := make([]attemptView, len(attempts))
	for n, attempt := range attempts {
		views[n] = attemptOf(attempt)
	}
	return c.JSON(http.StatusOK, map[string]any{"deliveries": views})
}
