package app

import "time"

// State is where an instance is in its life; the diagram is in the package comment.
type State string

// The states. Gone is never stored: it is what the last event of an instance says.
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

// Begin returns the instance as it stands when it has just been registered, or
// registered anew with another address, check or boot nonce.
func (i Instance) Begin(now time.Time) Instance {
	i = i.enter(Starting, now)
	i.Last, i.StreakAt, i.Falls = Result{}, time.Time{}, 0
	if i.Check.Kind == None {
		return i.enter(Healthy, now)
	}
	return i
}

// Observe returns the instance after one result, at now. An inconclusive result changes nothing,
// nor does any result of an instance that is draining or that this version does not understand.
func (i Instance) Observe(r Result, now time.Time) Instance {
	if i.State == Draining || i.State == Gone || !r.Conclusive() || !i.Understood() {
		return i
	}
	if r.Passed == (i.State == Healthy) {
		return i.confirm(r)
	}
	if i.Streak == 0 {
		i.StreakAt = r.At
	}
	i.Streak++
	i.Last = r
	if r.Passed {
		return i.rise(r, now)
	}
	if i.Streak >= i.Check.Fall {
		return i.fall(now)
	}
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
	return i.enter(Healthy, now)
}

// confirm returns the instance after a result that agrees with its state: the streak ends.
func (i Instance) confirm(r Result) Instance {
	if i.Streak > 0 || !r.Passed && r.Code != i.Last.Code {
		i.Last = r
	}
	i.Streak = 0
	return i
}

// Alive reports whether a result begins the forget period anew: a report, good or bad, by
// an instance that reports by itself, a pass, and the first unanswered probe after answered ones.
func (i Instance) Alive(r Result) bool {
	switch {
	case i.State != Unhealthy && i.State != Failed, !r.Conclusive():
		return false
	case i.Check.Kind == Heartbeat:
		return true
	}
	return r.Passed || i.Last.Code.Answered() && !r.Code.Answered()
}

// Sick reports whether an instance whose forget period is over is still there: it is
// probed, fails, and answers. One that reports by itself has been silent for that long.
func (i Instance) Sick() bool {
	return (i.State == Unhealthy || i.State == Failed) && i.Check.Probed() && i.Last.Code.Answered()
}

// The wait of a flapping instance. The figures are those of Kubernetes' back-off of a
// container that crashes again and again.
const (
	FirstWait   = 10 * time.Second // after the second time that it became unhealthy; doubled with each further one
	LongestWait = 5 * time.Minute
	CalmAfter   = 10 * time.Minute // healthy for so long, an instance is flapping no more
)

// fall returns the instance as it stands when it has become unhealthy.
func (i Instance) fall(now time.Time) Instance {
	if now.Sub(i.ChangedAt) >= CalmAfter {
		i.Falls = 0
	}
	i.Falls++
	return i.enter(Unhealthy, now)
}

// Wait returns how long an unhealthy instance has to pass without a failure, besides Rise
// passes, before it is healthy. It is 0 after the first fall.
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

// Waits reports whether the instance has passed often enough to be healthy, but not for
// long enough.
func (i Instance) Waits() bool {
	return (i.State == Unhealthy || i.State == Failed) && i.Streak > 0 && i.Streak >= i.Check.Rise
}

// Flapping reports whether the instance has become unhealthy again and again, and has not
// been healthy for CalmAfter since.
func (i Instance) Flapping(now time.Time) bool {
	return i.Falls >= 2 && (i.State != Healthy || now.Sub(i.ChangedAt) < CalmAfter)
}

// EndWait returns an instance that waits as it stands when it is healthy at once, because
// its service needs it.
func (i Instance) EndWait(now time.Time) Instance { return i.enter(Healthy, now) }

// Expire returns the instance as it stands once its deadline has passed. One that this
// version does not understand stays as it is.
func (i Instance) Expire(now time.Time) Instance {
	if !i.Understood() {
		return i
	}
	switch i.State {
	case Starting:
		return i.enter(Failed, now)
	case Healthy:
		if i.Check.Kind == Heartbeat {
			i.Last = Result{At: now, Code: NoHeartbeat, Detail: "none for " + i.Check.Lease().String()}
			return i.fall(now)
		}
		return i
	case Unhealthy, Failed, Draining:
		return i.enter(Gone, now)
	case Gone:
	}
	return i
}

// Drain returns the instance in state draining, for a drain period. A draining instance is
// returned unchanged.
func (i Instance) Drain(period time.Duration, now time.Time) Instance {
	if i.State == Draining || i.State == Gone {
		return i
	}
	i = i.enter(Draining, now)
	i.DrainPeriod = period
	return i
}

// StateTimeout is how long the present state lasts before it ends by itself, and whether it does.
// The owner of the instance measures that time; an assertion of an instance begins the time
// of a lease, and the time until an unhealthy instance is removed, anew.
// Of an instance that this version does not understand, no state ends.
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

// Deadline is when the present state ends by itself, for people: it is on the registry's
// clock, and later when the registry was out of reach. It is zero when the state does not end.
func (i Instance) Deadline() time.Time {
	after, ends := i.StateTimeout()
	if !ends {
		return time.Time{}
	}
	return latest(i.ChangedAt, i.AssertedAt).Add(after)
}

// Probed reports whether the instance is to be probed, by this version.
func (i Instance) Probed() bool {
	return i.Check.Probed() && i.State != Draining && i.State != Gone && i.Understood()
}

// SameProbe reports whether a result of one counts for the other: the same instance, probed
// at the same address by the same check.
func (i Instance) SameProbe(o Instance) bool {
	return i.Address == o.Address && i.Check == o.Check && i.Boot == o.Boot && i.RegisteredAt.Equal(o.RegisteredAt)
}

// Remove returns the instance as it stands when it is gone.
func (i Instance) Remove(now time.Time) Instance { return i.enter(Gone, now) }

// enter moves the instance to a state.
func (i Instance) enter(s State, now time.Time) Instance {
	i.State, i.Streak, i.ChangedAt, i.DrainPeriod = s, 0, now, 0
	if s != Starting {
		i.Claims.Moved = ""
	}
	if s == Failed {
		i.ReplaceOver = i.Replaces != "" // its event says that the other one stays
	}
	return i
}
