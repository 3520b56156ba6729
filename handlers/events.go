package handlers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

const (
	keepAlive  = 15 * time.Second // between comments on a silent stream
	slowReader = 30 * time.Second // a reader that takes nothing for so long is let go
	eventBatch = 200
)

// eventView is an event as callers see it.
type eventView struct {
	ID       app.Revision  `json:"id"`
	Kind     app.EventKind `json:"kind"`
	At       *time.Time    `json:"at"`
	Service  string        `json:"service"`
	Instance string        `json:"instance"`
	From     app.State     `json:"from,omitempty"`
	To       app.State     `json:"to"`
	Reason   string        `json:"reason"`
}

func eventOf(e app.Event) eventView {
	return eventView{
		ID: e.Revision, Kind: e.Kind, At: instant(e.At), Service: e.Service, Instance: e.Instance,
		From: e.From, To: e.To, Reason: e.Reason,
	}
}

// events streams what happens as server-sent events: from now on, or after the
// Last-Event-ID, without a gap and without doubles. ?service= and ?kind= filter.
//
// Every reader goes through the snapshot's events at its own pace, so a slow one costs
// nobody anything; one that is far behind reads from the store until it has caught up.
func (a *API) events(c echo.Context) error {
	var query struct {
		Service string `field:"service"`
		Kind    string `field:"kind" validate:"omitempty,oneof=registered updated healthy unhealthy failed draining gone"`
	}
	if err := readQuery(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	ctx := c.Request().Context()
	after := app.Revision(c.Request().Header.Get("Last-Event-ID"))
	if after == "" {
		after = a.Snapshot.Revision()
	} else if !after.Valid() {
		return &app.FieldError{Field: "Last-Event-ID", Problem: "is " + quote(string(after)), Want: "give the id of an event, or 0 for all there are"}
	}
	next, err := a.eventsAfter(ctx, after)
	if err != nil {
		return err
	}
	s := &eventStream{
		response: c.Response(), control: http.NewResponseController(c.Response().Writer),
		service: query.Service, kind: app.EventKind(query.Kind),
	}
	if err := s.open(); err != nil {
		return nil //nolint:nilerr // the caller went away
	}
	for {
		if n := len(next); n > 0 {
			after = next[n-1].Revision
		}
		if err := s.send(next); err != nil {
			return nil //nolint:nilerr // the caller went away, or takes nothing
		}
		if len(next) == 0 {
			if err := a.awaitEvent(ctx, s, after); err != nil {
				return nil //nolint:nilerr // the caller went away
			}
		}
		if next, err = a.eventsAfter(ctx, after); err != nil {
			if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
				_ = s.gap(trimmed)
			} else if ctx.Err() == nil {
				a.Log.WarnContext(ctx, "an event stream ends", "err", err)
			}
			return nil
		}
	}
}

// eventsAfter reads the next events, from memory if it has them.
func (a *API) eventsAfter(ctx context.Context, after app.Revision) ([]app.Event, error) {
	if events, held := a.Snapshot.EventsAfter(after, eventBatch); held {
		return events, nil
	}
	events, err := a.Store.Events(ctx, after, eventBatch)
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed {
		err = fmt.Errorf("%w: %w", errTooLate, err)
	}
	return events, err
}

// awaitEvent waits for an event, and keeps the connection alive meanwhile.
func (a *API) awaitEvent(ctx context.Context, s *eventStream, after app.Revision) error {
	for {
		waiting, cancel := context.WithTimeout(ctx, keepAlive)
		err := a.Snapshot.Wait(waiting, func() bool { return a.Snapshot.Revision().Compare(after) > 0 })
		cancel()
		if err == nil || ctx.Err() != nil {
			return ctx.Err()
		}
		if err := s.comment("keep-alive"); err != nil {
			return err
		}
	}
}

// eventStream writes server-sent events:
// https://html.spec.whatwg.org/multipage/server-sent-events.html
type eventStream struct {
	response *echo.Response
	control  *http.ResponseController
	service  string
	kind     app.EventKind
}

func (s *eventStream) open() error {
	h := s.response.Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set(echo.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s.response.WriteHeader(http.StatusOK)
	return s.comment("rollcall")
}

// send writes the events that pass the filter, in one piece.
func (s *eventStream) send(events []app.Event) error {
	var text []byte
	for _, e := range events {
		if s.service != "" && e.Service != s.service || s.kind != "" && e.Kind != s.kind {
			continue
		}
		data, err := json.Marshal(eventOf(e))
		if err != nil {
			return err
		}
		text = fmt.Appendf(text, "id: %s\nevent: %s\ndata: %s\n\n", e.Revision, e.Kind, data)
	}
	return s.write(text)
}

// gap says that events were lost to a reader that was away, or slow, for too long.
func (s *eventStream) gap(e *app.TrimmedError) error {
	return s.write(fmt.Appendf(nil, "event: gap\ndata: {\"first\":%q}\n\n", e.First))
}

func (s *eventStream) comment(text string) error { return s.write([]byte(": " + text + "\n\n")) }

func (s *eventStream) write(text []byte) error {
	if len(text) == 0 {
		return nil
	}
	if err := s.control.SetWriteDeadline(time.Now().Add(slowReader)); err != nil {
		return err
	}
	if _, err := s.response.Write(text); err != nil {
		return err
	}
	return s.control.Flush()
}
