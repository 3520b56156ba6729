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

// attempts bounds how often a verb decides again after it lost a race. Losing that
// often means something is wrong, not busy.
const attempts = 10

// Registry has the verbs that change the registry. Handlers and jobs call the same
// ones; the zero value is not usable.
type Registry struct {
	store       Store
	replica     Replica // nil: Registry reads everything from the store
	now         func() time.Time
	drainPeriod time.Duration // of replaced instances
	onCommit    func(context.Context, Step)
}

// NewRegistry returns the verbs on a store. now returns the time on the store's clock.
// drainPeriod is the drain period of an instance that another one replaces. onCommit receives
// each step with an event that this Registry has written.
//
// If replica is not nil, Registry answers from it a registration or a report that changes
// nothing, and omits the first read of an id that the replica does not have. The store refuses
// a write that rests on an outdated replica.
func NewRegistry(store Store, replica Replica, now func() time.Time, drainPeriod time.Duration, onCommit func(context.Context, Step)) *Registry {
	return &Registry{store: store, replica: replica, now: now, drainPeriod: drainPeriod, onCommit: onCommit}
}

// lookup returns an instance of the replica. fresh is false if there is no replica, or if it
// is too old to answer.
func (r *Registry) lookup(id string) (i Instance, known, fresh bool) {
	if r.replica == nil {
		return Instance{}, false, false
	}
	if _, err := r.replica.Age(time.Now()); err != nil {
		return Instance{}, false, false
	}
	i, known = r.replica.Instance(id)
	return i, known, true
}

// Registered is what became of a registration.
type Registered struct {
	Instance Instance
	Source   AddressSource
	New      bool     // it was not known before
	Revision Revision // empty when nothing had to be written
}

// Register adds an instance, or repairs one that is known. State and streak of a known one
// survive unless its address, what its check asks or its boot nonce changed. Claims says
// which registrations move an id, and which supersede the instance at their address.
//
// It returns a FieldError (ErrInvalid, or ErrConflict for a vhost, an id or an address that
// another instance holds), a ForbiddenError when the caller may not register that, or
// ErrGone when this very start of the container is draining.
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
	out := Registered{Source: source}
	absent := fresh && !known
	var met []string             // other instances at its address
	taken := map[string]string{} // its vhosts that other services hold
	err = r.retry(ctx, func() error {
		var was Instance
		var err error
		if !absent {
			was, err = r.store.Get(ctx, want.ID)
		}
		if err != nil && !errors.Is(err, ErrNotFound) {
			return err
		}
		absent = false // a write that is refused says otherwise
		step, err := r.registration(was, want, reg)
		if held, ok := errors.AsType[*heldError](err); ok {
			return r.idIsHeld(ctx, held, want)
		} else if err != nil {
			return err
		}
		out.Instance, out.New, out.Revision = step.Is, was.Rev == 0, ""
		if step.Event == nil && step.Is.Claims.HeldAt.Equal(was.Claims.HeldAt) {
			return r.stillHere(ctx, step.Is)
		}
		change := Change{}
		for _, id := range met {
			if change, err = r.meet(ctx, id, &step.Is, change, reg.Declared); err != nil {
				return err
			}
		}
		for host, service := range taken {
			if change, err = r.claimHost(ctx, host, service, step.Is, change); err != nil {
				return err
			}
		}
		if change, err = r.takeover(ctx, step, change); err != nil {
			return err
		}
		out.Revision, err = r.commit(ctx, change)
		out.Instance = change.step(want.ID).Is
		if t, ok := errors.AsType[*TakenError](err); ok {
			switch t.What {
			case "address":
				met = append(met, t.Holder)
			case "backend":
				return backendIsHeld(t, step.Is)
			default:
				taken[t.Value] = t.Holder
			}
			return ErrConflict
		}
		met = nil
		clear(taken)
		return err
	})
	if err != nil {
		return Registered{}, fmt.Errorf("register %s: %w", want.ID, err)
	}
	return out, nil
}

// Import adds an instance as an export describes it, and has it probed at once. alone says
// that it was the last backend of a vhost which has no list now: it is listed again. It
// returns ErrConflict when the id is known, and a TakenError for a held address or vhost.
func (r *Registry) Import(ctx context.Context, i Instance, alone bool) error {
	now := r.now()
	i.Rev = 0
	was := Instance{ID: i.ID}
	event := eventOf(EventRegistered, was, i, now, "imported")
	if alone { // it may only stay in a list that it is in
		was = i
		was.State = Healthy
		listed := Change{Steps: []Step{{Is: was}}}
		if _, err := r.commit(ctx, listed); err != nil {
			return err
		}
		was = listed.Steps[0].Is
	}
	_, err := r.commit(ctx, Change{Steps: []Step{{Was: was, Is: i, Event: event, Asserts: i.State != Healthy}}}) // its periods begin now
	return err
}

// registration decides the step from what is known of an instance (the zero value:
// nothing) to what it says of itself now. The step has no event when they agree. It returns
// a heldError when another claimant holds the id.
func (r *Registry) registration(was, want Instance, reg Registration) (Step, error) {
	now := r.now()
	is := want
	is.Rev, is.RegisteredAt = was.Rev, now
	switch {
	case was.Rev == 0:
		is = is.Begin(now)
		return Step{Is: is, Event: eventOf(EventRegistered, was, is, now, "first registration")}, nil
	case was.Service != want.Service:
		return Step{}, &heldError{Step{Was: was, Is: was}}
	case was.State == Draining && is.Boot != "" && is.Boot == was.Boot:
		return Step{}, fmt.Errorf("this start of %s: %w", was.ID, ErrGone)
	}
	is.RegisteredAt, is.Override, is.Unknown = was.RegisteredAt, was.Override, was.Unknown
	if !was.Understood() { // its check may say more than this version can read from the registration
		is.Check = was.Check
	}
	if sameClaimant(was, is) {
		is.Boot = cmp.Or(is.Boot, was.Boot)
		is.Claims = was.Claims
		if !reg.Declared {
			is.Claims = was.Claims.asserted(now)
		}
	} else {
		next, holder := was.claimed(is.claimant(), reg.Declared, now)
		if next == nil {
			return Step{}, &heldError{Step{Was: was, Is: holder}}
		}
		is.Claims = *next
	}
	is.Claims = is.Claims.moved(was, is)
	again := was.State == Healthy || is.Boot != "" && is.Boot == was.Boot && !reg.Awaited
	is.ReplaceOver = was.ReplaceOver && is.Replaces == was.Replaces && again
	if reason := restarts(was, is); reason != "" {
		is = is.Begin(now)
		return Step{Was: was, Is: is, Event: eventOf(EventRegistered, was, is, now, reason)}, nil
	}
	is.State, is.Streak, is.StreakAt, is.Falls, is.Last, is.ChangedAt = was.State, was.Streak, was.StreakAt, was.Falls, was.Last, was.ChangedAt
	is.AssertedAt = was.AssertedAt
	if sameFields(was, is) {
		held := is.Claims
		is = was
		is.Claims = held
		return Step{Was: was, Is: is}, nil
	}
	return Step{Was: was, Is: is, Event: eventOf(EventUpdated, was, is, now, "registered with other fields")}, nil
}

// restarts says why a known instance begins anew, or nothing if it does not. Another
// interval or threshold alone does not put a live container out of service.
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

func sameFields(a, b Instance) bool {
	return a.Check == b.Check && a.Weight == b.Weight && a.FailOpen == b.FailOpen &&
		a.Boot == b.Boot && a.Replaces == b.Replaces && a.ReplaceOver == b.ReplaceOver &&
		slices.Equal(a.Hosts, b.Hosts) && slices.Equal(a.Tags, b.Tags) && maps.Equal(a.Meta, b.Meta)
}

// stillHere notes that an instance that is about to be forgotten still asserts
// itself: it is sick, not gone.
func (r *Registry) stillHere(ctx context.Context, i Instance) error {
	if i.State != Unhealthy && i.State != Failed {
		return nil
	}
	return r.store.Assert(ctx, i, nil)
}

// takeover adds to a change the step of an instance and, when that makes it healthy, the
// end of the instance that it replaces.
func (r *Registry) takeover(ctx context.Context, step Step, c Change) (Change, error) {
	was, is := step.Was, &step.Is
	again := was.State == Healthy && was.Replaces == is.Replaces
	if is.State != Healthy || is.Replaces == "" || is.ReplaceOver || again {
		c.Steps = append(c.Steps, step)
		return c, nil
	}
	is.ReplaceOver = true
	c.Steps = append(c.Steps, step)
	old, err := r.store.Get(ctx, is.Replaces)
	if errors.Is(err, ErrNotFound) {
		return c, nil
	}
	if err != nil {
		return Change{}, err
	}
	if old.Service == is.Service && old.State != Draining && c.step(old.ID) == nil {
		now := r.now()
		out := old.Drain(r.drainPeriod, now)
		c.Steps = append(c.Steps, Step{Was: old, Is: out, Event: eventOf(EventDraining, old, out, now, "replaced by "+is.ID)})
	}
	return c, nil
}

// Report takes a heartbeat: the container's own word that it is well or sick. For
// an instance that is probed a good report changes nothing and tells the container
// that it is still known; a bad one is ErrInvalid.
func (r *Registry) Report(ctx context.Context, id string, passed bool, detail string) error {
	detail = cleanNote(detail)
	if was, known, _ := r.lookup(id); known && was.State == Healthy && was.Understood() && passed && CallerOf(ctx).MayChange(was) {
		if err := r.stillWell(ctx, was, detail); !errors.Is(err, ErrConflict) {
			return err
		}
	}
	err := r.retry(ctx, func() error {
		was, err := r.own(ctx, id)
		if err != nil {
			return err
		}
		if was.State == Draining {
			return ErrGone
		}
		if !was.Understood() {
			return r.stillThere(ctx, was, passed)
		}
		if was.Check.Kind != Heartbeat {
			if passed {
				return nil
			}
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
	})
	if err != nil {
		return fmt.Errorf("heartbeat of %s: %w", id, err)
	}
	return nil
}

// stillWell takes the good report of an instance that was healthy; ErrConflict when it
// is not what it was.
func (r *Registry) stillWell(ctx context.Context, was Instance, detail string) error {
	if was.Check.Kind != Heartbeat {
		return nil
	}
	now := r.now()
	result := Result{At: now, Passed: true, Detail: detail}
	if err := r.store.Assert(ctx, was, &result); err != nil {
		return fmt.Errorf("heartbeat of %s: %w", was.ID, err)
	}
	return nil
}

// stillThere takes the report of an instance that this version does not understand. A good
// one extends its lease and changes nothing else; a bad one is for a newer version, so the
// caller has to send it again.
func (r *Registry) stillThere(ctx context.Context, was Instance, passed bool) error {
	if !passed {
		return fmt.Errorf("a newer version of Rollcall has written the instance and has to take its report: %w", ErrUnavailable)
	}
	if was.Check.Kind != Heartbeat || was.State != Healthy {
		return nil
	}
	return r.store.Assert(ctx, was, nil)
}

// Drain takes an instance out of its frontends. Rollcall removes it when the drain period is
// over. Drain returns a draining instance unchanged. If boot is not empty and is not the nonce
// of the present start, Drain returns a FieldError (ErrConflict).
func (r *Registry) Drain(ctx context.Context, id, boot string, period time.Duration) (Instance, Revision, error) {
	return r.change(ctx, "drain", id, func(was Instance, now time.Time) (Instance, *Event, error) {
		is := was.Drain(period, now)
		if is.State == was.State {
			return was, nil, was.startedBy(boot)
		}
		return is, eventOf(EventDraining, was, is, now, "told to drain"), was.startedBy(boot)
	})
}

// Deregister removes an instance at once. With a boot nonce, only that start is removed:
// for any other one it is a FieldError (ErrConflict).
func (r *Registry) Deregister(ctx context.Context, id, boot string) (Instance, Revision, error) {
	return r.change(ctx, "deregister", id, func(was Instance, now time.Time) (Instance, *Event, error) {
		is := was.Remove(now)
		return is, eventOf(EventGone, was, is, now, "deregistered"), was.startedBy(boot)
	})
}

// startedBy returns an error unless boot is empty or the nonce of the present start.
func (i Instance) startedBy(boot string) error {
	if boot == "" || boot == i.Boot {
		return nil
	}
	return &FieldError{
		Field: "boot", Held: true, Problem: "is not the nonce of the present start of " + i.ID,
		Want: "leave the present start alone, or leave boot out to end whichever start there is",
	}
}

// EndReplacement gives up the replacement of another instance by one that is not healthy,
// because the caller that waited for it is told that the other instance stays. Registering
// again starts the replacement anew.
func (r *Registry) EndReplacement(ctx context.Context, id string) (Instance, Revision, error) {
	return r.change(ctx, "end the replacement by", id, func(was Instance, now time.Time) (Instance, *Event, error) {
		if was.State == Healthy || was.Replaces == "" || was.ReplaceOver {
			return was, nil, nil
		}
		is := was
		is.ReplaceOver = true
		return is, eventOf(EventUpdated, was, is, now, "not healthy in time; "+was.Replaces+" stays"), nil
	})
}

// Override sets what an operator wants of an instance for a while, or takes it back
// when o overrides nothing.
func (r *Registry) Override(ctx context.Context, id string, o Override) (Instance, Revision, error) {
	if o.Weight < 0 || o.Weight > MaxWeight {
		return Instance{}, "", invalid("weight", fmt.Sprintf("is %d", o.Weight), fmt.Sprintf("give a number from 1 to %d", MaxWeight))
	}
	return r.change(ctx, "override", id, func(was Instance, now time.Time) (Instance, *Event, error) {
		if was.State == Draining || was.Override.Equal(o) {
			return was, nil, nil
		}
		is := was
		is.Override = o
		return is, eventOf(EventUpdated, was, is, now, o.reason()), nil
	})
}

// EndOverride ends an override that has expired.
func (r *Registry) EndOverride(ctx context.Context, was Instance, f Fence) (Instance, error) {
	is, now := was, r.now()
	is.Override = Override{}
	c := Change{Steps: []Step{{Was: was, Is: is, Event: eventOf(EventUpdated, was, is, now, "the override has expired")}}, Fence: f}
	if _, err := r.commit(ctx, c); err != nil {
		return Instance{}, fmt.Errorf("end the override of %s: %w", was.ID, err)
	}
	return c.Steps[0].Is, nil
}

// ProbeNow has the owner of an instance probe it at once, unless that was done a moment ago.
func (r *Registry) ProbeNow(ctx context.Context, id string) error { return r.store.ProbeNow(ctx, id) }

// Passed removes the marks of an instance's backends after a pass.
func (r *Registry) Passed(ctx context.Context, i Instance) error { return r.store.Passed(ctx, i) }

func (o Override) reason() string {
	until := " until " + o.Until.UTC().Format(time.RFC3339)
	switch {
	case o.Maintenance:
		return "in maintenance" + until
	case o.Weight > 0:
		return fmt.Sprintf("weight %d%s", o.Weight, until)
	}
	return "no longer overridden"
}

func (r *Registry) change(ctx context.Context, verb, id string, decide func(Instance, time.Time) (Instance, *Event, error)) (is Instance, rev Revision, err error) {
	err = r.retry(ctx, func() error {
		was, err := r.own(ctx, id)
		if err != nil {
			return err
		}
		var event *Event
		if is, event, err = decide(was, r.now()); err != nil || event == nil {
			return err
		}
		c := Change{Steps: []Step{{Was: was, Is: is, Event: event}}}
		rev, err = r.commit(ctx, c)
		is = c.Steps[0].Is
		return err
	})
	if err != nil {
		return Instance{}, "", fmt.Errorf("%s %s: %w", verb, id, err)
	}
	return is, rev, nil
}

// own returns an instance that the caller may change.
func (r *Registry) own(ctx context.Context, id string) (Instance, error) {
	i, err := r.store.Get(ctx, id)
	caller := CallerOf(ctx)
	switch {
	case errors.Is(err, ErrNotFound) && !caller.MayLookUp(id), err == nil && !caller.MayChange(i):
		return Instance{}, errNotYours
	case err != nil:
		return Instance{}, err
	}
	return i, nil
}

// commit writes a change and who made it, and says what was written.
func (r *Registry) commit(ctx context.Context, c Change) (Revision, error) {
	for _, step := range c.Steps {
		if step.Event != nil {
			step.Event.Actor = CallerOf(ctx).Actor()
		}
	}
	rev, err := r.store.Commit(ctx, c)
	if err != nil {
		return "", err
	}
	for _, step := range c.Steps {
		if step.Event != nil {
			r.onCommit(ctx, step)
		}
	}
	return rev, nil
}

// Get returns an instance, or ErrNotFound.
func (r *Registry) Get(ctx context.Context, id string) (Instance, error) {
	if CallerOf(ctx).MayRead() {
		return r.store.Get(ctx, id)
	}
	return r.own(ctx, id)
}

// retry runs a decision again when somebody else wrote first.
func (r *Registry) retry(ctx context.Context, decide func() error) error {
	var err error
	for range attempts {
		if err = ctx.Err(); err != nil {
			return err
		}
		if err = decide(); !errors.Is(err, ErrConflict) {
			return err
		}
		if field, ok := errors.AsType[*FieldError](err); ok {
			return field
		}
	}
	return err
}
