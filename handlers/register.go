package handlers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/handlers/input"
)

// registered is what became of one registration.
type registered struct {
	app.Registered
	err error
}

// verdict is the answer to one registration of several.
type verdict struct {
	Status  int      `json:"status"`
	Receipt *receipt `json:"receipt,omitempty"`
	Problem *problem `json:"problem,omitempty"`
}

// caller is the address that a call comes from, or why that is unknown.
type caller struct {
	address string
	unknown error
}

// register adds an instance, or several, each judged alone. With ?wait= it answers
// when they are healthy, or when the wait is over.
func (a *API) register(c echo.Context) error {
	var query struct {
		Wait time.Duration `field:"wait" validate:"min=0s,max=5m"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	entries, isArray, err := input.Registrations(c.Request())
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	from, unknown := a.clientOf(c.Request())
	if err := a.registrations.take(cmp.Or(auth.TokenOf(ctx), from), len(entries)); err != nil {
		return err
	}
	all := a.registerAll(ctx, entries, isArray, caller{from, unknown}, query.Wait)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if isArray {
		return c.JSON(http.StatusMultiStatus, a.verdictsOf(c, all))
	}
	if err := all[0].err; err != nil {
		return err
	}
	return c.JSON(statusOf(all[0]), a.receiptOf(all[0].Registered))
}

// notTriedError is the error of a registration that was not tried because an earlier one of the same call found the registry
// out of reach.
type notTriedError struct{ cause error }

func (e *notTriedError) Error() string { return e.cause.Error() }

// Is leaves out app.ErrUncertain: this registration was certainly not made.
func (e *notTriedError) Is(target error) bool { return target == app.ErrUnavailable }

// registerAll registers all, then waits for all. One that finds the registry out of
// reach speaks for those after it, which would only find out the same, slowly.
func (a *API) registerAll(ctx context.Context, entries []input.Entry, declared bool, from caller, wait time.Duration) []registered {
	began := time.Now()
	all := make([]registered, len(entries))
	var last app.Revision
	for n, entry := range entries {
		all[n] = a.registerOne(ctx, entry, from, declared, wait > 0)
		last = cmp.Or(all[n].Revision, last)
		if errors.Is(all[n].err, app.ErrUnavailable) {
			for later := n + 1; later < len(all); later++ {
				all[later].err = &notTriedError{all[n].err}
			}
			break
		}
	}
	a.wrote(ctx, last)
	for n, r := range all {
		if r.err == nil && wait > 0 {
			all[n].Instance, all[n].err = a.healthy(ctx, r.Registered, began, wait)
		}
	}
	return all
}

func (a *API) registerOne(ctx context.Context, entry input.Entry, from caller, declared, awaited bool) (r registered) {
	reg, err := entry.Registration, entry.Err
	if err == nil && reg.Address == "" {
		err = from.unknown
	}
	if err != nil {
		return registered{err: err}
	}
	reg.Caller, reg.Rules, reg.Declared, reg.Awaited = from.address, a.Rules, declared, awaited
	r.Registered, r.err = a.Registry.Register(ctx, reg)
	return r
}

// healthy waits until an instance that was registered is healthy, and returns it as
// it stands when the wait is over: with an error if it is not. It does not wait on
// when the instance takes another turn.
func (a *API) healthy(ctx context.Context, done app.Registered, began time.Time, wait time.Duration) (app.Instance, error) {
	was := done.Instance
	waiting, cancel := context.WithDeadline(ctx, began.Add(wait))
	defer cancel()
	_ = a.Replica.Wait(waiting, func() bool {
		if a.Replica.Revision().Compare(done.Revision) < 0 {
			return false
		}
		i, known := a.Replica.Instance(was.ID)
		return !known || i.State == app.Healthy || i.State != was.State
	})
	is, err := a.Registry.Get(ctx, was.ID)
	if errors.Is(err, app.ErrNotFound) {
		is, err = was, nil
		is.State = app.Gone
	}
	if err == nil && is.State != app.Healthy && is.Replaces != "" && ctx.Err() == nil {
		is, err = a.endReplacement(ctx, is)
	}
	if errors.Is(err, app.ErrUnavailable) { // the registration was made
		err = fmt.Errorf("%w: %w", err, app.ErrUncertain)
	}
	if err == nil && is.State != app.Healthy {
		err = &notHealthyError{instance: is, waited: time.Since(began)}
	}
	return is, err
}

// endReplacement makes true what the caller is about to be told: that the instance which was
// to be replaced stays.
func (a *API) endReplacement(ctx context.Context, i app.Instance) (app.Instance, error) {
	is, rev, err := a.Registry.EndReplacement(ctx, i.ID)
	switch {
	case errors.Is(err, app.ErrNotFound):
		return i, nil
	case err != nil:
		return i, err
	}
	a.wrote(ctx, rev)
	return is, nil
}

func (a *API) verdictsOf(c echo.Context, all []registered) []verdict {
	verdicts := make([]verdict, len(all))
	for n, r := range all {
		if r.err != nil {
			p := a.problemOf(c, r.err)
			verdicts[n] = verdict{Status: p.Status, Problem: &p}
			continue
		}
		answer := a.receiptOf(r.Registered)
		verdicts[n] = verdict{Status: statusOf(r), Receipt: &answer}
	}
	return verdicts
}

func statusOf(r registered) int {
	if r.New {
		return http.StatusCreated
	}
	return http.StatusOK
}
