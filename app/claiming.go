package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A heldError means that another claimant holds an id. Its step records the claim.
type heldError struct{ step Step }

func (*heldError) Error() string { return "another claimant holds the id" }

// idIsHeld handles a claim on a held id. It returns ErrConflict if it has freed the id. Otherwise
// it records the claim, has the holder probed at once, and returns the FieldError for the caller.
func (r *Registry) idIsHeld(ctx context.Context, held *heldError, want Instance) error {
	was, is := held.step.Was, held.step.Is
	if was.Service != want.Service && r.givesWay(ctx, was, want) {
		return r.freeID(ctx, was, want)
	}
	if was.Service == want.Service && !sameRivalry(was.Claims, is.Claims) {
		if err := r.recordClaim(ctx, was, is, want); err != nil {
			return err
		}
	}
	if err := r.probeNow(ctx, was); err != nil {
		return err
	}
	return refusedID(CallerOf(ctx), was, want)
}

// givesWay reports whether an instance yields its id to an instance of another service. It does
// so only if it is not healthy, and only to a caller that may change it.
func (r *Registry) givesWay(ctx context.Context, was, want Instance) bool {
	down := was.State != Healthy || was.failing()
	return down && CallerOf(ctx).MayChange(was) && was.yields(want.claimant(), r.now())
}

// freeID removes the holder of an id that an instance of another service claims. It returns
// ErrConflict when it has, so that the registration is decided again.
func (r *Registry) freeID(ctx context.Context, was, want Instance) error {
	now := r.now()
	gone := was.Remove(now)
	event := eventOf(EventGone, was, gone, now, "the service "+want.Service+" registered with its id")
	if _, err := r.commit(ctx, Change{Steps: []Step{{Was: was, Is: gone, Event: event}}}); err != nil {
		return err
	}
	return ErrConflict
}

// recordClaim writes a claim on the id of an instance, with an event if it is the first one.
func (r *Registry) recordClaim(ctx context.Context, was, is, want Instance) error {
	step := Step{Was: was, Is: is}
	if was.Claims.HeldAt.IsZero() {
		step.Event = eventOf(EventContested, was, is, r.now(), fmt.Sprintf("%s at %s also claims the id; %s keeps it until it is unhealthy, gone, or silent for %s",
			want.ID, want.Address, was.Address, minutes(silence)))
	}
	_, err := r.commit(ctx, Change{Steps: []Step{step}})
	return err
}

// refusedID returns the error about a held id. It names the holder to callers that may read it,
// and to instances of its service.
func refusedID(caller Caller, was, want Instance) *FieldError {
	refused := &FieldError{Field: "id", Held: true, Problem: "is held by another instance", Want: "give every instance an id of its own"}
	switch {
	case was.Service == want.Service:
		refused.Problem = fmt.Sprintf("%s is held by another container at %s, which keeps it until it is unhealthy, gone, or silent for %s", was.ID, was.Address, minutes(silence))
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
func (r *Registry) probeNow(ctx context.Context, holder Instance) error {
	if !holder.Check.Probed() || holder.State == Draining {
		return nil
	}
	return r.store.ProbeNow(ctx, holder.ID)
}

// meet adds to a change the step of the instance that another one finds at its address. The former
// is superseded, unless it has superseded this start before. Then both are alive and share the
// address.
func (r *Registry) meet(ctx context.Context, id string, is *Instance, c Change, declared bool) (Change, error) {
	old, err := r.store.Get(ctx, id)
	if errors.Is(err, ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return Change{}, err
	}
	if !CallerOf(ctx).MayChange(old) {
		return Change{}, &FieldError{
			Field: "address", Held: true, Problem: "is held by an instance of another service",
			Want: "try again when that one is gone, or give a token that may register its service",
		}
	}
	self := Start{is.ID, is.Boot}
	back := slices.Contains(old.Claims.Peers, self)
	if back && declared {
		return Change{}, &FieldError{
			Field: "address", Held: true, Problem: is.Address + " is held by " + old.ID + ", which superseded this instance",
			Want: "register the instance from its own container, or deregister the other one",
		}
	}
	is.Claims = is.Claims.meets(self, old)
	if back {
		return c, nil
	}
	now := r.now()
	gone := old.Remove(now)
	end := Step{Was: old, Is: gone, Event: eventOf(EventGone, old, gone, now, is.ID+" registered with its address")}
	c.Steps = append([]Step{end}, c.Steps...)
	return c, nil
}

// backendIsHeld refuses a second instance with the same address in one vhost: one backend belongs
// to one instance.
func backendIsHeld(t *TakenError, is Instance) error {
	return &FieldError{
		Field: "host", Held: true, Problem: fmt.Sprintf("%s already has the backend %s, which belongs to %s", t.Value, is.Address, t.Holder),
		Want: "register one instance for an address and a vhost",
	}
}

// holdsHost reports whether an instance keeps a vhost that an instance of another service claims.
// An instance that is not healthy does not keep it from a healthy one. Of two that have not been
// healthy yet, the first one keeps it. An instance without a check yields to a later one.
func (i Instance) holdsHost(by Instance) bool {
	switch {
	case i.State == Healthy && i.Check.Kind == None:
		return !by.ChangedAt.After(i.ChangedAt)
	case i.State == Healthy:
		return !i.failing()
	case i.State == Starting:
		return by.State != Healthy || by.Check.Kind == None
	}
	return false
}

// claimHost adds to a change the steps with which an instance takes a vhost from another service.
// Holders that are not healthy stay registered without the vhost. If a holder keeps the vhost,
// claimHost has the holders probed at once and returns a FieldError.
func (r *Registry) claimHost(ctx context.Context, host, service string, by Instance, c Change) (Change, error) {
	serving, err := r.store.Serving(ctx, host)
	if err != nil {
		return Change{}, err
	}
	caller, now := CallerOf(ctx), r.now()
	var holders []Instance
	for _, i := range serving {
		switch {
		case i.Service == by.Service, c.step(i.ID) != nil:
		case i.keepsHost(by, caller):
			holders = append(holders, i)
		case i.State != Healthy:
			c.Seen = append(c.Seen, i)
		default:
			c.Steps = append(c.Steps, i.losesHost(host, by.Service, now))
		}
	}
	if len(holders) > 0 {
		for _, h := range holders[:min(len(holders), maxNamed)] {
			if err := r.probeNow(ctx, h); err != nil {
				return Change{}, err
			}
		}
		return Change{}, hostIsHeld(caller, host, holders)
	}
	if c.Takes == nil {
		c.Takes = map[string]string{}
	}
	c.Takes[host] = service
	return c, nil
}

// keepsHost reports whether an instance keeps a vhost that an instance of another service claims
// for a caller. Its loss changes a healthy instance, so it yields only to a caller that may
// change it.
func (i Instance) keepsHost(by Instance, caller Caller) bool {
	return i.holdsHost(by) || i.State == Healthy && (!i.Understood() || !caller.MayChange(i))
}

// losesHost returns the step of a healthy instance that yields a vhost to another service. One
// without a check loses the vhost. The last probe of any other one failed, so it becomes unhealthy.
func (i Instance) losesHost(host, service string, now time.Time) Step {
	claim := "the service " + service + " claims the vhost " + host
	if i.Check.Kind == None {
		is := i.without(host)
		return Step{Was: i, Is: is, Event: eventOf(EventUpdated, i, is, now, claim)}
	}
	is := i.enter(Unhealthy, now)
	return Step{Was: i, Is: is, Event: eventOf(EventUnhealthy, i, is, now, i.Last.Reason()+"; "+claim)}
}

// maxNamed is how many holders of a vhost the error names, and a claim probes.
const maxNamed = 5

// hostIsHeld returns the error about a held vhost. It names the holders to callers that may read
// them.
func hostIsHeld(caller Caller, host string, holders []Instance) error {
	e := &FieldError{
		Field: "host", Held: true, Problem: host + " is served by another service",
		Want: "a vhost belongs to one service at a time: choose another vhost",
	}
	if !caller.MayRead() && slices.ContainsFunc(holders, func(i Instance) bool { return !caller.MayChange(i) }) {
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
func (i Instance) without(host string) Instance {
	i.Hosts = slices.DeleteFunc(slices.Clone(i.Hosts), func(h string) bool { return h == host })
	return i
}

// commitOrLeave commits the change of a result. If another service has taken one of the instance's
// vhosts meanwhile, the instance takes it back from instances that are not healthy, and otherwise
// loses it.
func (r *Registry) commitOrLeave(ctx context.Context, c Change, id string) (Change, error) {
	for range MaxHosts + 1 {
		_, err := r.commit(ctx, c)
		taken, ok := errors.AsType[*TakenError](err)
		if !ok || taken.What != "host" {
			return c, err
		}
		step := c.step(id)
		claimed, err := r.claimHost(ctx, taken.Value, taken.Holder, step.Is, c)
		if err == nil {
			c = claimed
			continue
		}
		if _, held := errors.AsType[*FieldError](err); !held {
			return c, err
		}
		step.Is = step.Is.without(taken.Value)
		if step.Event != nil {
			step.Event.Reason += fmt.Sprintf("; the vhost %s is served by the service %s now", taken.Value, taken.Holder)
		}
	}
	return c, ErrConflict
}
