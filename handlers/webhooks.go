package handlers

import (
	"errors"
	"maps"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
)

// webhookView is a webhook as callers see it.
type webhookView struct {
	ID          string          `json:"id"`
	URL         string          `json:"url"`
	Secret      string          `json:"secret,omitempty"` // only in the answer to its creation
	Format      app.Format      `json:"format"`
	Headers     []string        `json:"headers,omitempty"` // their names; the values are never shown
	Services    []string        `json:"services,omitempty"`
	Kinds       []app.EventKind `json:"kinds,omitempty"`
	Rate        int             `json:"rate"`
	Description string          `json:"description,omitempty"`
	CreatedAt   *time.Time      `json:"created_at"`
	State       string          `json:"state"`
	Reason      string          `json:"reason,omitempty"` // why it is paused
	Cursor      app.Revision    `json:"cursor"`           // the last event that it has been told of, or need not be
	Failures    int             `json:"failures"`         // in a row
	Failing     *time.Time      `json:"failing_since,omitempty"`
	Next        *time.Time      `json:"next_attempt,omitempty"` // when something happens, if there is none
	Replay      *replayView     `json:"replay,omitempty"`       // while it is at one
}

type replayView struct {
	After app.Revision `json:"after"`
	Until app.Revision `json:"until"`
}

// attemptView is one attempt at a message.
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

// createWebhook adds a webhook whose receiver takes a first ping. The answer is the only
// one with its secret.
func (a *API) createWebhook(c echo.Context) error {
	given := struct {
		URL         string   `field:"url"`
		Secret      string   `field:"secret"`
		Format      string   `field:"format" validate:"oneof=event slack alertmanager"`
		Headers     []string `field:"header"`
		Services    []string `field:"service" validate:"max=20"`
		Kinds       []string `field:"kind" validate:"max=20,dive,eventkind"`
		Rate        *int     `field:"rate"`
		Description string   `field:"description" validate:"text=200"`
	}{Format: string(app.EventFormat), Rate: new(app.DefaultRate)}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	w := app.Webhook{
		URL: given.URL, Secret: given.Secret, Format: app.Format(given.Format), Services: given.Services, Rate: *given.Rate,
		Description: given.Description,
	}
	for _, line := range given.Headers {
		name, value, err := app.ParseHeader(line)
		if err != nil {
			return err
		}
		if _, twice := w.Headers[name]; twice {
			return &app.FieldError{Field: "header", Problem: name + " is given twice", Want: "give each header once"}
		}
		if w.Headers == nil {
			w.Headers = map[string]string{}
		}
		w.Headers[name] = value
	}
	for _, kind := range given.Kinds {
		w.Kinds = append(w.Kinds, app.EventKind(kind))
	}
	w, err := a.Webhooks.Create(c.Request().Context(), w)
	if err != nil {
		return err
	}
	v := webhookOf(w)
	v.Secret = w.Secret
	return c.JSON(http.StatusCreated, v)
}

func (a *API) webhooks(c echo.Context) error {
	all, err := a.Webhooks.List(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]webhookView, len(all))
	for n, w := range all {
		views[n] = webhookOf(w)
	}
	return c.JSON(http.StatusOK, map[string]any{"webhooks": views})
}

func (a *API) webhook(c echo.Context) error {
	w, err := a.Webhooks.Get(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, webhookOf(w))
}

// deleteWebhook removes a webhook. One that is not there is removed already.
func (a *API) deleteWebhook(c echo.Context) error {
	err := a.Webhooks.Delete(c.Request().Context(), c.Param("id"))
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

func (a *API) pauseWebhook(c echo.Context) error {
	w, err := a.Webhooks.Pause(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, webhookOf(w))
}

func (a *API) resumeWebhook(c echo.Context) error {
	w, err := a.Webhooks.Resume(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, webhookOf(w))
}

// testWebhook sends a ping now and says how it went.
func (a *API) testWebhook(c echo.Context) error {
	ping, err := a.Webhooks.Ping(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, attemptOf(ping))
}

// deliveries lists the last attempts, newest first.
func (a *API) deliveries(c echo.Context) error {
	attempts, err := a.Webhooks.Attempts(c.Request().Context(), c.Param("id"))
	if err != nil {
		return err
	}
	views := make([]attemptView, len(attempts))
	for n, attempt := range attempts {
		views[n] = attemptOf(attempt)
	}
	return c.JSON(http.StatusOK, map[string]any{"deliveries": views})
}

// replay has a webhook told of events once more: ?event=id for one, ?since=id or
// ?since=time for all from then on, up to ?until= if that is given.
func (a *API) replay(c echo.Context) error {
	var given struct {
		Event string `field:"event"`
		Since string `field:"since"`
		Until string `field:"until"`
	}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	if given.Event != "" {
		if given.Since != "" || given.Until != "" {
			return &app.FieldError{Field: "event", Problem: "is given with since or until", Want: "give event for one, or since"}
		}
		given.Since, given.Until = given.Event, given.Event
		if !app.Revision(given.Event).Valid() {
			return &app.FieldError{Field: "event", Problem: "is " + input.Quote(given.Event), Want: "give the id of an event"}
		}
	}
	if given.Since == "" {
		return &app.FieldError{Field: "since", Problem: "is missing", Want: "give the id of the first event, or a time such as 2030-01-02T15:04:05Z; or event for one"}
	}
	since, byTime, err := pointIn("since", given.Since)
	if err != nil {
		return err
	}
	until := app.RevisionAt(a.Now().Add(time.Millisecond)).Before()
	if given.Until != "" {
		if until, _, err = pointIn("until", given.Until); err != nil {
			return err
		}
		if until.Compare(since) < 0 {
			return &app.FieldError{Field: "until", Problem: "is before since", Want: "give a later one, or leave it out"}
		}
	}
	r := app.Replay{After: since.Before(), Until: until}
	w, err := a.Webhooks.Replay(c.Request().Context(), c.Param("id"), r)
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed && byTime { // all there are
		r.After = "0-0"
		w, err = a.Webhooks.Replay(c.Request().Context(), c.Param("id"), r)
	} else if trimmed {
		err = tooLate(err)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, webhookOf(w))
}

// pointIn reads a point in the history of the registry: the id of an event, or a time.
func pointIn(field, text string) (r app.Revision, byTime bool, err error) {
	if r = app.Revision(text); r.Valid() {
		return r, false, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return "", false, &app.FieldError{Field: field, Problem: "is " + input.Quote(text), Want: "give the id of an event, or a time such as 2030-01-02T15:04:05Z"}
	}
	return app.RevisionAt(at), true, nil
}
