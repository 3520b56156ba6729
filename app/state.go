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
	i.Last, i.StreakAt, i.Due = Result{}, time.Time{}, time.Time{}
	if i.Check.Kind == None {
		return i.enter(Healthy, now)
	}
	if i.Check.Probed() {
		i.Due = now
	}
	return i
}

// Observe returns the instance as it stands after one result, reached at now. A result that
// says nothing about the instance, and an instance that this version does not understand,
// change nothing.
func (i Instance) Observe(r Result, now time.Time) Instance {
	if i.State == Draining || i.State == Gone || !r.Conclusive() || !i.Understood() {
		return i
	}
	if i.alive(r) {
		i.Deadline = now.Add(i.Check.Forget)
	}
	if i.State == Healthy && i.Check.Kind == Heartbeat && r.Passed {
		i.Deadline = now.Add(i.Check.Lease())
	}
	if r.Passed == (i.State == Healthy) {
		if i.Streak > 0 || (!r.Passed && r.Code != i.Last.Code) {
			i.Last = r
		}
		i.Streak = 0
		return i
	}
	if i.Streak == 0 {
		i.StreakAt = r.At
	}
	if i.State == Starting || i.State == Failed || i.State == Unhealthy {
		i.Streak++
		i.Last = r
		if i.Streak >= i.Check.Rise {
			return i.enter(Healthy, now)
		}
		return i
	}
	i.Streak++
	i.Last = r
	if i.Streak >= i.Check.Fall {
		return i.enter(Unhealthy, now)
	}
	return i
}

// alive reports whether a result begins the forget period anew: a report, good or bad, by
// an instance that reports by itself, and the first unanswered probe after answered ones.
func (i Instance) alive(r Result) bool {
	switch {
	case i.State != Unhealthy && i.State != Failed:
		return false
	case i.Check.Kind == Heartbeat:
		return true
	}
	return i.Last.Code.Answered() && !r.Code.Answered()
}

// Sick reports whether an instance whose forget period is over is still there: it is
// probed, fails, and answers. One that reports by itself has been silent for that long.
func (i Instance) Sick() bool {
	return (i.State == Unhealthy || i.State == Failed) && i.Check.Probed() && i.Last.Code.Answered()
}

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
			return i.enter(Unhealthy, now)
		}
		return i
	case Unhealthy, Failed, Draining:
		return i.enter(Gone, now)
	case Gone:
	}
	return i
}

// Drain returns the instance as it stands when it has been told to leave and keeps
// answering for hold.
func (i Instance) Drain(hold time.Duration, now time.Time) Instance {
	if i.State == Draining || i.State == Gone {
		return i
	}
	i = i.enter(Draining, now)
	i.Deadline = now.Add(hold)
	return i
}

// Retime returns the instance with its times in line with a check whose timing has
// changed: nothing comes later than the new timing says, and a lease begins anew.
func (i Instance) Retime(now time.Time) Instance {
	if next := i.NextDue(now, now); !i.Due.IsZero() && next.Before(i.Due) {
		i.Due = next
	}
	switch i.State {
	case Healthy:
		if lease := i.Check.Lease(); lease > 0 {
			i.Deadline = now.Add(lease)
		}
	case Starting:
		i.Deadline = i.ChangedAt.Add(i.Check.Grace)
	case Unhealthy, Failed:
		i.Deadline = i.ChangedAt.Add(i.Check.Forget)
	case Draining, Gone:
	}
	return i
}

// Leave returns the instance as it stands when it is gone.
func (i Instance) Leave(now time.Time) Instance { return i.enter(Gone, now) }

// enter moves the instance to a state and sets what ends that state by itself.
func (i Instance) enter(s State, now time.Time) Instance {
	i.State, i.Streak, i.ChangedAt = s, 0, now
	if s != Starting {
		i.Claims.Moved = ""
	}
	if s == Failed {
		i.ReplaceOver = i.Replaces != "" // its event says that the other one stays
	}
	switch s {
	case Healthy:
		i.Deadline = time.Time{}
		if lease := i.Check.Lease(); lease > 0 {
			i.Deadline = now.Add(lease)
		}
	case Unhealthy, Failed:
		i.Deadline = now.Add(i.Check.Forget)
	case Starting:
		i.Deadline = now.Add(i.Check.Grace)
	case Draining, Gone:
		i.Due, i.Deadline = time.Time{}, time.Time{}
	}
	return i
}
