package app

import (
	"context"
	"errors"
	"fmt"
)

// Report records a heartbeat: the instance reports that it is healthy (passed), or that it is not.
// For a probed instance, a report that passed changes nothing; the answer shows the sender that the
// instance is registered. A probed instance cannot report a failure: that is ErrInvalid.
func (r *Registry) Report(ctx context.Context, id string, passed bool, detail string) error {
	detail = cleanNote(detail)
	was, known, _ := r.lookup(id)
	err := ErrConflict
	if known && passed && was.State == Healthy && was.Understood() && CallerOf(ctx).MayChange(was) {
		err = r.renew(ctx, was, detail)
	}
	if errors.Is(err, ErrConflict) { // the replica does not have the instance as stored
		err = r.retry(ctx, func() error { return r.report(ctx, id, passed, detail) })
	}
	if err != nil {
		return fmt.Errorf("heartbeat of %s: %w", id, err)
	}
	return nil
}

// renew renews the lease of a healthy instance that reports to be healthy. It returns ErrConflict
// if the instance has been written since it was read.
func (r *Registry) renew(ctx context.Context, was Instance, detail string) error {
	if was.Check.Kind != Heartbeat {
		return nil
	}
	return r.store.Assert(ctx, was, &Result{At: r.now(), Passed: true, Detail: detail})
}

// report applies a report to the instance as stored.
func (r *Registry) report(ctx context.Context, id string, passed bool, detail string) error {
	was, err := r.own(ctx, id)
	switch {
	case err != nil:
		return err
	case was.State == Draining:
		return ErrGone
	case !was.Understood():
		return r.reportNewer(ctx, was, passed)
	case was.Check.Kind != Heartbeat && passed:
		return nil
	case was.Check.Kind != Heartbeat:
		return invalid("status", "is fail, but the health of this instance is probed by "+string(was.Check.Kind), "register it with health=heartbeat")
	}
	now := r.now()
	result := Result{At: now, Passed: passed, Detail: detail}
	if !passed {
		result.Code = ReportedSick
	}
	is, err := r.observe(ctx, was, result, now)
	if err != nil {
		return err
	}
	if worthWriting(was, is) {
		return r.commitResult(ctx, &Step{Was: was, Is: is, Asserts: true}, Fence{})
	}
	return r.store.Assert(ctx, was, &result)
}

// reportNewer applies a report to an instance that a newer version wrote. A report that passed
// renews the lease and changes nothing else. A failure needs a process of the newer version, so
// the sender has to repeat it.
func (r *Registry) reportNewer(ctx context.Context, was Instance, passed bool) error {
	if !passed {
		return fmt.Errorf("a newer version of Rollcall has written the instance and has to take its report: %w", ErrUnavailable)
	}
	if was.Check.Kind != Heartbeat || was.State != Healthy {
		return nil
	}
	return r.store.Assert(ctx, was, nil)
}
