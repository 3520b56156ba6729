// Package registry has the verbs that change the registry: register, report, drain, deregister, override, and the
// results of probes. A verb reads an instance, decides by the rules of package app, and writes one atomic change; after
// a conflict it reads and decides again.
package registry

import (
	"context"
	"errors"
	"fmt"
	"time"

	"rollcall/app"
)

// attempts is how often a verb decides again after a conflict. More conflicts than that are a
// fault, not load.
const attempts = 10

// Registry has the verbs that change the registry. Handlers and jobs call the same ones. The zero
// value is not usable.
type Registry struct {
	store       Store
	replica     Replica // nil: Registry reads everything from the store
	now         func() time.Time
	drainPeriod time.Duration // of replaced instances
	onCommit    func(context.Context, app.Step)
}

// New returns the verbs on a store. now returns the time on the store's clock.
// drainPeriod is the drain period of an instance that another one replaces. onCommit receives
// each step with an event that this Registry has written.
//
// If replica is not nil, Registry answers from it a registration or a report that changes
// nothing, and omits the first read of an id that the replica does not have. The store refuses
// a write that rests on an outdated replica.
func New(store Store, replica Replica, now func() time.Time, drainPeriod time.Duration, onCommit func(context.Context, app.Step)) *Registry {
	return &Registry{store: store, replica: replica, now: now, drainPeriod: drainPeriod, onCommit: onCommit}
}

// lookup returns an instance of the replica, with the writes of this process. fresh is false if
// there is no replica, or if it is too old to answer.
func (r *Registry) lookup(ctx context.Context, id string) (i app.Instance, known, fresh bool) {
	if r.replica == nil {
		return app.Instance{}, false, false
	}
	if _, err := r.replica.Age(time.Now()); err != nil {
		return app.Instance{}, false, false
	}
	if i, known = r.replica.Instance(id); known && r.replica.WaitWrites(ctx) {
		i, known = r.replica.Instance(id)
	}
	return i, known, true
}

// Drain takes an instance out of its frontends. Rollcall removes it when the drain period is
// over. Drain returns a draining instance unchanged. If boot is not empty and is not the nonce
// of the present start, Drain returns a FieldError (ErrConflict).
func (r *Registry) Drain(ctx context.Context, id, boot string, period time.Duration) (app.Instance, app.Revision, error) {
	return r.change(ctx, "drain", id, func(was app.Instance, now time.Time) (app.Instance, *app.Event, error) {
		is := was.Drain(period, now)
		if is.State == was.State {
			return was, nil, startedBy(was, boot)
		}
		return is, app.NewEvent(app.EventDraining, was, is, now, "told to drain"), startedBy(was, boot)
	})
}

// Deregister removes an instance at once. If boot is not empty and is not the nonce of the present
// start, Deregister returns a FieldError (ErrConflict).
func (r *Registry) Deregister(ctx context.Context, id, boot string) (app.Instance, app.Revision, error) {
	return r.change(ctx, "deregister", id, func(was app.Instance, now time.Time) (app.Instance, *app.Event, error) {
		is := was.Remove(now)
		return is, app.NewEvent(app.EventGone, was, is, now, "deregistered"), startedBy(was, boot)
	})
}

// startedBy returns an error unless boot is empty or the nonce of the present start.
func startedBy(i app.Instance, boot string) error {
	if boot == "" || boot == i.Boot {
		return nil
	}
	return &app.FieldError{
		Field: "boot", Held: true, Problem: "is not the nonce of the present start of " + i.ID,
		Want: "leave the present start alone, or leave boot out to end whichever start there is",
	}
}

// EndReplacement cancels the replacement of another instance by one that is not healthy. A caller
// that waited for the replacement has the answer that the other instance stays. A new registration
// starts the replacement again.
func (r *Registry) EndReplacement(ctx context.Context, id string) (app.Instance, app.Revision, error) {
	return r.change(ctx, "end the replacement by", id, func(was app.Instance, now time.Time) (app.Instance, *app.Event, error) {
		if was.State == app.Healthy || was.Replaces == "" || was.ReplaceOver {
			return was, nil, nil
		}
		is := was
		is.ReplaceOver = true
		return is, app.NewEvent(app.EventUpdated, was, is, now, "not healthy in time; "+was.Replaces+" stays"), nil
	})
}

// Override sets the override of an instance, or ends it if o is the zero value.
func (r *Registry) Override(ctx context.Context, id string, o app.Override) (app.Instance, app.Revision, error) {
	if o.Weight < 0 || o.Weight > app.MaxWeight {
		return app.Instance{}, "", app.Invalid("weight", fmt.Sprintf("is %d", o.Weight), fmt.Sprintf("give a number from 1 to %d", app.MaxWeight))
	}
	return r.change(ctx, "override", id, func(was app.Instance, now time.Time) (app.Instance, *app.Event, error) {
		if was.State == app.Draining || was.Override.Equal(o) {
			return was, nil, nil
		}
		is := was
		is.Override = o
		return is, app.NewEvent(app.EventUpdated, was, is, now, overrideReason(o)), nil
	})
}

// ProbeNow has the owner of an instance probe it at once, unless that was done a moment ago.
func (r *Registry) ProbeNow(ctx context.Context, id string) error { return r.store.ProbeNow(ctx, id) }

// Passed removes the marks of an instance's backends after a pass.
func (r *Registry) Passed(ctx context.Context, i app.Instance, f app.Fence) error {
	return r.store.Passed(ctx, i, f)
}

// overrideReason returns the reason of the event that sets the override.
func overrideReason(o app.Override) string {
	until := " until " + o.Until.UTC().Format(time.RFC3339)
	switch {
	case o.Maintenance:
		return "in maintenance" + until
	case o.Weight > 0:
		return fmt.Sprintf("weight %d%s", o.Weight, until)
	}
	return "no longer overridden"
}

// change changes one instance by a decision, which returns the instance after the change and the
// event, or no event if nothing changes.
func (r *Registry) change(ctx context.Context, verb, id string, decide func(app.Instance, time.Time) (app.Instance, *app.Event, error)) (is app.Instance, rev app.Revision, err error) {
	err = r.retry(ctx, func() error {
		was, err := r.own(ctx, id)
		if err != nil {
			return err
		}
		var event *app.Event
		if is, event, err = decide(was, r.now()); err != nil || event == nil {
			return err
		}
		c := app.Change{Steps: []app.Step{{Was: was, Is: is, Event: event}}}
		rev, err = r.commit(ctx, c)
		is = c.Steps[0].Is
		return err
	})
	if err != nil {
		return app.Instance{}, "", fmt.Errorf("%s %s: %w", verb, id, err)
	}
	return is, rev, nil
}

// Import adds an instance of an export, and starts its periods and its probes anew. alone says that
// it was the last backend of a vhost that has no frontend now: Import lists it there. It returns
// ErrConflict if the id is registered, and a TakenError if another instance has the address, or
// another service a vhost.
func (r *Registry) Import(ctx context.Context, i app.Instance, alone bool) error {
	now := r.now()
	i.Rev = 0
	was := app.Instance{ID: i.ID}
	event := app.NewEvent(app.EventRegistered, was, i, now, "imported")
	if alone { // an unhealthy instance may stay in a frontend, but not enter one
		was = i
		was.State = app.Healthy
		listed := app.Change{Steps: []app.Step{{Is: was}}}
		if _, err := r.commit(ctx, listed); err != nil {
			return err
		}
		was = listed.Steps[0].Is
	}
	_, err := r.commit(ctx, app.Change{Steps: []app.Step{{Was: was, Is: i, Event: event, Asserts: i.State != app.Healthy}}})
	return err
}

// own returns an instance that the caller may change.
func (r *Registry) own(ctx context.Context, id string) (app.Instance, error) {
	i, err := r.store.Get(ctx, id)
	caller := app.CallerOf(ctx)
	switch {
	case errors.Is(err, app.ErrNotFound) && !caller.MayLookUp(id), err == nil && !caller.MayChange(i):
		return app.Instance{}, app.ErrNotYours
	case err != nil:
		return app.Instance{}, err
	}
	return i, nil
}

// takeover adds a step to a change and, if its instance becomes healthy in place of another one,
// the step that drains the other one.
func (r *Registry) takeover(ctx context.Context, step app.Step, c app.Change) (app.Change, error) {
	if !replaces(step) {
		c.Steps = append(c.Steps, step)
		return c, nil
	}
	step.Is.ReplaceOver = true
	c.Steps = append(c.Steps, step)
	old, err := r.store.Get(ctx, step.Is.Replaces)
	switch {
	case errors.Is(err, app.ErrNotFound):
		return c, nil
	case err != nil:
		return app.Change{}, err
	case old.Service != step.Is.Service, old.State == app.Draining, c.Step(old.ID) != nil:
		return c, nil
	}
	now := r.now()
	out := old.Drain(r.drainPeriod, now)
	c.Steps = append(c.Steps, app.Step{Was: old, Is: out, Event: app.NewEvent(app.EventDraining, old, out, now, "replaced by "+step.Is.ID)})
	return c, nil
}

// replaces reports whether the step's instance becomes healthy, and has another instance to
// replace.
func replaces(s app.Step) bool {
	again := s.Was.State == app.Healthy && s.Was.Replaces == s.Is.Replaces
	return s.Is.State == app.Healthy && s.Is.Replaces != "" && !s.Is.ReplaceOver && !again
}

// commit writes a change with its actor, and passes the written steps to onCommit.
func (r *Registry) commit(ctx context.Context, c app.Change) (app.Revision, error) {
	for _, step := range c.Steps {
		if step.Event != nil {
			step.Event.Actor = app.CallerOf(ctx).Actor()
		}
	}
	rev, err := r.store.Commit(ctx, c)
	if err != nil {
		return "", err
	}
	if r.replica != nil && rev != "" {
		r.replica.Written(rev)
	}
	for _, step := range c.Steps {
		if step.Event != nil {
			r.onCommit(ctx, step)
		}
	}
	return rev, nil
}

// Get returns an instance, or ErrNotFound. To a caller that may not read everything, it returns
// only instances that the caller may change.
func (r *Registry) Get(ctx context.Context, id string) (app.Instance, error) {
	if app.CallerOf(ctx).MayRead() {
		return r.store.Get(ctx, id)
	}
	return r.own(ctx, id)
}

// retry repeats a decision while it returns ErrConflict, but no FieldError.
func (r *Registry) retry(ctx context.Context, decide func() error) error {
	var err error
	for range attempts {
		if err = ctx.Err(); err != nil {
			return err
		}
		if err = decide(); !errors.Is(err, app.ErrConflict) {
			return err
		}
		if field, ok := errors.AsType[*app.FieldError](err); ok {
			return field
		}
	}
	return err
}
