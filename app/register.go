package app

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"
)

// Registered is the outcome of a registration.
type Registered struct {
	Instance Instance
	Source   AddressSource
	New      bool     // the registry did not have the id before
	Revision Revision // empty if the registration changed nothing
}

// Register adds an instance, or updates a registered one. A registered instance keeps its state
// and streak unless its address, its boot nonce, or the target or expectation of its check
// changed. The comment of Claims says which registrations move an id, and which supersede the
// instance at their address.
//
// Register returns a FieldError (ErrInvalid, or ErrConflict for a vhost, an id or an address of
// another instance), a ForbiddenError if the caller may not register the instance, or ErrGone if
// the start with this boot nonce is draining.
func (r *Registry) Register(ctx context.Context, reg Registration) (Registered, error) {
	want, source, err := reg.Instance()
	if err != nil {
		return Registered{}, err
	}
	if err := CallerOf(ctx).Authorize(want); err != nil {
		return Registered{}, err
	}
	was, known, fresh := r.lookup(want.ID)
	if known && was.State == Healthy && was.Claims.HeldAt.IsZero() {
		if step, err := r.registration(was, want, reg); err == nil && step.Event == nil {
			return Registered{Instance: was, Source: source}, nil
		}
	}
	call := registering{
		Registry: r, reg: reg, want: want, done: Registered{Source: source}, absent: fresh && !known,
	}
	if err := r.retry(ctx, func() error { return call.attempt(ctx) }); err != nil {
		return Registered{}, fmt.Errorf("register %s: %w", want.ID, err)
	}
	return call.done, nil
}

// registering is one call of Register. Each attempt reads the instance, decides the step, and
// writes it. If the store refuses the write because another instance has the address, or another
// service a vhost, the next attempt includes the other one in its change.
type registering struct {
	*Registry
	reg  Registration
	want Instance // as the registration describes it
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
	step, err := g.registration(was, g.want, g.reg)
	if held, ok := errors.AsType[*heldError](err); ok {
		return g.idIsHeld(ctx, held, g.want)
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
func (g *registering) read(ctx context.Context) (Instance, error) {
	if g.absent {
		g.absent = false
		return Instance{}, nil
	}
	was, err := g.store.Get(ctx, g.want.ID)
	if errors.Is(err, ErrNotFound) {
		return Instance{}, nil
	}
	return was, err
}

// change returns the whole change that a step causes: the steps of the instances at its address,
// of those that serve its vhosts for another service, and of the instance that it replaces.
func (g *registering) change(ctx context.Context, step Step) (change Change, err error) {
	for _, id := range g.occupants {
		if change, err = g.meet(ctx, id, &step.Is, change, g.reg.Declared); err != nil {
			return Change{}, err
		}
	}
	for host, service := range g.claimed {
		if change, err = g.claimHost(ctx, host, service, step.Is, change); err != nil {
			return Change{}, err
		}
	}
	return g.takeover(ctx, step, change)
}

// write commits a change. If the store refuses it because of an address or a vhost, write adds
// that to the obstacles of the next attempt and returns ErrConflict.
func (g *registering) write(ctx context.Context, change Change) error {
	revision, err := g.commit(ctx, change)
	g.done.Instance, g.done.Revision = change.step(g.want.ID).Is, revision
	taken, ok := errors.AsType[*TakenError](err)
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
	return ErrConflict
}

// registration returns the step from an instance as stored (the zero value: none) to the
// instance as registered. The step has no event if the registration changes nothing but the
// claims. registration returns a heldError if another claimant holds the id.
func (r *Registry) registration(was, want Instance, reg Registration) (Step, error) {
	now := r.now()
	switch {
	case was.Rev == 0:
		want.RegisteredAt = now
		is := want.Begin(now)
		return Step{Is: is, Event: eventOf(EventRegistered, was, is, now, "first registration")}, nil
	case was.Service != want.Service:
		return Step{}, &heldError{Step{Was: was, Is: was}}
	case was.State == Draining && want.Boot != "" && want.Boot == was.Boot:
		return Step{}, fmt.Errorf("this start of %s: %w", was.ID, ErrGone)
	}
	is, err := was.reregistered(want, reg, now)
	if err != nil {
		return Step{}, err
	}
	if reason := restarts(was, is); reason != "" {
		is = is.Begin(now)
		return Step{Was: was, Is: is, Event: eventOf(EventRegistered, was, is, now, reason)}, nil
	}
	if !sameFields(was, is) || was.ReplaceOver != is.ReplaceOver {
		return Step{Was: was, Is: is, Event: eventOf(EventUpdated, was, is, now, "registered with other fields")}, nil
	}
	claims := is.Claims
	is = was
	is.Claims = claims
	return Step{Was: was, Is: is}, nil
}

// reregistered returns the instance with the fields of a new registration, and everything else
// as it was.
func (i Instance) reregistered(want Instance, reg Registration, now time.Time) (Instance, error) {
	is := i.with(want)
	if !i.Understood() { // the stored check may contain more than this version can register
		is.Check = i.Check
	}
	claims, boot, err := i.reclaimed(is, reg.Declared, now)
	if err != nil {
		return Instance{}, err
	}
	is.Boot = boot
	is.Claims = claims.moved(i, is)
	sameStart := i.State == Healthy || is.Boot != "" && is.Boot == i.Boot && !reg.Awaited
	is.ReplaceOver = i.ReplaceOver && is.Replaces == i.Replaces && sameStart
	return is, nil
}

// reclaimed returns the claims and the boot nonce of an instance whose id is registered again.
// It returns a heldError if the id stays with its holder.
func (i Instance) reclaimed(is Instance, declared bool, now time.Time) (Claims, string, error) {
	if !sameClaimant(i, is) {
		next, holder := i.claimed(is.claimant(), declared, now)
		if next == nil {
			return Claims{}, "", &heldError{Step{Was: i, Is: holder}}
		}
		return *next, is.Boot, nil
	}
	claims := i.Claims
	if !declared {
		claims = claims.asserted(now)
	}
	return claims, cmp.Or(is.Boot, i.Boot), nil
}

// restarts returns the reason for which a registered instance starts again, or "" if it goes on.
// Another interval or threshold alone does not take a healthy instance out of its frontends.
func restarts(was, is Instance) string {
	a, b := was.Check, is.Check
	switch {
	case was.State == Draining:
		return "registered again while draining"
	case was.Boot != is.Boot:
		return "the container was started anew"
	case was.Address != is.Address:
		return "the address changed from " + was.Address
	case a.Kind != b.Kind || a.Port != b.Port || a.Path != b.Path ||
		a.Statuses != b.Statuses || a.Body != b.Body:
		return "the check changed"
	}
	return ""
}

// with returns the instance with the fields that a registration sets taken from another one.
func (i Instance) with(o Instance) Instance {
	i.Address, i.Hosts, i.Weight, i.FailOpen, i.Check = o.Address, o.Hosts, o.Weight, o.FailOpen, o.Check
	i.Boot, i.Replaces, i.Tags, i.Meta = o.Boot, o.Replaces, o.Tags, o.Meta
	return i
}

// sameFields reports whether a registration changed none of the fields that with sets.
func sameFields(a, b Instance) bool {
	return a.Address == b.Address && a.Weight == b.Weight && a.FailOpen == b.FailOpen && a.Check == b.Check &&
		a.Boot == b.Boot && a.Replaces == b.Replaces &&
		slices.Equal(a.Hosts, b.Hosts) && slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// extendForget records that an unhealthy or failed instance has registered again, which extends
// its forget period. Other instances need no record of that.
func (r *Registry) extendForget(ctx context.Context, i Instance) error {
	if i.State != Unhealthy && i.State != Failed {
		return nil
	}
	return r.store.Assert(ctx, i, nil)
}
