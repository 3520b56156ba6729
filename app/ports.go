package app

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// A Store keeps the registry. Every method returns ErrUnavailable, within a second
// or so, when it cannot reach what it keeps it in.
type Store interface {
	// Get returns an instance, or ErrNotFound.
	Get(ctx context.Context, id string) (Instance, error)
	// Commit makes a change in one atomic step: the instances, their indexes, the routing
	// lists of their vhosts and the events. It sets the revision of each Step's Is. It
	// returns ErrConflict when an instance is not at the revision the change was decided on,
	// ErrNotOwner when the fence or a beat is not the present one, a *TakenError when an
	// address, a backend or a vhost belongs to another instance or service, ErrLastBackend
	// when a step spares the last backend of a vhost, and then nothing is written.
	Commit(ctx context.Context, c Change) (Revision, error)
	// CanSpare reports whether each vhost of an instance has as many routable instances
	// as others, the instance among them; without vhosts, whether its service has.
	// Draining instances are not counted.
	CanSpare(ctx context.Context, i Instance) (bool, error)
	// Assert notes that an instance has reported by itself, and the result if there is one.
	// It returns ErrConflict when the instance was written since it was read.
	Assert(ctx context.Context, i Instance, r *Result) error
	// Passed removes the marks of an instance's backends: it has just passed a probe.
	Passed(ctx context.Context, i Instance) error
	// Serving returns the instances that serve a vhost.
	Serving(ctx context.Context, host string) ([]Instance, error)
	// ProbeNow has the owner of an instance probe it at once, unless that was done a moment
	// ago.
	ProbeNow(ctx context.Context, id string) error
}

// A Replica is a process's in-memory copy of the registry. Its instances are as of the last
// event, without the fields that change without one, such as Streak.
type Replica interface {
	// Age returns how long ago the replica was up to date. It returns ErrUnavailable if that
	// is too long ago to answer from the replica.
	Age(now time.Time) (time.Duration, error)
	// Instance returns an instance, and whether there is one with that id.
	Instance(id string) (Instance, bool)
	// Routable returns the routable instances of a service, sorted by id. The caller must not
	// write to the slice.
	Routable(service string) []Instance
}

// A Prober checks an instance once. It returns before ctx is over, and within the
// check's timeout.
type Prober interface {
	Probe(ctx context.Context, i Instance) Result
}

// A Change is one atomic step of the registry. No instance appears in it twice.
type Change struct {
	Steps []Step
	Seen  []Instance        // not changed, but the change only holds while they are at these revisions
	Takes map[string]string // vhost -> the service that it is taken from
	Fence Fence             // of the worker that makes the change; the zero value for any other process
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
	Beat  *int64   // when set, the step only holds while this is the instance's last assertion
	Spare bool     // the instance leaves only if each of its vhosts has another backend

	Asserts bool // the instance has reported by itself, as with Store.Assert
}

// A Fence names the shard of the thing that causes a write, and the term under which the
// writing worker owns it. The store refuses a write under any other term than the present
// one. The zero value is no fence.
type Fence struct {
	Shard int
	Term  string
}

// An Owner returns the fence of the shard that a name belongs to (an instance id, a vhost or a service), and whether
// the caller owns it.
type Owner func(name string) (Fence, bool)

// Everything is the Owner of a caller that is no worker: it writes without a fence.
func Everything(string) (Fence, bool) { return Fence{}, true }

// revisionNonce is how many bits of a revision are random. After a failover that lost
// writes the counter may come to the same value again, on another document.
const revisionNonce = 20

// NextRevision returns a revision for the write after the one at rev. It is larger, and
// never the same twice.
func NextRevision(rev int64) int64 {
	return (rev>>revisionNonce+1)<<revisionNonce | rand.Int64N(1<<revisionNonce) //nolint:gosec // not secret
}
