package jobs

import (
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/replica"
)

const (
	slot        = 100 * time.Millisecond // probes due within one start together: a third cheaper than one by one
	wheelSlots  = 4096
	catchUp     = 3 * time.Second        // a probe that is later than that and an interval waits for its phase
	clockStep   = 500 * time.Millisecond // the store's clock was set when it is so far off what it was
	leaveWithin = 4 * time.Second
	hurryEvery  = time.Second      // at most, probes of an instance are brought forward
	mostCredit  = 10 * time.Minute // that one run adds to the time that has passed, for the time since the last run
)

// target is an instance that the worker owns.
type target struct {
	held     *replica.Compact // as it was last written; not by this worker only
	hash     uint64           // of the id
	share    *share           // nil once the worker has let go of it
	probe    ownership.Timer[target]
	ends     *ending // nil: the state does not end by itself
	restore  *ending // nil: there is no override
	history  app.History
	due      int64 // when the last probe was due, ms since 1970
	next     int64 // when the next probe is due at the latest, because of an announcement; 0: as ever
	hurried  int64 // when a probe was last brought forward, ms since 1970; 0: never
	queued   bool  // waits for a place, or is being probed
	deciding bool  // a change of it is being written
	again    bool  // due at once when that is over
	foreign  bool  // only a newer version understands it
	clear    bool  // a proxy has marked it: a pass clears the marks
}

// ending is a time that passes while the worker owns the instance.
type ending struct {
	timer    ownership.Timer[ending]
	target   *target
	began    int64 // when it began, on the running clock
	at       int64 // when it is due, on the running clock
	looked   int64 // when the assertion was last looked at, on the running clock
	beat     int64 // the assertion that was seen then
	override bool
}

// heard takes a change of the replica. It is called with the replica locked.
func (w *Worker) heard(id string, is *replica.Compact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sh := w.shards[ownership.ShardOf(id)]
	if sh == nil {
		return
	}
	e := sh.entries[id]
	switch {
	case is == nil && e != nil:
		w.remove(e)
		delete(sh.entries, id)
	case is == nil:
	case e == nil:
		w.add(sh, is, nil, false)
	default:
		w.update(e, is)
	}
}

// add begins to work on an instance. p is what its last owner flushed, if anything.
func (w *Worker) add(sh *share, h *replica.Compact, p *ownership.Progress, flushed bool) {
	e := &target{held: h, share: sh, hash: ownership.Hash(h.ID())}
	e.probe.Value = e
	sh.entries[h.ID()] = e
	w.entries++
	i := h.Instance()
	isNew := p == nil
	if isNew || p.Changed != i.ChangedAt.UnixMilli() {
		p, flushed = &ownership.Progress{}, false
	}
	e.history.Unpack(p.History)
	w.understand(e, i)
	w.self.meet(i)
	w.time(e, i, p.Elapsed)
	w.overridden(e, i, p.Left)
	if !i.Probed() {
		return
	}
	now := w.ms()
	switch {
	case isNew, flushed && p.Due > 0 && p.Due <= now, !flushed && w.once, i.State == app.Starting:
		w.probe(e)
	case flushed && i.Streak > 0:
		w.wheel.Put(&e.probe, ownership.Due(e.hash, i.Check.Interval, ownership.Now, now))
	default:
		w.wheel.Put(&e.probe, ownership.Due(e.hash, i.Check.Interval, ownership.Steady, now))
	}
}

// update takes another document of an instance.
func (w *Worker) update(e *target, h *replica.Compact) {
	if h.Rev() == e.held.Rev() {
		return // what this worker has written itself
	}
	was, is := e.held.Instance(), h.Instance()
	e.held = h
	if is.State != app.Healthy || !was.SameProbe(is) {
		w.opinions.answers(is.ID)
	}
	w.understand(e, is)
	w.self.meet(is)
	if was.State != is.State || !was.ChangedAt.Equal(is.ChangedAt) {
		w.time(e, is, 0)
	} else if was.Check != is.Check {
		w.retime(e, is)
	}
	if was.Override != is.Override {
		w.overridden(e, is, 0)
	}
	switch {
	case !is.Probed():
		w.wheel.Stop(&e.probe)
	case e.queued || e.deciding:
		e.again = e.again || !was.SameProbe(is)
	case !was.SameProbe(is) || !was.Probed():
		w.probe(e)
	case was.Check.Interval > is.Check.Interval || was.Streak != is.Streak:
		w.schedule(e, is)
	}
}

// remove stops all work on an instance. It stays in its shard's map.
func (w *Worker) remove(e *target) {
	w.wheel.Stop(&e.probe)
	w.stop(&e.ends)
	w.stop(&e.restore)
	e.share = nil
	w.opinions.forget(e.held.ID())
	w.entries--
	if e.foreign {
		w.foreign--
	}
}

// understand counts instances that only a newer version understands.
func (w *Worker) understand(e *target, i app.Instance) {
	was := e.foreign
	if e.foreign = !i.Understood(); e.foreign == was {
		return
	}
	if was {
		w.foreign--
		return
	}
	if w.foreign++; w.foreign == 1 {
		w.Log.Warn("a newer version of Rollcall has written instances with fields that this version does not know; "+
			"it leaves their checks to the newer version's cron", "instance", i.ID)
	}
}

// schedule sets when an instance is probed next, after a result.
func (w *Worker) schedule(e *target, i app.Instance) {
	if e.share == nil || !i.Probed() {
		return
	}
	if e.again {
		e.again = false
		w.probe(e)
		return
	}
	w.scheduleAt(e, i.Check.Interval, pace(i), w.ms())
}

// scheduleAt schedules the next probe of an instance at a pace, after a result that was reached at now.
func (w *Worker) scheduleAt(e *target, interval time.Duration, pace ownership.Pace, now int64) {
	due := ownership.Due(e.hash, interval, pace, max(now, e.due))
	if e.next > 0 {
		due, e.next = min(due, e.next), 0
	}
	w.wheel.Put(&e.probe, due)
}

// soon has an instance probed again after a moment: its last result did not count.
func (w *Worker) soon(e *target) {
	if e.share != nil && e.held.Instance().Probed() {
		w.wheel.Put(&e.probe, ownership.Due(e.hash, e.held.Interval(), ownership.Soon, w.ms()))
	}
}

// ProbeNow has an instance probed at once, if the worker owns it. With clearMarks, a pass
// removes the marks of its backends. It reports whether the probe begins now: not when another
// reason has brought one forward within hurryEvery, and that one may be under way. Then the next
// probe comes after it, so that a slow one gets its result and a mark does not stay.
func (w *Worker) ProbeNow(id string, clearMarks bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	sh := w.shards[ownership.ShardOf(id)]
	if sh == nil || sh.entries[id] == nil || !sh.entries[id].held.Instance().Probed() {
		return false
	}
	e, now := sh.entries[id], w.ms()
	e.clear = e.clear || clearMarks
	early := e.hurried == 0 || now-e.hurried >= hurryEvery.Milliseconds()
	switch {
	case early && (e.queued || e.deciding): // it may have begun before there was a reason to ask
		e.hurried, e.again = now, true
	case early:
		e.hurried = now
		w.probe(e)
	case e.queued || e.deciding:
		e.next = e.hurried + hurryEvery.Milliseconds()
	case e.probe.At() > e.hurried+hurryEvery.Milliseconds():
		w.wheel.Put(&e.probe, e.hurried+hurryEvery.Milliseconds())
	}
	return early
}

// time sets when the present state of an instance ends by itself, of which some has passed.
func (w *Worker) time(e *target, i app.Instance, elapsed int64) {
	w.stop(&e.ends)
	if d, ends := i.StateTimeout(); ends {
		e.ends = &ending{target: e, began: w.runs() - elapsed, looked: w.runs() - elapsed}
		e.ends.timer.Value = e.ends
		w.endAt(e.ends, e.ends.began+d.Milliseconds())
	}
}

// retime is time for a check whose timing has changed.
func (w *Worker) retime(e *target, i app.Instance) {
	if e.ends == nil {
		w.time(e, i, 0)
		return
	}
	began := e.ends.began
	if i.State == app.Healthy {
		began = w.runs() // a lease begins anew
	}
	w.time(e, i, w.runs()-began)
}

// overridden sets when the override of an instance expires; left is how much of it the last
// owner had left, or 0.
func (w *Worker) overridden(e *target, i app.Instance, left int64) {
	w.stop(&e.restore)
	if i.Override == (app.Override{}) {
		return
	}
	if left <= 0 {
		left = max(i.Override.Until.Sub(w.Now()).Milliseconds(), 1)
	}
	e.restore = &ending{target: e, began: w.runs(), override: true}
	e.restore.timer.Value = e.restore
	w.endAt(e.restore, w.runs()+left)
}

// endAt sets when an ending is due, which is looked at once a second: not before.
func (w *Worker) endAt(e *ending, at int64) {
	e.at = at
	w.endings.Put(&e.timer, at+time.Second.Milliseconds()-1)
}

func (w *Worker) stop(e **ending) {
	if *e != nil {
		w.endings.Stop(&(*e).timer)
		*e = nil
	}
}
