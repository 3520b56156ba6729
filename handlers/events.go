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
	"rollcall/app/replica"
	"rollcall/handlers/input"
)

const (
	keepAlive  = 15 * time.Second // between comments on a silent stream
	slowReader = 30 * time.Second // after which the stream of a reader that accepts no data ends
	eventBatch = 200
	replicaLag = time.Second // largest lag of one process's replica behind another's
)

// history reads past events: from the replica, or from the store if they are older.
type history struct {
	replica *replica.Replica
	store   Reader
}

// after returns up to limit events after a revision. It returns errTooLate if Redis no longer keeps them, or if the
// revision belongs to no event of this registry: then the caller has seen events that the registry has lost.
func (h history) after(ctx context.Context, rev app.Revision, limit int) ([]app.Event, error) {
	waiting, cancel := context.WithTimeout(ctx, replicaLag)
	defer cancel()
	_ = h.replica.WaitRevision(waiting, rev) // the revision may come from a process with a newer replica
	if events, held := h.replica.EventsAfter(rev, limit); held {
		return events, nil
	}
	events, err := h.store.Events(ctx, rev, limit)
	if err == nil && rev.Compare("0-0") > 0 {
		err = h.check(ctx, rev)
	}
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed {
		err = fmt.Errorf("%w: %w", errTooLate, err)
	}
	return events, err
}

// check returns a TrimmedError if the store has the events after a revision, but not the event of the revision itself
// and no earlier event either.
func (h history) check(ctx context.Context, rev app.Revision) error {
	itself, err := h.store.Events(ctx, rev.Before(), 1)
	if _, trimmed := errors.AsType[*app.TrimmedError](err); trimmed { // rev was the last event before the kept ones
		return nil
	}
	if err == nil && (len(itself) == 0 || itself[0].Revision.Compare(rev) != 0) {
		return &app.TrimmedError{Lost: rev}
	}
	return err
}

// events handles GET /v1/events.
type events struct {
	reads
	history history
	serving context.Context //nolint:containedctx // its end ends the streams
}

// eventQuery is a request for a stream.
type eventQuery struct {
	Service string `field:"service"`
	Kind    string `field:"kind" validate:"omitempty,eventkind"`
}

// stream sends events as server-sent events, from now on or after the Last-Event-ID, without a gap and without
// duplicates. ?service= and ?kind= filter.
//
// Every reader goes through the events of the replica at its own pace, so a slow reader delays no other. A reader that is
// far behind reads from the store until it has caught up.
func (h events) stream(c echo.Context) error {
	var query eventQuery
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := h.age(); err != nil {
		return err
	}
	after, err := h.start(c.Request())
	if err != nil {
		return err
	}
	ctx, cancel := whileServing(c.Request().Context(), h.serving)
	defer cancel()
	resets := h.replica.Resets()
	first, err := h.history.after(ctx, after, eventBatch)
	if err != nil {
		return err
	}
	s := &eventStream{
		response: c.Response(), control: http.NewResponseController(c.Response().Writer),
		service: query.Service, kind: app.EventKind(query.Kind),
	}
	if err := s.open(after); err == nil {
		h.follow(ctx, s, after, first, resets)
	}
	return nil
}

// start returns the revision after which a stream starts.
func (h events) start(r *http.Request) (app.Revision, error) {
	after := app.Revision(r.Header.Get("Last-Event-ID"))
	if after == "" {
		return h.replica.Revision(), nil
	}
	if !after.Valid() {
		return "", &app.FieldError{Field: "Last-Event-ID", Problem: "is " + input.Quote(string(after)), Want: "give the id of an event, or 0 for all there are"}
	}
	return after, nil
}

// follow sends events until the reader has gone, the process ends or the registry has lost events that the reader
// has seen. next are the events after the revision, and resets is the number of times that the replica was read anew before that.
func (h events) follow(ctx context.Context, s *eventStream, after app.Revision, next []app.Event, resets int) {
	for {
		if n := len(next); n > 0 {
			after = next[n-1].Revision
		}
		if err := s.send(next, after); err != nil {
			return
		}
		if len(next) == 0 {
			resets = h.await(ctx, after, resets, s.silent())
			if ctx.Err() != nil {
				return
			}
		}
		var err error
		if next, err = h.history.after(ctx, after, eventBatch); err != nil {
			h.end(ctx, s, err)
			return
		}
	}
}

// end tells the reader about lost events, and the log about any other error.
func (h events) end(ctx context.Context, s *eventStream, err error) {
	if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
		_ = s.gap(trimmed) // the stream ends in any case
	} else if ctx.Err() == nil {
		h.log.WarnContext(ctx, "an event stream ends", "err", err)
	}
}

// await waits for an event, for a replica that is read anew, or for the time of the next keep-alive comment. It returns the
// number of times that the replica was read anew.
func (h events) await(ctx context.Context, after app.Revision, resets int, silent time.Duration) int {
	waiting, cancel := context.WithTimeout(ctx, keepAlive-silent)
	defer cancel()
	_ = h.replica.Wait(waiting, func() bool { // the stream continues in any case
		return h.replica.Revision().Compare(after) > 0 || h.replica.Resets() != resets
	})
	return h.replica.Resets()
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
	h.Set("X-Accel-Buffering", "no") // otherwise nginx buffers events
	s.response.WriteHeader(http.StatusOK)
	return s.keepAlive(after)
}

// send writes the events that pass the filter in one piece. If the stream has been silent for long, it writes a
// keep-alive comment.
func (s *eventStream) send(events []app.Event, after app.Revision) error {
	var text []byte
	for _, e := range events {
		if !s.selects(e) {
			continue
		}
		data, err := json.Marshal(e)
		if err != nil {
			return err
		}
		text = fmt.Appendf(text, "id: %s\nevent: %s\ndata: %s\n\n", e.Revision, e.Kind, data)
	}
	if len(text) == 0 && s.silent() >= keepAlive {
		return s.keepAlive(after)
	}
	return s.write(text)
}

func (s *eventStream) selects(e app.Event) bool {
	return (s.service == "" || e.Service == s.service) && (s.kind == "" || e.Kind == s.kind)
}

// keepAlive keeps the connection open. Its id without an event is the position at which the reader continues if the
// connection breaks, also if no event has passed the filter.
func (s *eventStream) keepAlive(after app.Revision) error {
	return s.write(fmt.Appendf(nil, ": keep-alive\nid: %s\n\n", after))
}

// gap tells the reader that events were lost, because it was slow or away for too long.
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
