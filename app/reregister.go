package app

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"
)

// A HeldError means that another claimant holds an id. Its step records the claim.
type HeldError struct{ Step Step }

func (*HeldError) Error() string { return "another claimant holds the id" }

// Reregister returns the step from an instance as stored (the zero value: none) to the instance as
// registered. The step has no event if the registration changes only the claims, or no field.
// Reregister returns a HeldError if another claimant holds the id.
func (i Instance) Reregister(want Instance, reg Registration, now time.Time) (Step, error) {
	switch {
	case i.Rev == 0:
		want.RegisteredAt = now
		is := want.Begin(now)
		return Step{Is: is, Event: NewEvent(EventRegistered, i, is, now, "first registration")}, nil
	case i.Service != want.Service:
		return Step{}, &HeldError{Step{Was: i, Is: i}}
	case i.State == Draining && i.sameBoot(want):
		return Step{}, fmt.Errorf("this start of %s: %w", i.ID, ErrGone)
	}
	is, err := i.reregistered(want, reg, now)
	if err != nil {
		return Step{}, err
	}
	return i.stepTo(is, now), nil
}

// stepTo returns the step from a registered instance to the instance with the fields of a new registration.
func (i Instance) stepTo(is Instance, now time.Time) Step {
	if reason := restarts(i, is); reason != "" {
		is = is.Begin(now)
		return Step{Was: i, Is: is, Event: NewEvent(EventRegistered, i, is, now, reason)}
	}
	if !sameFields(i, is) || i.ReplaceOver != is.ReplaceOver {
		return Step{Was: i, Is: is, Event: NewEvent(EventUpdated, i, is, now, "registered with other fields")}
	}
	onlyClaims := i
	onlyClaims.Claims = is.Claims
	return Step{Was: i, Is: onlyClaims}
}

// sameBoot reports whether a registration comes from the present start of the instance, by its boot nonce.
func (i Instance) sameBoot(o Instance) bool { return o.Boot != "" && o.Boot == i.Boot }

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
	is.ReplaceOver = i.ReplaceOver && i.sameReplacement(is, reg.Awaited)
	return is, nil
}

// sameReplacement reports whether a registration repeats the replacement of the present start of the instance.
func (i Instance) sameReplacement(is Instance, awaited bool) bool {
	sameStart := i.State == Healthy || i.sameBoot(is) && !awaited
	return sameStart && is.Replaces == i.Replaces
}

// reclaimed returns the claims and the boot nonce of an instance whose id is registered again.
// It returns a HeldError if the id stays with its holder.
func (i Instance) reclaimed(is Instance, declared bool, now time.Time) (Claims, string, error) {
	if !sameClaimant(i, is) {
		next, holder := i.claimed(is.Claimant(), declared, now)
		if next == nil {
			return Claims{}, "", &HeldError{Step{Was: i, Is: holder}}
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
// Another interval, threshold or header alone does not take a healthy instance out of its frontends.
func restarts(was, is Instance) string {
	switch {
	case was.State == Draining:
		return "registered again while draining"
	case was.Boot != is.Boot:
		return "the container was started anew"
	case was.Address != is.Address:
		return "the address changed from " + was.Address
	case was.Check.target() != is.Check.target():
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
