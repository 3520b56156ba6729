package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"rollcall/app"
)

// idIsHeld handles a claim on a held id. It returns ErrConflict if it has freed the id. Otherwise
// it records the claim, has the holder probed at once, and returns the FieldError for the caller.
func (r *Registry) idIsHeld(ctx context.Context, held app.Step, want app.Instance) error {
	was, is := held.Was, held.Is
	if was.Service != want.Service && r.givesWay(ctx, was, want) {
		return r.freeID(ctx, was, want)
	}
	if was.Service == want.Service {
		if err := r.recordClaim(ctx, was, is, want); err != nil {
			return err
		}
	}
	if err := r.probeNow(ctx, was); err != nil {
		return err
	}
	return refusedID(app.CallerOf(ctx), was, want)
}

// givesWay reports whether an instance yields its id to an instance of another service. It does
// so only if it is not healthy, and only to a caller that may change it.
func (r *Registry) givesWay(ctx context.Context, was, want app.Instance) bool {
	down := was.State != app.Healthy || was.Failing()
	return down && app.CallerOf(ctx).MayChange(was) && was.Yields(want.Claimant(), r.now())
}

// freeID removes the holder of an id that an instance of another service claims. It returns
// ErrConflict when it has, so that the registration is decided again.
func (r *Registry) freeID(ctx context.Context, was, want app.Instance) error {
	now := r.now()
	gone := was.Remove(now)
	event := app.NewEvent(app.EventGone, was, gone, now, "the service "+want.Service+" registered with its id")
	if _, err := r.commit(ctx, app.Change{Steps: []app.Step{{Was: was, Is: gone, Event: event}}}); err != nil {
		return err
	}
	return app.ErrConflict
}

// recordClaim writes a claim on the id of an instance, with an event if it is the first one. A repeated claim needs no
// write.
func (r *Registry) recordClaim(ctx context.Context, was, is, want app.Instance) error {
	if app.SameRivalry(was.Claims, is.Claims) {
		return nil
	}
	step := app.Step{Was: was, Is: is}
	if was.Claims.HeldAt.IsZero() {
		step.Event = app.NewEvent(app.EventContested, was, is, r.now(), fmt.Sprintf("%s at %s also claims the id; %s keeps it until it is unhealthy, gone, or silent for %s",
			want.ID, want.Address, was.Address, minutes(app.Silence)))
	}
	_, err := r.commit(ctx, app.Change{Steps: []app.Step{step}})
	return err
}

// refusedID returns the error about a held id. It names the holder to callers that may read it,
// and to instances of its service.
func refusedID(caller app.Caller, was, want app.Instance) *app.FieldError {
	refused := &app.FieldError{Field: "id", Held: true, Problem: "is held by another instance", Want: "give every instance an id of its own"}
	switch {
	case was.Service == want.Service:
		refused.Problem = fmt.Sprintf("%s is held by another container at %s, which keeps it until it is unhealthy, gone, or silent for %s", was.ID, was.Address, minutes(app.Silence))
		refused.Want = fmt.Sprintf("give every container an id of its own (the hooks do when ROLLCALL_ID is not set), or free this one with DELETE /v1/instances/%s", was.ID)
	case caller.MayRead() || caller.MayChange(was):
		refused.Problem = "belongs to an instance of the service " + was.Service
		refused.Want = fmt.Sprintf("give every instance an id of its own, or free this one with DELETE /v1/instances/%s", was.ID)
	}
	return refused
}

// minutes formats a duration of whole minutes.
func minutes(d time.Duration) string { return strings.TrimSuffix(d.String(), "0s") }

// probeNow has the holder of a claimed id or vhost probed at once, if its check has a probe.
func (r *Registry) probeNow(ctx context.Context, holder app.Instance) error {
	if !holder.Check.Probed() || holder.State == app.Draining {
		return nil
	}
	return r.store.ProbeNow(ctx, holder.ID)
}

// meet adds to a change the step of the instance that another one finds at its address. The former
// is superseded, unless it has superseded this start before. Then both are alive and share the
// address.
func (r *Registry) meet(ctx context.Context, id string, is *app.Instance, c app.Change, declared bool) (app.Change, error) {
	old, err := r.store.Get(ctx, id)
	if errors.Is(err, app.ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return app.Change{}, err
	}
	if !app.CallerOf(ctx).MayChange(old) {
		return app.Change{}, &app.FieldError{
			Field: "address", Held: true, Problem: "is held by an instance of another service",
			Want: "try again when that one is gone, or give a token that may register its service",
		}
	}
	self := app.Start{ID: is.ID, Boot: is.Boot}
	back := slices.Contains(old.Claims.Peers, self)
	if back && declared {
		return app.Change{}, &app.FieldError{
			Field: "address", Held: true, Problem: is.Address + " is held by " + old.ID + ", which superseded this instance",
			Want: "register the instance from its own container, or deregister the other one",
		}
	}
	is.Claims = is.Claims.Meets(self, old)
	if back {
		return c, nil
	}
	now := r.now()
	gone := old.Remove(now)
	end := app.Step{Was: old, Is: gone, Event: app.NewEvent(app.EventGone, old, gone, now, is.ID+" registered with its address")}
	c.Steps = append([]app.Step{end}, c.Steps...)
	return c, nil
}

// backendIsHeld refuses a second instance with the same address in one vhost: one backend belongs
// to one instance.
func backendIsHeld(t *app.TakenError, is app.Instance) error {
	return &app.FieldError{
		Field: "host", Held: true, Problem: fmt.Sprintf("%s already has the backend %s, which belongs to %s", t.Value, is.Address, t.Holder),
		Want: "register one instance for an address and a vhost",
	}
}

// holdsHost reports whether an instance keeps a vhost that an instance of another service claims.
// An instance that is not healthy does not keep it from a healthy one. Of two that have not been
// healthy yet, the first one keeps it. An instance without a check yields to a later one.
func holdsHost(i, by app.Instance) bool {
	switch {
	case i.State == app.Healthy && i.Check.Kind == app.None:
		return !by.ChangedAt.After(i.ChangedAt)
	case i.State == app.Healthy:
		return !i.Failing()
	case i.State == app.Starting:
		return by.State != app.Healthy || by.Check.Kind == app.None
	}
	return false
}

// claimHost adds to a change the steps with which an instance takes a vhost from another service.
// Holders that are not healthy stay registered without the vhost. If a holder keeps the vhost,
// claimHost has the holders probed at once and returns a FieldError.
func (r *Registry) claimHost(ctx context.Context, host, service string, by app.Instance, c app.Change) (app.Change, error) {
	serving, err := r.store.Serving(ctx, host)
	if err != nil {
		return app.Change{}, err
	}
	caller, now := app.CallerOf(ctx), r.now()
	var holders []app.Instance
	for _, i := range serving {
		switch {
		case i.Service == by.Service, c.Step(i.ID) != nil:
		case keepsHost(i, by, caller):
			holders = append(holders, i)
		case i.State != app.Healthy:
			c.Seen = append(c.Seen, i)
		default:
			c.Steps = append(c.Steps, losesHost(i, host, by.Service, now))
		}
	}
	if len(holders) > 0 {
		return app.Change{}, r.refuseHost(ctx, host, holders)
	}
	if c.Takes == nil {
		c.Takes = map[string]string{}
	}
	c.Takes[host] = service
	return c, nil
}

// refuseHost has the holders of a vhost probed at once. It returns a FieldError, or the error of that.
func (r *Registry) refuseHost(ctx context.Context, host string, holders []app.Instance) error {
	for _, h := range holders[:min(len(holders), maxNamed)] {
		if err := r.probeNow(ctx, h); err != nil {
			return err
		}
	}
	return hostIsHeld(app.CallerOf(ctx), host, holders)
}

// keepsHost reports whether an instance keeps a vhost that an instance of another service claims
// for a caller. Its loss changes a healthy instance, so it yields only to a caller that may
// change it.
func keepsHost(i, by app.Instance, caller app.Caller) bool {
	return holdsHost(i, by) || i.State == app.Healthy && (!i.Understood() || !caller.MayChange(i))
}

// losesHost returns the step of a healthy instance that yields a vhost to another service. One
// without a check loses the vhost. The last probe of any other one failed, so it becomes unhealthy.
func losesHost(i app.Instance, host, service string, now time.Time) app.Step {
	claim := "the service " + service + " claims the vhost " + host
	if i.Check.Kind == app.None {
		is := without(i, host)
		return app.Step{Was: i, Is: is, Event: app.NewEvent(app.EventUpdated, i, is, now, claim)}
	}
	is := i.Enter(app.Unhealthy, now)
	return app.Step{Was: i, Is: is, Event: app.NewEvent(app.EventUnhealthy, i, is, now, i.Last.Reason()+"; "+claim)}
}

// maxNamed is how many holders of a vhost the error names, and a claim probes.
const maxNamed = 5

// hostIsHeld returns the error about a held vhost. It names the holders to callers that may read
// them.
func hostIsHeld(caller app.Caller, host string, holders []app.Instance) error {
	e := &app.FieldError{
		Field: "host", Held: true, Problem: host + " is served by another service",
		Want: "a vhost belongs to one service at a time: choose another vhost",
	}
	if !caller.MayRead() && slices.ContainsFunc(holders, func(i app.Instance) bool { return !caller.MayChange(i) }) {
		return e
	}
	var named []string
	for _, h := range holders[:min(len(holders), maxNamed)] {
		named = append(named, fmt.Sprintf("%s is %s", h.ID, h.State))
	}
	if len(holders) > maxNamed {
		named = append(named, fmt.Sprintf("%d more", len(holders)-maxNamed))
	}
	e.Problem = fmt.Sprintf("%s is served by the service %s (%s)", host, holders[0].Service, strings.Join(named, ", "))
	e.Want = fmt.Sprintf("a vhost belongs to one service at a time: deregister its instances first (DELETE /v1/instances/%s), or choose another vhost", holders[0].ID)
	return e
}

// without returns the instance without one of its vhosts.
func without(i app.Instance, host string) app.Instance {
	i.Hosts = slices.DeleteFunc(slices.Clone(i.Hosts), func(h string) bool { return h == host })
	return i
}

// commitOrLeave commits the change of a result. If another service has taken one of the instance's
// vhosts meanwhile, the instance takes it back from instances that are not healthy, and otherwise
// loses it.
func (r *Registry) commitOrLeave(ctx context.Context, c app.Change, id string) (app.Change, error) {
	for range app.MaxHosts + 1 {
		_, err := r.commit(ctx, c)
		taken, ok := errors.AsType[*app.TakenError](err)
		if !ok || taken.What != "host" {
			return c, err
		}
		step := c.Step(id)
		claimed, err := r.claimHost(ctx, taken.Value, taken.Holder, step.Is, c)
		if err == nil {
			c = claimed
			continue
		}
		if _, held := errors.AsType[*app.FieldError](err); !held {
			return c, err
		}
		step.Is = without(step.Is, taken.Value)
		if step.Event != nil {
			step.Event.Reason += fmt.Sprintf("; the vhost %s is served by the service %s now", taken.Value, taken.Holder)
		}
	}
	return c, app.ErrConflict
}
