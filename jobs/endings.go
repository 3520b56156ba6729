package jobs

import (
	"context"
	"errors"
	"time"

	"rollcall/app"
	"rollcall/app/replica"
)

// End makes the changes that a timeout causes: the end of states and of overrides. It runs
// once a second. The timeouts run on the worker's own clock.
func (w *Worker) End(ctx context.Context) error {
	var due []*ending
	w.mu.Lock()
	if !w.member.Lost(time.Now()) {
		w.endings.Advance(w.runs(), func(e *ending) { due = append(due, e) })
	}
	w.mu.Unlock()
	if len(due) == 0 {
		return nil
	}
	extended, err := w.extendRenewed(ctx, due)
	if err != nil {
		w.later(due)
		return err
	}
	for n, e := range due {
		if extended[e] {
			continue
		}
		err := w.end(ctx, e)
		if errors.Is(err, app.ErrLastBackend) { // the last backend of a vhost stays, and its timeout starts again
			w.mu.Lock()
			if of := e.target; of.stateEnd == e {
				w.setStateEnd(of, of.compact.Instance(), 0)
			}
			w.mu.Unlock()
			continue
		}
		switch {
		case errors.Is(err, app.ErrNotOwner), errors.Is(err, app.ErrConflict):
			w.later(due[n : n+1])
		case err != nil:
			w.later(due[n:])
			return err
		}
	}
	return nil
}

// later tries endings again with the next tick.
func (w *Worker) later(some []*ending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range some {
		if (e.target.stateEnd == e || e.target.overrideEnd == e) && !e.timer.Set() {
			w.endAt(e, w.runs()+1)
		}
	}
}

// extendRenewed reads the heartbeats of instances with a timeout that is over, and extends the timeout
// of each instance with a new heartbeat. It returns the extended endings.
func (w *Worker) extendRenewed(ctx context.Context, due []*ending) (map[*ending]bool, error) {
	some, ids := w.renewable(due)
	if len(some) == 0 {
		return nil, nil
	}
	now, beats, err := w.Shares.Beats(ctx, ids)
	if err != nil {
		return nil, err
	}
	out := map[*ending]bool{}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.setClock(now)
	for n, e := range some {
		if w.extend(e, beats[n], now) {
			out[e] = true
		}
	}
	return out, nil
}

// renewable returns the endings that a heartbeat can extend, with the ids of their instances.
func (w *Worker) renewable(due []*ending) (some []*ending, ids []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, e := range due {
		if s := e.target.compact.State(); !e.override && s != app.Starting && s != app.Draining {
			some, ids = append(some, e), append(ids, e.target.compact.ID())
		}
	}
	return some, ids
}

// extend extends a timeout by a heartbeat. It reports false for a heartbeat that is not newer than the last look and the
// state, or too old. The caller holds the lock.
func (w *Worker) extend(e *ending, beat, now int64) bool {
	if beat == e.beat || beat == 0 {
		return false
	}
	age := min(max(now-beat, 0), w.runs()-e.looked)
	if w.stepped > e.looked {
		age = 0 // a step of the store's clock in between makes the age unknown
	}
	e.beat, e.looked = beat, w.runs()
	d, ends := e.target.compact.Instance().StateTimeout()
	if e.target.stateEnd != e || !ends || age >= d.Milliseconds() {
		return false
	}
	e.began = w.runs() - age
	w.endAt(e, e.began+d.Milliseconds())
	return true
}

// end writes the change of one ending.
func (w *Worker) end(ctx context.Context, e *ending) error {
	w.mu.Lock()
	of := e.target
	if e.isObsolete() {
		w.mu.Unlock()
		return nil
	}
	was, fence := of.compact.Instance(), of.share.fence()
	w.mu.Unlock()
	var is app.Instance
	var err error
	if e.override {
		is, err = w.Registry.EndOverride(ctx, was, fence)
	} else {
		is, err = w.Registry.Expire(ctx, was, fence, e.beat)
	}
	if err != nil || is.State == app.Gone {
		return err // the replica removes the instance
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if of.share != nil && of.compact.Rev() < is.Rev {
		w.update(of, replica.NewCompact(is))
	}
	return nil
}

// isObsolete reports whether the worker has dropped the instance, or the timeout has been replaced or started again.
func (e *ending) isObsolete() bool {
	of := e.target
	return of.share == nil || of.stateEnd != e && of.overrideEnd != e || e.timer.Set()
}
