package registry

import (
	"context"
	"errors"
	"fmt"

	"rollcall/app"
)

// Registered is the outcome of a registration.
type Registered struct {
	Instance app.Instance
	Source   app.AddressSource
	New      bool         // the registry did not have the id before
	Revision app.Revision // empty if the registration changed nothing
}

// Register adds an instance, or updates a registered one. A registered instance keeps its state
// and streak unless its address, its boot nonce, or the target or expectation of its check
// changed. The comment of Claims says which registrations move an id, and which supersede the
// instance at their address.
//
// Register returns a FieldError (ErrInvalid, or ErrConflict for a vhost, an id or an address of
// another instance), an ErrForbidden if the caller may not register the instance, or ErrGone if
// the start with this boot nonce is draining.
func (r *Registry) Register(ctx context.Context, reg app.Registration) (Registered, error) {
	want, source, err := reg.Instance()
	if err != nil {
		return Registered{}, err
	}
	if err := app.CallerOf(ctx).Authorize(want); err != nil {
		return Registered{}, err
	}
	was, known, fresh := r.lookup(ctx, want.ID)
	if r.isUnchanged(was, want, reg) {
		return Registered{Instance: was, Source: source}, nil
	}
	call := registering{
		Registry: r, reg: reg, want: want, done: Registered{Source: source}, absent: fresh && !known,
	}
	if err := r.retry(ctx, func() error { return call.attempt(ctx) }); err != nil {
		return Registered{}, fmt.Errorf("register %s: %w", want.ID, err)
	}
	return call.done, nil
}

// isUnchanged reports whether a registration changes neither the fields nor the claims of a healthy instance.
func (r *Registry) isUnchanged(was, want app.Instance, reg app.Registration) bool {
	if was.State != app.Healthy || !was.Claims.HeldAt.IsZero() {
		return false
	}
	step, err := was.Reregister(want, reg, r.now())
	return err == nil && step.Event == nil
}

// registering is one call of Register. Each attempt reads the instance, decides the step, and
// writes it. If the store refuses the write because another instance has the address, or another
// service a vhost, the next attempt includes the other one in its change.
type registering struct {
	*Registry
	reg  app.Registration
	want app.Instance // as the registration describes it
	done Registered

	absent    bool              // the replica does not have the id: write without reading first
	occupants []string          // ids of other instances at the address
	claimed   map[string]string // vhosts of other services: vhost -> service
}

// attempt makes one attempt. It returns ErrConflict if the next one may succeed.
func (g *registering) attempt(ctx context.Context) error {
	was, err := g.read(ctx)
	if err != nil {
		return err
	}
	step, err := was.Reregister(g.want, g.reg, g.now())
	if held, ok := errors.AsType[*app.HeldError](err); ok {
		return g.idIsHeld(ctx, held.Step, g.want)
	}
	if err != nil {
		return err
	}
	g.done.Instance, g.done.New, g.done.Revision = step.Is, was.Rev == 0, ""
	if step.Event == nil && step.Is.Claims.HeldAt.Equal(was.Claims.HeldAt) {
		return g.extendForget(ctx, step.Is)
	}
	change, err := g.change(ctx, step)
	if err != nil {
		return err
	}
	return g.write(ctx, change)
}

// read returns the instance as stored, or the zero value if there is none.
func (g *registering) read(ctx context.Context) (app.Instance, error) {
	if g.absent {
		g.absent = false
		return app.Instance{}, nil
	}
	was, err := g.store.Get(ctx, g.want.ID)
	if errors.Is(err, app.ErrNotFound) {
		return app.Instance{}, nil
	}
	return was, err
}

// change returns the whole change that a step causes: the steps of the instances at its address,
// of those that serve its vhosts for another service, and of the instance that it replaces.
func (g *registering) change(ctx context.Context, step app.Step) (change app.Change, err error) {
	for _, id := range g.occupants {
		if change, err = g.meet(ctx, id, &step.Is, change, g.reg.Declared); err != nil {
			return app.Change{}, err
		}
	}
	for host, service := range g.claimed {
		if change, err = g.claimHost(ctx, host, service, step.Is, change); err != nil {
			return app.Change{}, err
		}
	}
	return g.takeover(ctx, step, change)
}

// write commits a change. If the store refuses it because of an address or a vhost, write adds
// that to the obstacles of the next attempt and returns ErrConflict.
func (g *registering) write(ctx context.Context, change app.Change) error {
	revision, err := g.commit(ctx, change)
	g.done.Instance, g.done.Revision = change.Step(g.want.ID).Is, revision
	taken, ok := errors.AsType[*app.TakenError](err)
	if !ok {
		g.occupants, g.claimed = nil, nil
		return err
	}
	switch taken.What {
	case "backend":
		return backendIsHeld(taken, g.done.Instance)
	case "address":
		g.occupants = append(g.occupants, taken.Holder)
	default:
		if g.claimed == nil {
			g.claimed = map[string]string{}
		}
		g.claimed[taken.Value] = taken.Holder
	}
	return app.ErrConflict
}

// extendForget records that an unhealthy or failed instance has registered again, which extends
// its forget period. Other instances need no record of that.
func (r *Registry) extendForget(ctx context.Context, i app.Instance) error {
	if i.State != app.Unhealthy && i.State != app.Failed {
		return nil
	}
	return r.store.Assert(ctx, i, nil)
}
