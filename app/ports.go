package app

import (
	"context"
	"slices"
	"time"
)

// A Store keeps the registry. Every method returns ErrUnavailable, within a second
// or so, when it cannot reach what it keeps it in.
type Store interface {
	// Get returns an instance, or ErrNotFound.
	Get(ctx context.Context, id string) (Instance, error)
	// Commit makes a change in one atomic step: the instances, their places in the
	// queues, the routing lists of their vhosts and the events. It returns ErrConflict
	// when an instance is not at the revision the change was decided on, ErrClaimLost
	// when a claim is, a *TakenError when an address, a backend or a vhost belongs to
	// another instance or service, ErrLastBackend when a step spares the last backend of a
	// vhost, and then nothing is written.
	Commit(ctx context.Context, c Change) (Revision, error)
	// CanSpare reports whether each vhost of an instance has as many routable instances
	// as others, the instance among them; without vhosts, whether its service has.
	// Draining instances are not counted.
	CanSpare(ctx context.Context, i Instance) (bool, error)
	// Renew moves the deadline of an instance that has not been written since it was
	// read (else ErrConflict), and records the result if there is one.
	Renew(ctx context.Context, i Instance, deadline time.Time, r *Result) error
	// Serving returns the instances that serve a vhost.
	Serving(ctx context.Context, host string) ([]Instance, error)
	// ProbeNow makes the next probe of an instance due at once, unless that was done so
	// recently that the probe cannot have ended.
	ProbeNow(ctx context.Context, id string) error
}

// A Queue hands out work that is due to one worker at a time.
type Queue interface {
	// Claim takes up to limit entries that fall due until horizon. An entry that is
	// neither settled nor renewed within ClaimLease is due again. Instances that are not
	// Understood are among them; of one that cannot be read there is only the id.
	Claim(ctx context.Context, horizon time.Time, limit int) ([]Claim, error)
	// Renew makes claims last another ClaimLease and returns them with their new
	// tokens, without those that are lost.
	Renew(ctx context.Context, claims []Claim) ([]Claim, error)
	// Any returns up to n instances that have an entry and are Understood: some of those
	// that fell due last, and others at random. It claims none.
	Any(ctx context.Context, n int) ([]Instance, error)
	// Settle puts claimed entries back with their next due time, and records their
	// results, for the instances that did not change. Those whose claim is lost are
	// dropped. A pass clears the marks that proxies left on the instance's backends.
	Settle(ctx context.Context, settled []Settlement) error
}

// A Prober checks an instance once. It returns before ctx is over, and within the
// check's timeout.
type Prober interface {
	Probe(ctx context.Context, i Instance) Result
}

// ClaimLease is how long a claim is good for, counted from when it was made: a
// worker that dies holds up its claims no longer than this. One that needs more
// time renews the claim.
const ClaimLease = 3 * time.Second

// A Change is one atomic step of the registry. No instance appears in it twice.
type Change struct {
	Steps []Step
	Seen  []Instance        // not changed, but the change only holds while they are at these revisions
	Takes map[string]string // vhost -> the service that it is taken from
}

// step returns the step of an instance, nil when there is none.
func (c Change) step(id string) *Step {
	n := slices.IndexFunc(c.Steps, func(s Step) bool { return s.Is.ID == id })
	if n < 0 {
		return nil
	}
	return &c.Steps[n]
}

// A Step takes one instance from what it was to what it is.
type Step struct {
	Was   Instance // Rev 0: it must not exist
	Is    Instance // State Gone: it is removed
	Event *Event   // nil when nothing happened that anybody is told of
	Claim *Claim   // when set, the step only holds while the claim does
	Spare bool     // the instance leaves only if each of its vhosts has another backend
}

// A Claim is one worker's right to check one instance.
type Claim struct {
	Queue    string // the queue it was claimed from
	Instance Instance
	Due      time.Time // when the check was due
	Token    string    // changes with every claim of the entry
}

// A Settlement is the end of a claim whose instance did not change.
type Settlement struct {
	Claim  Claim
	Due    time.Time // when the entry is due next
	Result *Result   // nil when the check was not run
}
