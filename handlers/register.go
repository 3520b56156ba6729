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
	"rollcall/app/registry"
	"rollcall/handlers/caller"
	"rollcall/handlers/input"
)

// registrations handles POST /v1/register.
type registrations struct {
	reads
	registry    *registry.Registry
	tokens      *auth.Tokens
	problems    problems
	clients     caller.Clients
	rules       app.Rules
	limiter     caller.Limiter
	frontendKey func(host string) string
}

// registered is the outcome of one registration.
type registered struct {
	registry.Registered
	err error
}

// register adds one instance, or each instance of an array. With ?wait= it answers when they are healthy, or when the
// wait is over.
func (r *registrations) register(c echo.Context) error {
	var query struct {
		Wait time.Duration `field:"wait" validate:"min=0s,max=5m"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	entries, isArray, err := r.read(c.Request(), query.Wait > 0)
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	all := r.registerAll(ctx, entries, query.Wait)
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if isArray {
		return c.JSON(http.StatusMultiStatus, r.outcomesOf(c, all))
	}
	if err := all[0].err; err != nil {
		return err
	}
	return c.JSON(statusOf(all[0]), r.receiptOf(all[0].Registered))
}

// read reads the registrations of a call. It returns an error if the client has made too many.
func (r *registrations) read(req *http.Request, awaited bool) (entries []input.Entry, isArray bool, err error) {
	entries, isArray, err = input.Registrations(req)
	if err != nil {
		return nil, false, err
	}
	client, addressErr := r.clients.Address(req)
	if err := r.limiter.Admit(cmp.Or(auth.TokenOf(req.Context()), client), len(entries)); err != nil {
		return nil, false, err
	}
	for n := range entries {
		r.complete(&entries[n], client, addressErr, isArray, awaited)
	}
	return entries, isArray, nil
}

// notTriedError is the error of a registration that was not tried because an earlier one of the same call found the registry
// out of reach.
type notTriedError struct{ cause error }

// Error implements error.
func (e *notTriedError) Error() string { return e.cause.Error() }

// Is leaves out app.ErrUncertain: this registration was certainly not made.
func (e *notTriedError) Is(target error) bool { return target == app.ErrUnavailable }

// complete adds to a registration the data that is not in its body. A registration without an address has the
// client's address, or the error of finding that out.
func (r *registrations) complete(e *input.Entry, client string, addressErr error, declared, awaited bool) {
	if e.Err == nil && e.Registration.Address == "" {
		e.Err = addressErr
	}
	e.Registration.Caller, e.Registration.Rules = client, r.rules
	e.Registration.Declared, e.Registration.Awaited = declared, awaited
}

// registerAll registers all entries, then waits for all of them to become healthy, unless wait is 0. If the registry is
// out of reach for one entry, the later entries get the same error at once.
func (r *registrations) registerAll(ctx context.Context, entries []input.Entry, wait time.Duration) []registered {
	began := time.Now()
	all := r.write(ctx, entries)
	if wait == 0 {
		return all
	}
	for n, one := range all {
		if one.err == nil {
			all[n].Instance, all[n].err = r.awaitHealthy(ctx, one.Registered, began, wait)
		}
	}
	return all
}

func (r *registrations) write(ctx context.Context, entries []input.Entry) []registered {
	all := make([]registered, len(entries))
	var outage error
	for n, entry := range entries {
		if all[n].err = cmp.Or(outage, entry.Err); all[n].err != nil {
			continue
		}
		all[n].Registered, all[n].err = r.registry.Register(ctx, entry.Registration)
		if errors.Is(all[n].err, app.ErrUnavailable) {
			outage = &notTriedError{all[n].err}
		}
	}
	return all
}

// awaitHealthy waits until an instance that has registered is healthy or has changed to another state, at most until
// the wait is over, and returns the current instance. It returns a notHealthyError if the instance is not healthy.
func (r *registrations) awaitHealthy(ctx context.Context, done registry.Registered, began time.Time, wait time.Duration) (app.Instance, error) {
	r.awaitStateChange(ctx, done, began.Add(wait))
	is, err := r.afterWait(ctx, done.Instance)
	if errors.Is(err, app.ErrUnavailable) { // the registration was made
		err = fmt.Errorf("%w: %w", err, app.ErrUncertain)
	}
	if err == nil && is.State != app.Healthy {
		err = &notHealthyError{instance: is, waited: time.Since(began)}
	}
	return is, err
}

// afterWait returns the current instance. It cancels the replacement by an instance that is not healthy.
func (r *registrations) afterWait(ctx context.Context, i app.Instance) (app.Instance, error) {
	is, err := r.registry.Get(ctx, i.ID)
	switch {
	case errors.Is(err, app.ErrNotFound):
		is, err = i, nil
		is.State = app.Gone
	case err != nil:
		return is, err
	}
	if is.State != app.Healthy && is.Replaces != "" && ctx.Err() == nil {
		return r.endReplacement(ctx, is)
	}
	return is, err
}

func (r *registrations) awaitStateChange(ctx context.Context, done registry.Registered, deadline time.Time) {
	ctx, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	_ = r.replica.Wait(ctx, func() bool { // the caller reads the instance in any case
		if r.replica.Revision().Compare(done.Revision) < 0 {
			return false
		}
		i, known := r.replica.Instance(done.Instance.ID)
		return !known || i.State == app.Healthy || i.State != done.Instance.State
	})
}

// endReplacement cancels the replacement by an instance that did not become healthy in time, because the answer says
// that the replaced instance stays.
func (r *registrations) endReplacement(ctx context.Context, i app.Instance) (app.Instance, error) {
	is, _, err := r.registry.EndReplacement(ctx, i.ID)
	switch {
	case errors.Is(err, app.ErrNotFound):
		return i, nil
	case err != nil:
		return i, err
	}
	return is, nil
}

// outcome is the answer to one registration of an array.
type outcome struct {
	Status  int      `json:"status"`
	Receipt *receipt `json:"receipt,omitempty"`
	Problem *problem `json:"problem,omitempty"`
}

func (r *registrations) outcomesOf(c echo.Context, all []registered) []outcome {
	outcomes := make([]outcome, len(all))
	for n, one := range all {
		if one.err != nil {
			p := r.problems.of(c, one.err)
			outcomes[n] = outcome{Status: p.Status, Problem: &p}
			continue
		}
		answer := r.receiptOf(one.Registered)
		outcomes[n] = outcome{Status: statusOf(one), Receipt: &answer}
	}
	return outcomes
}

func statusOf(r registered) int {
	if r.New {
		return http.StatusCreated
	}
	return http.StatusOK
}
