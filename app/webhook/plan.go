package webhook

import (
	"context"
	"errors"
	"time"

	"rollcall/app"
)

const (
	firstBatch   = 10               // events read at first: often the first one is the next message
	batch        = 500              // events read at once after that
	digestPeriod = 30 * time.Second // how long Rollcall collects events for a digest
)

// step is the next step of a webhook.
type step struct {
	message *message  // to be sent first; nil: none
	then    Webhook   // the webhook after that, except Due
	due     time.Time // the earliest time of the next message; zero: the time of the next event
}

// plan decides the next message of a webhook. New events go first, and replayed events fill the gaps
// between them.
func plan(ctx context.Context, log EventLog, firing Firing, w Webhook, now time.Time) (s step, err error) {
	if w.Format == AlertmanagerFormat {
		s, err = nextAlerts(ctx, log, firing, w, now)
	} else {
		s, err = nextLive(ctx, log, w, now)
	}
	if err != nil || s.message != nil || w.Replay == (Replay{}) {
		return s, err
	}
	return nextReplay(ctx, log, s)
}

// nextLive finds the next event that the webhook subscribes to. It sends up to Rate events of a minute
// one by one. The first event beyond the rate and all events within digestPeriod after it make a
// digest. A burst within digestPeriod therefore has one digest, even across the end of a minute. The
// time of the events counts: a receiver that was unavailable gets events of a steady rate one by one,
// even if many are waiting.
func nextLive(ctx context.Context, log EventLog, w Webhook, now time.Time) (step, error) {
	s := step{then: w}
	for limit := firstBatch; ; limit = batch {
		events, err := log.Events(ctx, s.then.Cursor, limit)
		if trimmed, ok := errors.AsType[*app.TrimmedError](err); ok {
			s.message, s.then.Cursor = gap(s.then.Cursor, trimmed.First, false), trimmed.First.Before()
			return s, nil
		}
		if err != nil {
			return step{}, err
		}
		for _, e := range events {
			if !wants(w, e) {
				s.then.Cursor = e.Revision
				continue
			}
			if s.sendAlone(e) {
				return s, nil
			}
			if s.due = e.Revision.Time().Add(digestPeriod); now.Before(s.due) {
				return s, nil
			}
			return collectDigest(ctx, log, s)
		}
		if len(events) < limit {
			return s, nil
		}
	}
}

// sendAlone makes an event a message of its own. It reports false if the webhook's rate forbids that.
func (s *step) sendAlone(e app.Event) bool {
	at := e.Revision.Time()
	if at.Sub(s.then.Minute) >= time.Minute {
		s.then.Minute, s.then.Told = at, 0
	}
	if s.then.Told >= s.then.Rate {
		return false
	}
	s.then.Told++
	s.then.Cursor = e.Revision
	s.message = single(e, false)
	return true
}

// wants reports whether the receiver gets an event. An Alertmanager gets only events that begin or end
// an alert.
func wants(w Webhook, e app.Event) bool {
	_, alerts := alertOf(e)
	return w.Wants(e) && (alerts || w.Format != AlertmanagerFormat)
}

// collectDigest makes a digest of the events after the cursor and before s.due.
func collectDigest(ctx context.Context, log EventLog, s step) (step, error) {
	var wanted []app.Event
	for {
		events, err := log.Events(ctx, s.then.Cursor, batch)
		if err != nil {
			return step{}, err
		}
		for _, e := range events {
			if !e.Revision.Time().Before(s.due) {
				s.message = digest(wanted)
				return s, nil
			}
			s.then.Cursor = e.Revision
			if wants(s.then, e) {
				wanted = append(wanted, e)
			}
		}
		if len(events) < batch {
			s.message = digest(wanted)
			return s, nil
		}
	}
}

// nextReplay finds the next event to replay.
func nextReplay(ctx context.Context, log EventLog, s step) (step, error) {
	for limit := firstBatch; ; limit = batch {
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
				s.then.Replay = Replay{}
				return s, nil
			}
			s.then.Replay.After = e.Revision
			if wants(s.then, e) {
				s.message = single(e, true)
				return s, nil
			}
		}
		if len(events) < limit {
			s.then.Replay = Replay{}
			return s, nil
		}
	}
}
