package app

import "time"

// State is the phase of an instance's life. The package comment has the diagram.
type State string

// The states. Gone is never stored: only the last event of an instance has it.
const (
	Starting  State = "starting"
	Healthy   State = "healthy"
	Unhealthy State = "unhealthy"
	Failed    State = "failed"
	Draining  State = "draining"
	Gone      State = "gone"
)

func (s State) known() bool {
	switch s {
	case Starting, Healthy, Unhealthy, Failed, Draining, Gone:
		return true
	}
	return false
}

// Begin returns the instance in the state after its registration, or after a registration with
// another address, check or boot nonce.
func (i Instance) Begin(now time.Time) Instance {
	i = i.Enter(Starting, now)
	i.Last, i.StreakAt, i.Falls = Result{}, time.Time{}, 0
	if i.Check.Kind == None {
		return i.Enter(Healthy, now)
	}
	return i
}

// Observe returns the instance after one result, at now. An inconclusive result changes nothing,
// nor does any result of an instance that is draining or that this version does not understand.
func (i Instance) Observe(r Result, now time.Time) Instance {
	if i.leaving() || !r.Conclusive() || !i.Understood() {
		return i
	}
	if r.Passed == (i.State == Healthy) {
		return i.confirm(r)
	}
	i = i.count(r)
	if r.Passed {
		return i.rise(r, now)
	}
	if i.Streak >= i.Check.Fall {
		return i.fall(now)
	}
	return i
}

// leaving reports whether the instance is draining or gone, which no result changes.
func (i Instance) leaving() bool { return i.State == Draining || i.State == Gone }

// count returns the instance with one more result in its streak.
func (i Instance) count(r Result) Instance {
	if i.Streak == 0 {
		i.StreakAt = r.At
	}
	i.Streak++
	i.Last = r
	return i
}

// rise returns an instance that is not healthy after a pass.
func (i Instance) rise(r Result, now time.Time) Instance {
	if i.Streak < i.Check.Rise {
		return i
	}
	i.Streak = i.Check.Rise
	if r.At.Sub(i.StreakAt) < i.Wait() {
		return i
	}
	return i.Enter(Healthy, now)
}

// confirm returns the instance after a result that agrees with its state: the streak ends.
func (i Instance) confirm(r Result) Instance {
	if i.Streak > 0 || !r.Passed && r.Code != i.Last.Code {
		i.Last = r
	}
	i.Streak = 0
	return i
}

// Alive reports whether a result starts the forget period again: a pass, a report of either kind by
// an instance that reports by itself, or the first unanswered probe after answered ones.
func (i Instance) Alive(r Result) bool {
	switch {
	case i.State != Unhealthy && i.State != Failed, !r.Conclusive():
		return false
	case i.Check.Kind == Heartbeat:
		return true
	}
	return r.Passed || i.Last.Code.Answered() && !r.Code.Answered()
}

// Sick reports whether an instance whose forget period is over is sick: a probed instance whose
// last failure was an answer. An instance that reports by itself is never sick then, because it
// sent no report for that long.
func (i Instance) Sick() bool {
	return (i.State == Unhealthy || i.State == Failed) && i.Check.Probed() && i.Last.Code.Answered()
}

// The wait of a flapping instance. Kubernetes uses the same figures for the back-off of a
// container that crashes again and again.
const (
	FirstWait   = 10 * time.Second // after the second time that it became unhealthy; doubled with each further time
	LongestWait = 5 * time.Minute
	CalmAfter   = 10 * time.Minute // an instance that has been healthy for so long is no longer flapping
)

// fall returns the instance after the failure that makes it unhealthy.
func (i Instance) fall(now time.Time) Instance {
	if now.Sub(i.ChangedAt) >= CalmAfter {
		i.Falls = 0
	}
	i.Falls++
	return i.Enter(Unhealthy, now)
}

// Wait returns how long an unhealthy instance has to pass without a failure, in addition to Rise
// passes, until it is healthy. It is 0 after the first fall.
func (i Instance) Wait() time.Duration {
	wait := FirstWait
	for n := 2; n < i.Falls && wait < LongestWait; n++ {
		wait *= 2
	}
	if i.Falls < 2 {
		return 0
	}
	return min(wait, LongestWait)
}

// Waits reports whether the instance has passed often enough to be healthy, but not for long
// enough.
func (i Instance) Waits() bool {
	return (i.State == Unhealthy || i.State == Failed) && i.Streak > 0 && i.Streak >= i.Check.Rise
}

// Flapping reports whether the instance has become unhealthy repeatedly, and has not been healthy
// for CalmAfter since.
func (i Instance) Flapping(now time.Time) bool {
	return i.Falls >= 2 && (i.State != Healthy || now.Sub(i.ChangedAt) < CalmAfter)
}

// EndWait returns a waiting instance in state healthy. Its service needs it now.
func (i Instance) EndWait(now time.Time) Instance { return i.Enter(Healthy, now) }

// Expire returns the instance after the end of its state's time. An instance that this version does
// not understand stays as it is.
func (i Instance) Expire(now time.Time) Instance {
	if !i.Understood() {
		return i
	}
	switch i.State {
	case Starting:
		return i.Enter(Failed, now)
	case Healthy:
		if i.Check.Kind == Heartbeat {
			i.Last = Result{At: now, Code: NoHeartbeat, Detail: "none for " + i.Check.Lease().String()}
			return i.fall(now)
		}
		return i
	case Unhealthy, Failed, Draining:
		return i.Enter(Gone, now)
	case Gone:
	}
	return i
}

// Drain returns the instance in state draining, for a drain period. A draining instance is
// returned unchanged.
func (i Instance) Drain(period time.Duration, now time.Time) Instance {
	if i.leaving() {
		return i
	}
	i = i.Enter(Draining, now)
	i.DrainPeriod = period
	return i
}

// StateTimeout returns how long the present state can last, and whether its time is limited. The
// owner of the instance measures the time. A report starts the time of a lease again, and so it
// does for the forget period. If this version does not understand the instance, no state's time is
// limited.
func (i Instance) StateTimeout() (after time.Duration, ends bool) {
	if !i.Understood() {
		return 0, false
	}
	switch i.State {
	case Starting:
		return i.Check.Grace, true
	case Healthy:
		return i.Check.Lease(), i.Check.Kind == Heartbeat
	case Unhealthy, Failed:
		after = i.Check.Forget
		if i.Streak > 0 { // it is not forgotten while it passes
			after += i.Wait()
		}
		return after, true
	case Draining:
		return i.DrainPeriod, true
	case Gone:
	}
	return 0, false
}

// Deadline returns when the time of the present state is over, for people. It is on the registry's
// clock, and too early if the registry was unreachable meanwhile. It is zero if the time is not
// limited.
func (i Instance) Deadline() time.Time {
	after, ends := i.StateTimeout()
	if !ends {
		return time.Time{}
	}
	return latest(i.ChangedAt, i.AssertedAt).Add(after)
}

// Probed reports whether this version probes the instance.
func (i Instance) Probed() bool {
	return i.Check.Probed() && !i.leaving() && i.Understood()
}

// SameProbe reports whether a result of one counts for the other: it is the same start of the same
// instance, with the same address and check.
func (i Instance) SameProbe(o Instance) bool {
	return i.Address == o.Address && i.Check == o.Check && i.Boot == o.Boot && i.RegisteredAt.Equal(o.RegisteredAt)
}

// Remove returns the instance in state gone.
func (i Instance) Remove(now time.Time) Instance { return i.Enter(Gone, now) }

// Enter moves the instance to a state.
func (i Instance) Enter(s State, now time.Time) Instance {
	i.State, i.Streak, i.ChangedAt, i.DrainPeriod = s, 0, now, 0
	if s != Starting {
		i.Claims.Moved = ""
	}
	if s == Failed {
		i.ReplaceOver = i.Replaces != "" // its event says that the other one stays
	}
	return i
}
