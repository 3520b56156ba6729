package jobs

import (
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/replica"
)

const (
	slot        = 100 * time.Millisecond // probes due within one slot start together, which costs a third less than separate starts
	wheelSlots  = 4096
	catchUp     = 3 * time.Second        // a probe that is later than this and an interval waits for its phase
	clockStep   = 500 * time.Millisecond // a larger change of the difference to the store's clock is a step of that clock
	leaveWithin = 4 * time.Second
	hurryEvery  = time.Second      // the least time between two probes of an instance that are brought forward
	mostCredit  = 10 * time.Minute // the most that a one-shot run adds to elapsed times for the time since the last run
)

// target is an instance that the worker owns.
type target struct {
	compact     *replica.Compact // the last written document; other processes write it too
	hash        uint64           // of the id
	share       *share           // nil once the worker has dropped the instance
	probe       ownership.Timer[target]
	stateEnd    *ending // nil: the state has no timeout
	overrideEnd *ending // nil: the instance has no override
	history     app.History
	counter     *counter // of its service
	due         int64    // when the last probe was due, ms since 1970
	next        int64    // the latest time of the next probe, set by an announcement, ms since 1970; 0: no limit
	hurried     int64    // when a probe was last brought forward, ms since 1970; 0: never
	queued      bool     // the probe waits for a place or is in progress
	deciding    bool     // a change of the instance is being written
	again       bool     // the next probe is due as soon as the present one, or the write, has ended
	foreign     bool     // the instance has fields that only a newer version knows
	clear       bool     // a proxy has marked it; a pass clears the marks
}

// ending is the timeout of a state or of an override. All its times are on the running clock.
type ending struct {
	timer    ownership.Timer[ending]
	target   *target
	began    int64 // when the state or the override began
	at       int64 // when the timeout is due
	looked   int64 // when the worker last read the heartbeat
	beat     int64 // the heartbeat that it read then, by the store's clock
	override bool
}

// applyChange applies a change of the replica. The replica calls it with its lock held.
func (w *Worker) applyChange(id string, was, is *replica.Compact) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.countChange(was, is)
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

// add begins to work on an instance. A nil p means that the instance is new in the replica. Otherwise flushed
// reports whether its last owner flushed its progress, and p is that progress.
func (w *Worker) add(sh *share, h *replica.Compact, p *ownership.Progress, flushed bool) {
	e := &target{compact: h, share: sh, hash: ownership.Hash(h.ID())}
	e.probe.Value = e
	sh.entries[h.ID()] = e
	w.entries++
	i := h.Instance()
	isNew := p == nil
	if isNew || p.Changed != i.ChangedAt.UnixMilli() {
		p, flushed = &ownership.Progress{}, false
	}
	e.countIn(sh.counts(i.Service))
	e.history.Unpack(p.History)
	w.countForeign(e, i)
	w.self.Add(i)
	w.setStateEnd(e, i, p.Elapsed)
	w.setOverrideEnd(e, i, p.Left)
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

// update applies a newer document of an instance.
func (w *Worker) update(e *target, h *replica.Compact) {
	if h.Rev() == e.compact.Rev() {
		return // this worker wrote it
	}
	was, is := e.compact.Instance(), h.Instance()
	e.compact = h
	if is.State != app.Healthy || !was.SameProbe(is) {
		w.opinions.endDispute(is.ID)
	}
	if was.Service != is.Service {
		e.countIn(e.share.counts(is.Service))
	}
	e.flipped(was.State, is.State)
	w.countForeign(e, is)
	w.self.Add(is)
	w.updateEndings(e, was, is)
	w.updateProbe(e, was, is)
}

// updateEndings sets the timeouts that a newer document changes.
func (w *Worker) updateEndings(e *target, was, is app.Instance) {
	if was.State != is.State || !was.ChangedAt.Equal(is.ChangedAt) {
		w.setStateEnd(e, is, 0)
	} else if was.Check != is.Check {
		w.resetStateEnd(e, is)
	}
	if was.Override != is.Override {
		w.setOverrideEnd(e, is, 0)
	}
}

// updateProbe sets the next probe if a newer document changes it.
func (w *Worker) updateProbe(e *target, was, is app.Instance) {
	switch {
	case !is.Probed():
		w.wheel.Stop(&e.probe)
	case e.busy():
		e.again = e.again || !was.SameProbe(is)
	case !was.SameProbe(is), !was.Probed():
		w.probe(e)
	case was.Check.Interval > is.Check.Interval, was.Streak != is.Streak:
		w.schedule(e, is)
	}
}

// remove stops all work on an instance. The instance stays in the map of its share.
func (w *Worker) remove(e *target) {
	w.wheel.Stop(&e.probe)
	w.stop(&e.stateEnd)
	w.stop(&e.overrideEnd)
	e.share = nil
	w.opinions.forget(e.compact.ID())
	e.countIn(nil)
	w.entries--
	if e.foreign {
		w.foreign--
	}
}

// countForeign counts the instances with fields that only a newer version knows.
func (w *Worker) countForeign(e *target, i app.Instance) {
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

// schedule sets the next probe of an instance after a result.
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

// scheduleAt sets the next probe of an instance at a pace, after a result at now.
func (w *Worker) scheduleAt(e *target, interval time.Duration, pace ownership.Pace, now int64) {
	due := ownership.Due(e.hash, interval, pace, max(now, e.due))
	if e.next > 0 {
		due, e.next = min(due, e.next), 0
	}
	w.wheel.Put(&e.probe, due)
}

// probeSoon schedules an early probe of an instance whose last result did not count.
func (w *Worker) probeSoon(e *target) {
	if e.share != nil && e.compact.Instance().Probed() {
		w.wheel.Put(&e.probe, ownership.Due(e.hash, e.compact.Interval(), ownership.Soon, w.ms()))
	}
}

// ProbeNow probes an instance at once, if the worker owns it. With clearMarks, a pass
// removes the marks of its backends. ProbeNow reports whether it has brought a probe forward. It
// brings forward one probe within hurryEvery. Within that time it instead limits the time of the
// next probe, because the present probe may have begun before the mark was set.
func (w *Worker) ProbeNow(id string, clearMarks bool) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	sh := w.shards[ownership.ShardOf(id)]
	if sh == nil || sh.entries[id] == nil || !sh.entries[id].compact.Instance().Probed() {
		return false
	}
	e := sh.entries[id]
	e.clear = e.clear || clearMarks
	return w.hurry(e)
}

// hurry brings the probe of an instance forward, or limits the time of the next one.
func (w *Worker) hurry(e *target) (forward bool) {
	now, next := w.ms(), e.hurried+hurryEvery.Milliseconds()
	forward = e.hurried == 0 || now >= next
	switch {
	case forward && e.busy(): // the probe may have begun before there was a reason to ask
		e.hurried, e.again = now, true
	case forward:
		e.hurried = now
		w.probe(e)
	case e.busy():
		e.next = next
	case e.probe.At() > next:
		w.wheel.Put(&e.probe, next)
	}
	return forward
}

// busy reports whether a probe is queued or under way, or its result is being written.
func (e *target) busy() bool { return e.queued || e.deciding }

// setStateEnd sets when the present state of an instance ends. elapsed is the part of the timeout that has passed, in ms.
func (w *Worker) setStateEnd(e *target, i app.Instance, elapsed int64) {
	w.stop(&e.stateEnd)
	if d, ends := i.StateTimeout(); ends {
		e.stateEnd = &ending{target: e, began: w.runs() - elapsed, looked: w.runs() - elapsed}
		e.stateEnd.timer.Value = e.stateEnd
		w.endAt(e.stateEnd, e.stateEnd.began+d.Milliseconds())
	}
}

// resetStateEnd adjusts the timeout of a state to a check with another timing.
func (w *Worker) resetStateEnd(e *target, i app.Instance) {
	if e.stateEnd == nil {
		w.setStateEnd(e, i, 0)
		return
	}
	began := e.stateEnd.began
	if i.State == app.Healthy {
		began = w.runs() // the lease starts again
	}
	w.setStateEnd(e, i, w.runs()-began)
}

// setOverrideEnd sets when the override of an instance expires. left is the time in ms that the last
// owner flushed, or 0 if there is none.
func (w *Worker) setOverrideEnd(e *target, i app.Instance, left int64) {
	w.stop(&e.overrideEnd)
	if i.Override == (app.Override{}) {
		return
	}
	if left <= 0 {
		left = max(i.Override.Until.Sub(w.Now()).Milliseconds(), 1)
	}
	e.overrideEnd = &ending{target: e, began: w.runs(), override: true}
	e.overrideEnd.timer.Value = e.overrideEnd
	w.endAt(e.overrideEnd, w.runs()+left)
}

// endAt sets when an ending is due. The worker looks at endings once a second, and never before they are due.
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
