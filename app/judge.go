package app

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// Outcome is what became of a claimed check.
type Outcome struct {
	Claim  Claim
	Result Result
}

// Removes reports whether the result takes a healthy instance out of service.
func (o Outcome) Removes() bool {
	was := o.Claim.Instance
	return was.State == Healthy && was.Observe(o.Result, o.Result.At).State != Healthy
}

// Decide splits outcomes into the instances that change, and have to be written one
// by one with Judge, and the settlements of those that do not.
func (r *Registry) Decide(outcomes []Outcome) (change []Outcome, same []Settlement) {
	now := r.now()
	for _, o := range outcomes {
		was := o.Claim.Instance
		is := was.Observe(o.Result, now)
		if decided(was, is) || is.Waits() {
			change = append(change, o)
			continue
		}
		s := Settlement{Claim: o.Claim, Due: is.NextDue(o.Claim.Due, now), Result: &o.Result}
		if o.Result.Code == Inconclusive || o.Result.Code == NotUnderstood || !was.Understood() { // the check is made again soon, and this result is not shown
			s.Result = nil
			if soon := latest(o.Claim.Due, now).Add(undecidedInterval); s.Due.After(soon) {
				s.Due = soon
			}
		}
		same = append(same, s)
	}
	return change, same
}

// Judge applies the result of a claimed probe to its instance and returns it as it
// stands then. An instance that becomes healthy takes over from the one it replaces
// in the same step. It returns ErrClaimLost when the result came too late to count.
func (r *Registry) Judge(ctx context.Context, o Outcome) (Instance, error) {
	was, is := o.Claim.Instance, Instance{}
	err := r.retry(ctx, func() error {
		now := r.now()
		var err error
		if is, err = r.observe(ctx, was, o.Result, now); err != nil {
			return err
		}
		if is.State != Draining {
			is.Due = is.NextDue(o.Claim.Due, now)
		}
		err = r.commitResult(ctx, was, is, &o.Claim)
		if errors.Is(err, ErrConflict) {
			if was, err = r.store.Get(ctx, was.ID); errors.Is(err, ErrNotFound) {
				return ErrClaimLost
			} else if err == nil {
				err = ErrConflict
			}
		}
		return err
	})
	if err != nil {
		return Instance{}, fmt.Errorf("judge %s: %w", o.Claim.Instance.ID, err)
	}
	return is, nil
}

// observe returns an instance as it stands after a result. A flapping one that passes
// waits only while its service can spare it.
func (r *Registry) observe(ctx context.Context, was Instance, result Result, now time.Time) (Instance, error) {
	is := was.Observe(result, now)
	if !is.Waits() {
		return is, nil
	}
	spare, err := r.store.CanSpare(ctx, is)
	if err != nil || spare {
		return is, err
	}
	return is.EndWait(now), nil
}

// Expire ends the state of an instance whose deadline has passed, as claimed from
// the queue of deadlines. A sick instance gets another forget period if a vhost of it has
// no other backend.
func (r *Registry) Expire(ctx context.Context, c Claim) error {
	now := r.now()
	was := c.Instance
	is := was.Expire(now)
	var event *Event
	if is.State == was.State { // nothing ends by itself: the queue is wrong, not the instance
		is.Deadline = time.Time{}
	} else {
		event = eventOf(EventKind(is.State), was, is, now, expiryReason(was, is))
	}
	step := Step{Was: was, Is: is, Event: event, Claim: &c, Spare: was.Sick()}
	_, err := r.commit(ctx, Change{Steps: []Step{step}})
	if errors.Is(err, ErrLastBackend) {
		is = was
		is.Deadline = now.Add(was.Check.Forget)
		_, err = r.commit(ctx, Change{Steps: []Step{{Was: was, Is: is, Claim: &c}}})
	}
	if err != nil {
		return fmt.Errorf("expire %s: %w", was.ID, err)
	}
	return nil
}

func expiryReason(was, is Instance) string {
	switch was.State {
	case Starting:
		reason := "not healthy within its grace of " + was.Check.Grace.String()
		if was.Last.Code != OK || was.Last.Detail != "" {
			reason += " (" + was.Last.Reason() + ")"
		}
		if was.Replaces != "" {
			reason += "; " + was.Replaces + " stays"
		}
		return reason
	case Healthy:
		return verdictReason(was, is)
	case Unhealthy, Failed:
		if was.Check.Probed() && !was.Last.Code.Answered() {
			return fmt.Sprintf("gone: no answer for %s (%s)", was.Check.Forget, was.Last.Reason())
		}
		return fmt.Sprintf("%s for %s (%s)", was.State, is.ChangedAt.Sub(was.ChangedAt).Round(time.Second), was.Last.Reason())
	case Draining:
		return "drained"
	case Gone:
	}
	return ""
}

// verdictReason says why a result has changed the state.
func verdictReason(was, is Instance) string {
	reason := is.Last.Reason()
	switch {
	case is.State == Unhealthy && is.Falls >= 2:
		return fmt.Sprintf("%s; flapping: unhealthy %d times, it has to pass for %s before it is healthy again", reason, is.Falls, is.Wait())
	case is.State == Healthy && was.Falls >= 2 && is.Last.At.Sub(is.StreakAt) < was.Wait():
		return reason + "; flapping, and healthy without a wait: fewer than half of its service's instances are routable"
	case is.State == Healthy && was.Falls >= 2:
		return fmt.Sprintf("%s for %s; it was flapping", reason, was.Wait())
	}
	return reason
}

// commitResult writes what one result made of an instance.
func (r *Registry) commitResult(ctx context.Context, was, is Instance, claim *Claim) error {
	step := Step{Was: was, Is: is, Claim: claim}
	if is.State != was.State {
		step.Event = eventOf(EventKind(is.State), was, is, is.ChangedAt, verdictReason(was, is))
	}
	change, err := r.takeover(ctx, step, Change{})
	if err != nil {
		return err
	}
	return r.commitOrLeave(ctx, change, is.ID)
}

// decided reports whether a result changed anything that is worth a write of its own.
func decided(was, is Instance) bool {
	return is.State != was.State || is.Streak != was.Streak || is.Last.Code != was.Last.Code
}
