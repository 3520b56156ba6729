package registry

import (
	"context"
	"errors"
	"fmt"

	"rollcall/app"
	"rollcall/app/display"
)

// Report records a heartbeat: the instance reports that it is healthy (passed), or that it is not.
// For a probed instance, a report that passed changes nothing; the answer shows the sender that the
// instance is registered. A probed instance cannot report a failure: that is ErrInvalid.
func (r *Registry) Report(ctx context.Context, id string, passed bool, detail string) error {
	detail = display.CleanNote(detail)
	was, known, _ := r.lookup(ctx, id)
	err := app.ErrConflict
	if known && passed && renewable(ctx, was) {
		err = r.renew(ctx, was, detail)
	}
	if errors.Is(err, app.ErrConflict) { // the replica does not have the instance as stored
		err = r.retry(ctx, func() error { return r.report(ctx, id, passed, detail) })
	}
	if err != nil {
		return fmt.Errorf("heartbeat of %s: %w", id, err)
	}
	return nil
}

// renewable reports whether a report that passed changes only the lease of an instance.
func renewable(ctx context.Context, i app.Instance) bool {
	return i.State == app.Healthy && i.Understood() && app.CallerOf(ctx).MayChange(i)
}

// renew renews the lease of a healthy instance that reports to be healthy. It returns ErrConflict
// if the instance has been written since it was read.
func (r *Registry) renew(ctx context.Context, was app.Instance, detail string) error {
	if was.Check.Kind != app.Heartbeat {
		return nil
	}
	return r.store.Assert(ctx, was, &app.Result{At: r.now(), Passed: true, Detail: detail})
}

// report applies a report to the instance as stored.
func (r *Registry) report(ctx context.Context, id string, passed bool, detail string) error {
	was, err := r.own(ctx, id)
	switch {
	case err != nil:
		return err
	case was.State == app.Draining:
		return app.ErrGone
	case !was.Understood():
		return r.reportNewer(ctx, was, passed)
	case was.Check.Kind != app.Heartbeat:
		return reportProbed(was, passed)
	}
	return r.applyReport(ctx, was, passed, detail)
}

// reportProbed answers to a report of an instance that Rollcall probes. The report changes nothing.
func reportProbed(was app.Instance, passed bool) error {
	if passed {
		return nil
	}
	return app.Invalid("status", "is fail, but the health of this instance is probed by "+string(was.Check.Kind), "register it with health=heartbeat")
}

func (r *Registry) applyReport(ctx context.Context, was app.Instance, passed bool, detail string) error {
	now := r.now()
	result := app.Result{At: now, Passed: passed, Detail: detail}
	if !passed {
		result.Code = app.ReportedSick
	}
	is, err := r.observe(ctx, was, result, now)
	if err != nil {
		return err
	}
	if worthWriting(was, is) {
		return r.commitResult(ctx, &app.Step{Was: was, Is: is, Asserts: true}, app.Fence{})
	}
	return r.store.Assert(ctx, was, &result)
}

// reportNewer applies a report to an instance that a newer version wrote. A report that passed
// renews the lease and changes nothing else. A failure needs a process of the newer version, so
// the sender has to repeat it.
func (r *Registry) reportNewer(ctx context.Context, was app.Instance, passed bool) error {
	if !passed {
		return fmt.Errorf("a newer version of Rollcall has written the instance and has to take its report: %w", app.ErrUnavailable)
	}
	if was.Check.Kind != app.Heartbeat || was.State != app.Healthy {
		return nil
	}
	return r.store.Assert(ctx, was, nil)
}
