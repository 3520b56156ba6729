package app

import (
	"slices"
	"time"
)

// The times and limits of claims.
const (
	Silence     = time.Minute      // the holder of a contested id loses it after that long without a report or registration
	heardEvery  = 10 * time.Second // how often Rollcall writes that such a holder has reported
	rivalryEnds = 10 * time.Minute // Rollcall drops a rival that has not claimed the id for that long
	maxRivals   = 32               // more moves within rivalryEnds than this make an id contested
	maxPeers    = 32
)

// Claims records the claims on an instance's id and on its address.
//
// A claimant is a boot nonce or, without one, an address. A registration by another claimant moves
// an id (a restart, a correction). If the former holder registers again afterwards, both are alive
// and the id is contested: the present holder keeps it against each other claimant until it is
// unhealthy, gone, or silent for a minute.
//
// A registration supersedes another instance at its address if their boot nonces differ. If the
// superseded start registers again, both are alive: they are peers and share the address from then
// on.
type Claims struct {
	Rivals []Rival   // other claimants of the id, the latest last
	HeldAt time.Time // when the holder of a contested id last reported or registered; zero: the id is not contested
	Peers  []Start   // other instances at the address: superseded, or alive beside this one
	// Moved is the address before the last move of the id. It stays in the frontends as
	// the last routable backend until the instance is healthy at its new address.
	Moved string
}

// A Rival is a claimant of an id that another claimant holds.
type Rival struct {
	Claimant string
	At       time.Time // when it lost or last claimed the id
}

// A Start is one start of an instance.
type Start struct{ ID, Boot string }

// IsZero reports whether the instance has no claims.
func (c Claims) IsZero() bool {
	return c.Rivals == nil && c.HeldAt.IsZero() && c.Peers == nil && c.Moved == ""
}

// SameRivalry reports whether two claims agree about the rivals and about the contest.
func SameRivalry(a, b Claims) bool {
	return a.HeldAt.Equal(b.HeldAt) && slices.Equal(a.Rivals, b.Rivals)
}

// Claimant returns the claimant of the instance's present start.
func (i Instance) Claimant() string {
	if i.Boot != "" {
		return i.Boot
	}
	return i.Address
}

// sameClaimant reports whether both registrations have one claimant. A registration without a
// nonce, from the holder's address, is the holder's.
func sameClaimant(was, is Instance) bool {
	if was.Boot != "" && is.Boot != "" {
		return was.Boot == is.Boot
	}
	return was.Address == is.Address
}

// Yields reports whether the holder of a contested id loses it to a claimant. One failed probe is
// enough, so that a dead instance does not block its successor. An instance that reports by itself
// is alive until its lease ends.
func (i Instance) Yields(claimant string, now time.Time) bool {
	switch i.State {
	case Starting:
	case Healthy:
		if i.Failing() || i.Check.Kind == None && indexOfRival(i.Claims.Rivals, claimant) < 0 {
			return true
		}
	default:
		return true
	}
	return !i.Claims.HeldAt.IsZero() && now.Sub(i.Claims.HeldAt) >= Silence
}

// Failing reports whether the last probe of a healthy instance failed. This version must understand
// the instance.
func (i Instance) Failing() bool {
	return i.State == Healthy && i.Understood() && i.Check.Probed() && i.Streak > 0
}

// claimed decides a claim on a held id. If the id moves, next is the claims of the new holder.
// Otherwise next is nil, and holder is the present holder with the claim recorded. A declared
// registration does not prove that its instance is alive, so it never makes an id contested.
func (i Instance) claimed(claimant string, declared bool, now time.Time) (next *Claims, holder Instance) {
	rivals := i.Claims.recent(now)
	if i.Claims.admit(rivals, claimant) || i.Yields(claimant, now) {
		others := slices.DeleteFunc(rivals, func(r Rival) bool { return r.Claimant == claimant })
		return &Claims{Rivals: note(others, i.Claimant(), now)}, i
	}
	if !declared {
		i.Claims = i.Claims.contest(rivals, claimant, now)
	}
	return nil, i
}

// contested reports whether a rival claims the id back.
func (c Claims) contested() bool { return !c.HeldAt.IsZero() }

// admit reports whether a claimant gets an uncontested id: a new claimant does, while there are few recent rivals.
func (c Claims) admit(rivals []Rival, claimant string) bool {
	return !c.contested() && indexOfRival(rivals, claimant) < 0 && len(rivals) < maxRivals
}

// contest returns the claims of a holder with the claim of a rival recorded.
func (c Claims) contest(rivals []Rival, claimant string, now time.Time) Claims {
	at := indexOfRival(rivals, claimant)
	if !c.contested() || at < 0 || now.Sub(rivals[at].At) > rivalryEnds/2 {
		c.Rivals = note(rivals, claimant, now)
	}
	if !c.contested() {
		c.HeldAt = now
	}
	return c
}

// asserted returns the claims of a holder that has just reported or registered. The contest is over
// if no rival has claimed the id for rivalryEnds.
func (c Claims) asserted(now time.Time) Claims {
	switch {
	case c.HeldAt.IsZero() || now.Sub(c.HeldAt) < heardEvery:
	case len(c.recent(now)) == 0:
		c.HeldAt, c.Rivals = time.Time{}, nil
	default:
		c.HeldAt = now
	}
	return c
}

// recent returns a copy of the rivals that have claimed the id within rivalryEnds.
func (c Claims) recent(now time.Time) []Rival {
	return slices.DeleteFunc(slices.Clone(c.Rivals), func(r Rival) bool { return now.Sub(r.At) >= rivalryEnds })
}

func indexOfRival(rivals []Rival, claimant string) int {
	return slices.IndexFunc(rivals, func(r Rival) bool { return r.Claimant == claimant })
}

// note moves a claimant to the end of the rivals, and drops the oldest ones beyond maxRivals.
func note(rivals []Rival, claimant string, now time.Time) []Rival {
	rivals = slices.DeleteFunc(rivals, func(r Rival) bool { return r.Claimant == claimant })
	rivals = append(rivals, Rival{claimant, now})
	return rivals[max(0, len(rivals)-maxRivals):]
}

// moved returns the claims of an instance that is registered again, with the fields that depend on
// its address.
func (c Claims) moved(was, is Instance) Claims {
	c.Moved, c.Peers = was.Claims.Moved, nil
	switch {
	case was.Address == is.Address:
		if was.Boot == is.Boot {
			c.Peers = was.Claims.Peers
		}
	case was.MayStay():
		c.Moved = was.Address
	}
	if c.Moved == is.Address {
		c.Moved = ""
	}
	return c
}

// Meets returns the claims of an instance that is registered at the address of another one: the
// other one and its peers are its peers.
func (c Claims) Meets(self Start, other Instance) Claims {
	peers := slices.Clone(c.Peers)
	for _, p := range append([]Start{{other.ID, other.Boot}}, other.Claims.Peers...) {
		if p != self && !slices.Contains(peers, p) {
			peers = append(peers, p)
		}
	}
	c.Peers = peers[max(0, len(peers)-maxPeers):]
	return c
}
