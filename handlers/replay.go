package handlers

import (
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/webhook"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// replayRequest is the body of a request for a replay.
type replayRequest struct {
	Event string `field:"event"`
	Since string `field:"since"`
	Until string `field:"until"`
}

// replay delivers past events to a webhook again: one (?event=id), or all from an id or a time (?since=) up to another
// (?until=).
func (h webhooks) replay(c echo.Context) error {
	var given replayRequest
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	replay, byTime, err := given.replay(h.now())
	if err != nil {
		return err
	}
	ctx, id := c.Request().Context(), c.Param("id")
	w, err := h.webhooks.Replay(ctx, id, replay)
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed {
		if !byTime {
			return fmt.Errorf("%w: %w", errTooLate, err)
		}
		replay.After = "0-0" // the oldest event that Redis keeps
		w, err = h.webhooks.Replay(ctx, id, replay)
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusAccepted, view.WebhookOf(w))
}

// replay returns the range of the request, and whether a time rather than an event begins it.
func (r replayRequest) replay(now time.Time) (replay webhook.Replay, byTime bool, err error) {
	if r.Event != "" {
		replay, err = r.ofEvent()
		return replay, false, err
	}
	if r.Since == "" {
		return replay, false, &app.FieldError{Field: "since", Problem: "is missing", Want: "give the id of the first event, or a time such as 2030-01-02T15:04:05Z; or event for one"}
	}
	since, byTime, err := pointIn("since", r.Since)
	if err != nil {
		return replay, false, err
	}
	until, err := r.end(since, now)
	return webhook.Replay{After: since.Before(), Until: until}, byTime, err
}

// end returns the last revision to replay, by default the present one.
func (r replayRequest) end(since app.Revision, now time.Time) (app.Revision, error) {
	if r.Until == "" {
		return app.RevisionAt(now.Add(time.Millisecond)).Before(), nil
	}
	until, _, err := pointIn("until", r.Until)
	if err == nil && until.Compare(since) < 0 {
		err = &app.FieldError{Field: "until", Problem: "is before since", Want: "give a later one, or leave it out"}
	}
	return until, err
}

func (r replayRequest) ofEvent() (webhook.Replay, error) {
	if r.Since != "" || r.Until != "" {
		return webhook.Replay{}, &app.FieldError{Field: "event", Problem: "is given with since or until", Want: "give event for one, or since"}
	}
	event := app.Revision(r.Event)
	if !event.Valid() {
		return webhook.Replay{}, &app.FieldError{Field: "event", Problem: "is " + input.Quote(r.Event), Want: "give the id of an event"}
	}
	return webhook.Replay{After: event.Before(), Until: event}, nil
}

// pointIn parses a point in the history of the registry: the id of an event, or a time.
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
