package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/app"
)

// Outcome is the result of one probe.
type Outcome struct {
	Was    app.Instance // as it was probed
	Result app.Result
	Fence  app.Fence // of the worker that probed it
}

// MakesUnhealthy reports whether the result makes a healthy instance unhealthy.
func (o Outcome) MakesUnhealthy() bool {
	return o.Was.State == app.Healthy && o.Was.Observe(o.Result, o.Result.At).State != app.Healthy
}

// Changes reports whether the result, at now, changes a field that is worth a write, or the
// instance passes during its wait.
func (o Outcome) Changes(now time.Time) bool {
	is := o.Was.Observe(o.Result, now)
	return worthWriting(o.Was, is) || is.Waits()
}

// ApplyResult applies a result to its instance and returns the instance as it stands then. An
// instance that becomes healthy takes over from the one it replaces in the same step. It
// returns ErrNotOwner when the result does not count: another worker owns the instance, or
// the instance is not the one that was probed any more.
func (r *Registry) ApplyResult(ctx context.Context, o Outcome) (app.Instance, error) {
	was, applied := o.Was, app.Instance{}
	err := r.retry(ctx, func() error {
		now := r.now()
		is, err := r.observe(ctx, was, o.Result, now)
		if err != nil {
			return err
		}
		step := app.Step{Was: was, Is: is, Asserts: was.Alive(o.Result)}
		err = r.commitResult(ctx, &step, o.Fence)
		if applied = step.Is; !errors.Is(err, app.ErrConflict) {
			return err
		}
		if was, err = r.refresh(ctx, o.Was); err != nil {
			return err
		}
		return app.ErrConflict
	})
	if err != nil {
		return app.Instance{}, fmt.Errorf("apply a result to %s: %w", o.Was.ID, err)
	}
	return applied, nil
}

// refresh returns an instance as stored, with the streak of its owner. It returns ErrNotOwner if the result belongs to
// another probe now.
func (r *Registry) refresh(ctx context.Context, was app.Instance) (app.Instance, error) {
	fresh, err := r.store.Get(ctx, was.ID)
	switch {
	case errors.Is(err, app.ErrNotFound), err == nil && !fresh.SameProbe(was):
		return app.Instance{}, app.ErrNotOwner
	case err != nil:
		return app.Instance{}, err
	}
	if fresh.State == was.State { // the owner counts the streak: a pass ends one without a write
		fresh.Streak, fresh.StreakAt = was.Streak, was.StreakAt
	}
	return fresh, nil
}

// observe returns an instance after a result. A flapping instance that passes waits only while its
// service can spare it.
func (r *Registry) observe(ctx context.Context, was app.Instance, result app.Result, now time.Time) (app.Instance, error) {
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

// Expire changes an instance whose state's time is over, and returns it. It returns ErrNotOwner if
// the instance has reported or registered since beat, and ErrLastBackend if the instance is sick
// and one of its vhosts has no other backend.
func (r *Registry) Expire(ctx context.Context, was app.Instance, f app.Fence, beat int64) (app.Instance, error) {
	return r.end(ctx, "expire", was, f, func(was app.Instance) app.Step {
		now := r.now()
		is := was.Expire(now)
		step := app.Step{Was: was, Is: is, Beat: &beat, Spare: was.Sick()}
		step.Event = app.NewEvent(app.EventKind(is.State), was, is, now, expiryReason(was, is))
		if was.State == app.Starting || was.State == app.Draining {
			step.Beat = nil
		}
		return step
	})
}

// EndOverride ends an override that has expired, and returns the instance.
func (r *Registry) EndOverride(ctx context.Context, was app.Instance, f app.Fence) (app.Instance, error) {
	return r.end(ctx, "end the override of", was, f, func(was app.Instance) app.Step {
		is := was
		is.Override = app.Override{}
		return app.Step{Was: was, Is: is, Event: app.NewEvent(app.EventUpdated, was, is, r.now(), "the override has expired")}
	})
}

// end writes the step that a timeout causes, and returns the instance after it. An owner knows the instance as of its last
// event, and some writes have no event: after a conflict, end decides the step again on the instance as stored. It returns
// ErrNotOwner if the state or the override is another one by then.
func (r *Registry) end(ctx context.Context, verb string, was app.Instance, f app.Fence, decide func(app.Instance) app.Step) (is app.Instance, err error) {
	err = r.retry(ctx, func() error {
		step := decide(was)
		if is = step.Is; is.State == was.State && is.Override.Equal(was.Override) {
			return nil
		}
		c := app.Change{Steps: []app.Step{step}, Fence: f}
		_, err := r.commit(ctx, c)
		if is = c.Steps[0].Is; !errors.Is(err, app.ErrConflict) {
			return err
		}
		stored, err := r.store.Get(ctx, was.ID)
		switch {
		case errors.Is(err, app.ErrNotFound), err == nil && !sameTimeout(was, stored):
			return app.ErrNotOwner
		case err != nil:
			return err
		}
		was = stored
		return app.ErrConflict
	})
	if err != nil {
		return app.Instance{}, fmt.Errorf("%s %s: %w", verb, was.ID, err)
	}
	return is, nil
}

// sameTimeout reports whether a timeout of was is still a timeout of the instance as stored: its state has not changed since,
// and neither has its override.
func sameTimeout(was, stored app.Instance) bool {
	return stored.State == was.State && stored.ChangedAt.Equal(was.ChangedAt) && stored.Override.Equal(was.Override)
}

// expiryReason returns why the end of a state's time changed the state.
func expiryReason(was, is app.Instance) string {
	switch was.State {
	case app.Starting:
		return startingReason(was)
	case app.Healthy:
		return resultReason(was, is)
	case app.Unhealthy, app.Failed:
		return forgottenReason(was, is)
	case app.Draining:
		return "drained"
	case app.Gone:
	}
	return ""
}

// forgottenReason words the end of the forget period of an instance.
func forgottenReason(was, is app.Instance) string {
	if was.Check.Probed() && !was.Last.Code.Answered() {
		return fmt.Sprintf("gone: no answer for %s (%s)", was.Check.Forget, was.Last.Reason())
	}
	return fmt.Sprintf("%s for %s (%s)", was.State, is.ChangedAt.Sub(was.ChangedAt).Round(time.Second), was.Last.Reason())
}

// startingReason words the end of the grace of an instance.
func startingReason(was app.Instance) string {
	reason := "not healthy within its grace of " + was.Check.Grace.String()
	if was.Last.Code != app.OK || was.Last.Detail != "" {
		reason += " (" + was.Last.Reason() + ")"
	}
	if was.Replaces != "" {
		reason += "; " + was.Replaces + " stays"
	}
	return reason
}

// resultReason says why a result has changed the state.
func resultReason(was, is app.Instance) string {
	reason := is.Last.Reason()
	switch {
	case is.State == app.Unhealthy && is.Falls >= 2:
		return fmt.Sprintf("%s; flapping: unhealthy %d times, it has to pass for %s before it is healthy again", reason, is.Falls, is.Wait())
	case is.State != app.Healthy, was.Falls < 2:
		return reason
	case is.Last.At.Sub(is.StreakAt) < was.Wait():
		return reason + "; flapping, and healthy without a wait: fewer than half of its service's instances are routable"
	}
	return fmt.Sprintf("%s for %s; it was flapping", reason, was.Wait())
}

// commitResult writes the step of a result, and sets the step's revision.
func (r *Registry) commitResult(ctx context.Context, step *app.Step, f app.Fence) error {
	was, is := step.Was, step.Is
	if is.State != was.State {
		step.Event = app.NewEvent(app.EventKind(is.State), was, is, is.ChangedAt, resultReason(was, is))
	}
	change, err := r.takeover(ctx, *step, app.Change{Fence: f})
	if err != nil {
		return err
	}
	if change, err = r.commitOrLeave(ctx, change, is.ID); err == nil {
		*step = *change.Step(is.ID)
	}
	return err
}

// worthWriting reports whether a result changed anything that is worth a write of its own.
func worthWriting(was, is app.Instance) bool {
	return is.State != was.State || is.Streak != was.Streak || is.Last.Code != was.Last.Code
}
