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
	"rollcall/handlers/input"
)

const (
	keepAlive  = 15 * time.Second // between comments on a silent stream
	slowReader = 30 * time.Second // a reader that takes nothing for so long is let go
	eventBatch = 200
	replicaLag = time.Second // the replica of one process is at most this far behind that of another
)

// events streams what happens as server-sent events: from now on, or after the
// Last-Event-ID, without a gap and without doubles. ?service= and ?kind= filter.
//
// Every reader goes through the replica's events at its own pace, so a slow one costs
// nobody anything; one that is far behind reads from the store until it has caught up.
func (a *API) events(c echo.Context) error {
	var query struct {
		Service string `field:"service"`
		Kind    string `field:"kind" validate:"omitempty,eventkind"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	ctx, cancel := a.whileServing(c.Request().Context())
	defer cancel()
	after := app.Revision(c.Request().Header.Get("Last-Event-ID"))
	if after == "" {
		after = a.Replica.Revision()
	} else if !after.Valid() {
		return &app.FieldError{Field: "Last-Event-ID", Problem: "is " + input.Quote(string(after)), Want: "give the id of an event, or 0 for all there are"}
	}
	read := a.Replica.Resets()
	next, err := a.eventsAfter(ctx, after, eventBatch)
	if err != nil {
		return err
	}
	s := &eventStream{
		response: c.Response(), control: http.NewResponseController(c.Response().Writer),
		service: query.Service, kind: app.EventKind(query.Kind),
	}
	if err := s.open(after); err != nil {
		return nil
	}
	for {
		if n := len(next); n > 0 {
			after = next[n-1].Revision
		}
		if err := s.send(next, after); err != nil {
			return nil
		}
		if len(next) == 0 {
			resets, err := a.awaitEvent(ctx, after, read, s.silent())
			if err != nil {
				return nil
			}
			read = resets
		}
		if next, err = a.eventsAfter(ctx, after, eventBatch); err != nil {
			if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
				_ = s.gap(trimmed)
			} else if ctx.Err() == nil {
				a.Log.WarnContext(ctx, "an event stream ends", "err", err)
			}
			return nil
		}
	}
}

// eventsAfter reads up to limit events after a revision, from memory if it has them. A revision that
// is neither the beginning nor an event of this registry is errTooLate: the caller has seen
// what is not in it.
func (a *API) eventsAfter(ctx context.Context, after app.Revision, limit int) ([]app.Event, error) {
	// The revision may be of another process whose replica is a moment ahead.
	reading, cancel := context.WithTimeout(ctx, replicaLag)
	defer cancel()
	_ = a.Replica.WaitRevision(reading, after)
	if events, held := a.Replica.EventsAfter(after, limit); held {
		return events, nil
	}
	events, err := a.Store.Events(ctx, after, limit)
	if err == nil && after.Compare("0-0") > 0 {
		var itself []app.Event
		itself, err = a.Store.Events(ctx, after.Before(), 1)
		if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed { // it was the last one before those that are kept
			err = nil
		} else if err == nil && (len(itself) == 0 || itself[0].Revision.Compare(after) != 0) {
			err = &app.TrimmedError{Lost: after}
		}
	}
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed {
		err = tooLate(err)
	}
	return events, err
}

func tooLate(err error) error { return fmt.Errorf("%w: %w", errTooLate, err) }

// awaitEvent waits for an event, or until the replica was read anew since resets, but no
// longer than until a stream has been silent for long enough.
func (a *API) awaitEvent(ctx context.Context, after app.Revision, resets int, silent time.Duration) (int, error) {
	waiting, cancel := context.WithTimeout(ctx, keepAlive-silent)
	defer cancel()
	_ = a.Replica.Wait(waiting, func() bool { // over is over
		return a.Replica.Revision().Compare(after) > 0 || a.Replica.Resets() != resets
	})
	return a.Replica.Resets(), ctx.Err()
}

// eventStream writes server-sent events:
// https://html.spec.whatwg.org/multipage/server-sent-events.html
type eventStream struct {
	response *echo.Response
	control  *http.ResponseController
	service  string
	kind     app.EventKind
	wrote    time.Time
}

func (s *eventStream) silent() time.Duration { return time.Since(s.wrote) }

func (s *eventStream) open(after app.Revision) error {
	h := s.response.Header()
	h.Set(echo.HeaderContentType, "text/event-stream")
	h.Set(echo.HeaderCacheControl, "no-store")
	h.Set("X-Accel-Buffering", "no") // nginx would hold events back
	s.response.WriteHeader(http.StatusOK)
	return s.reached(after)
}

// send writes the events that pass the filter, in one piece. When none has for a while,
// it says where the stream stands.
func (s *eventStream) send(events []app.Event, after app.Revision) error {
	var text []byte
	for _, e := range events {
		if s.service != "" && e.Service != s.service || s.kind != "" && e.Kind != s.kind {
			continue
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text = fmt.Appendf(text, "id: %s\nevent: %s\ndata: %s\n\n", e.Revision, e.Kind, data)
	}
	if len(text) == 0 && s.silent() >= keepAlive {
		return s.reached(after)
	}
	return s.write(text)
}

// reached keeps the connection alive and tells the reader, with an id that has no event,
// where to go on if it breaks. A reader whose filter no event has passed can go on there, too.
func (s *eventStream) reached(after app.Revision) error {
	return s.write(fmt.Appendf(nil, ": keep-alive\nid: %s\n\n", after))
}

// gap says that events were lost to a reader that was away, or slow, for too long.
func (s *eventStream) gap(e *app.TrimmedError) error {
	return s.write(fmt.Appendf(nil, "event: gap\ndata: {\"first\":%q,\"reason\":%q}\n\n", e.First, e.Error()))
}

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
	s.wrote = time.Now()
	return s.control.Flush()
}
