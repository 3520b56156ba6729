package jobs

import (
	"cmp"
	"context"
	"errors"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/jobs/pool"
)

const maxWrites = 32 // writes of changed instances at once

// probe queues an instance to be probed at once.
func (w *Worker) probe(e *target) {
	if !e.queued {
		w.wheel.Stop(&e.probe)
		w.enqueue(e, w.ms())
	}
}

// enqueue queues an instance, which the wheel does not hold, for a probe with a due time.
func (w *Worker) enqueue(e *target, due int64) {
	e.queued, e.due = true, due
	w.pool.Add(e)
}

// run probes an instance. The caller holds the lock; run releases it during the probe and returns with it held.
func (w *Worker) run(e *target, place *pool.Place) {
	now := time.Now()
	if !w.mayBegin(e, now) {
		return
	}
	doc, ctx, due := e.compact, w.ctx, e.due
	w.pool.Begin(place, now)
	w.mu.Unlock()
	if w.Late != nil {
		w.Late(max(0, time.Duration(w.at(now)-due)*time.Millisecond))
	}
	i := doc.Instance()
	r := w.Prober.Probe(ctx, i)
	steady := r.Passed && doc.Steady() // true of most results
	var back bool
	if (!steady || w.self.Keeps(e.hash)) && ctx.Err() == nil {
		r, back = w.self.Record(i, r)
	}
	after := w.ms()
	w.mu.Lock()
	w.pool.End(place)
	e.queued = false
	if e.share == nil || ctx.Err() != nil {
		return
	}
	if steady && e.compact == doc && w.isQuiet(e) {
		e.add(r)
		w.scheduleAt(e, i.Check.Interval, ownership.Steady, after)
		return
	}
	w.lookedUp(i, r)
	w.answered(e, i, r, back)
}

// mayBegin reports whether the worker may begin a queued probe. If not, it takes the probe out of the queue.
func (w *Worker) mayBegin(e *target, now time.Time) bool {
	switch {
	case e.share == nil || w.ctx.Err() != nil:
		e.queued = false
	case w.member.Lost(now): // the instance is probed again when the lease is back
		e.queued = false
		w.probeSoon(e)
	default:
		return true
	}
	return false
}

// isQuiet reports whether a steady pass of an instance has no effect except in its history.
func (w *Worker) isQuiet(e *target) bool { return !e.clear && !e.again && w.lookups.Idle() }

// answered handles a result. i is the instance as it was when the probe began.
func (w *Worker) answered(e *target, i app.Instance, r app.Result, back bool) {
	is := e.compact.Instance()
	if !is.SameProbe(i) || !is.Probed() {
		e.again = true
		w.schedule(e, is)
		return
	}
	if !r.Conclusive() { // no timeout ends the state of an instance that this worker could not check
		w.setStateEnd(e, is, 0)
	}
	if r.Code == app.NameServerFailed { // the result is shown; the name server is asked at the usual pace
		e.add(r)
		w.schedule(e, is)
		return
	}
	if back || !r.Conclusive() {
		w.probeSoon(e)
		return
	}
	var about *opinion
	if w.needsOpinion(is, r) {
		before, now := w.ask(is)
		about = cmp.Or(before, now)
	} else {
		w.opinions.endDispute(is.ID)
	}
	e.add(r)
	if e.clear && r.Passed && is.Routable() {
		e.clear = false
		fence := e.share.fence()
		w.writes.Go(func() { w.report(w.ctx, w.Registry.Passed(context.WithoutCancel(w.ctx), is, fence)) })
	}
	if is.Alive(r) {
		w.setStateEnd(e, is.Observe(r, w.Now()), 0)
	}
	o := registry.Outcome{Was: is, Result: r, Fence: e.share.fence()}
	if !o.Changes(w.Now()) {
		w.schedule(e, is)
		return
	}
	e.deciding = true
	w.writes.Go(func() { w.decide(context.WithoutCancel(w.ctx), e, o, about) })
}

// decide writes the change that a result makes, unless the result would remove the instance and must not.
func (w *Worker) decide(ctx context.Context, e *target, o registry.Outcome, about *opinion) {
	removes := o.MakesUnhealthy()
	if removes && !w.mayRemove(w.ctx, o, about) { //nolint:contextcheck // the question ends with the worker; the write does not
		w.mu.Lock()
		defer w.mu.Unlock()
		e.deciding = false
		w.probeSoon(e)
		return
	}
	w.room <- struct{}{}
	is, err := w.Registry.ApplyResult(ctx, o)
	<-w.room
	if removes && err == nil {
		w.self.Remove(is.ID)
	}
	w.report(ctx, err)
	w.mu.Lock()
	defer w.mu.Unlock()
	e.deciding = false
	if e.share == nil {
		return
	}
	switch {
	case err == nil && e.compact.Rev() < is.Rev:
		w.update(e, replica.NewCompact(is))
	case errors.Is(err, app.ErrNotOwner):
		w.member.RequestFull()
	}
	if err != nil {
		w.probeSoon(e)
		return
	}
	w.schedule(e, e.compact.Instance())
}

// mayRemove reports whether a failure may remove its instance: the self-check allows the removal, and no other
// worker reaches the instance.
func (w *Worker) mayRemove(ctx context.Context, o registry.Outcome, about *opinion) bool {
	return w.self.Allow(ctx, o) && (!w.needsOpinion(o.Was, o.Result) || !w.isDisputed(ctx, o.Was, about))
}

// lookedUp counts failed lookups, and writes an event when they begin and when they end.
func (w *Worker) lookedUp(i app.Instance, r app.Result) {
	reason, changed := w.lookups.Record(i, r, w.Now())
	if !changed {
		return
	}
	kind := app.EventNamesBack
	if w.lookups.Failing() {
		kind = app.EventNamesFail
	}
	ctx := context.WithoutCancel(w.ctx)
	w.writes.Go(func() { w.Changed(ctx, kind, reason) })
}
