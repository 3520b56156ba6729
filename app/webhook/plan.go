package webhook

import (
	"context"
	"errors"
	"time"

	"rollcall/app"
)

const (
	few   = 10               // events read at first, of which often the first one is it
	batch = 500              // events read at once when that was not enough
	hold  = 30 * time.Second // how long events are gathered for a digest
)

// step is what a webhook comes to next.
type step struct {
	message *message    // to be sent first; nil: nothing is
	then    app.Webhook // how far it is after that, Due aside
	due     time.Time   // when there is something to send at the earliest; zero: when something happens
}

// plan decides what a webhook is told next. What happens goes first; events that are
// replayed fill the time while there is nothing.
func plan(ctx context.Context, log app.EventLog, firing Firing, w app.Webhook, now time.Time) (s step, err error) {
	if w.Format == app.AlertmanagerFormat {
		s, err = alerting(ctx, log, firing, w, now)
	} else {
		s, err = live(ctx, log, w, now)
	}
	if err != nil || s.message != nil || w.Replay == (app.Replay{}) {
		return s, err
	}
	return again(ctx, log, s)
}

// live finds the next event that the webhook wants. Rate events of a minute are told one
// by one. The first one that is too much, and all that come within hold after it, make a
// digest: a burst that is over within hold has one, however it falls into minutes. It is the
// time of the events that counts, so a receiver that was away gets what is steady one by
// one, however much has come together.
func live(ctx context.Context, log app.EventLog, w app.Webhook, now time.Time) (step, error) {
	s := step{then: w}
	for limit := few; ; limit = batch {
		events, err := log.Events(ctx, s.then.Cursor, limit)
		if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
			s.message, s.then.Cursor = gap(s.then.Cursor, trimmed.First, false), trimmed.First.Before()
			return s, nil
		}
		if err != nil {
			return step{}, err
		}
		for _, e := range events {
			if !concerns(w, e) {
				s.then.Cursor = e.Revision
				continue
			}
			at := e.Revision.Time()
			if at.Sub(s.then.Minute) >= time.Minute {
				s.then.Minute, s.then.Told = at, 0
			}
			if s.then.Told < w.Rate {
				s.then.Told++
				s.then.Cursor = e.Revision
				s.message = single(e, false)
				return s, nil
			}
			if s.due = at.Add(hold); now.Before(s.due) {
				return s, nil
			}
			return sumUp(ctx, log, s)
		}
		if len(events) < limit {
			return s, nil
		}
	}
}

// concerns reports whether the receiver is told of an event. Alertmanager is told of what
// begins and ends an alert.
func concerns(w app.Webhook, e app.Event) bool {
	_, alerts := alertOf(e)
	return w.Wants(e) && (alerts || w.Format != app.AlertmanagerFormat)
}

// sumUp makes a digest of the events after the cursor and before s.due.
func sumUp(ctx context.Context, log app.EventLog, s step) (step, error) {
	var held []app.Event
	for {
		events, err := log.Events(ctx, s.then.Cursor, batch)
		if err != nil {
			return step{}, err
		}
		for _, e := range events {
			if !e.Revision.Time().Before(s.due) {
				s.message = digest(held)
				return s, nil
			}
			s.then.Cursor = e.Revision
			if concerns(s.then, e) {
				held = append(held, e)
			}
		}
		if len(events) < batch {
			s.message = digest(held)
			return s, nil
		}
	}
}

// again finds the next event to replay.
func again(ctx context.Context, log app.EventLog, s step) (step, error) {
	for limit := few; ; limit = batch {
		events, err := log.Events(ctx, s.then.Replay.After, limit)
		if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
			s.message, s.then.Replay.After = gap(s.then.Replay.After, trimmed.First, true), trimmed.First.Before()
			return s, nil
		}
		if err != nil {
			return step{}, err
		}
		for _, e := range events {
			if e.Revision.Compare(s.then.Replay.Until) > 0 {
				s.then.Replay = app.Replay{}
				return s, nil
			}
			s.then.Replay.After = e.Revision
			if concerns(s.then, e) {
				s.message = single(e, true)
				return s, nil
			}
		}
		if len(events) < limit {
			s.then.Replay = app.Replay{}
			return s, nil
		}
	}
}
