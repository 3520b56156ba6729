package app

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"
)

// A Store keeps the registry. Every method returns ErrUnavailable, within about a second, if it
// cannot reach the registry.
type Store interface {
	// Get returns an instance, or ErrNotFound.
	Get(ctx context.Context, id string) (Instance, error)
	// Commit writes a change in one atomic step: the instances, their indexes, the frontends of
	// their vhosts and the events. It sets the revision of each Step's Is. Commit writes nothing
	// and returns an error
	//
	//	ErrConflict     if an instance is not at the revision of the decision
	//	ErrNotOwner     if the fence or a beat is not the present one
	//	*TakenError     if another instance or service has an address, a backend or a vhost
	//	ErrLastBackend  if a step with Spare would remove the last backend of a vhost
	Commit(ctx context.Context, c Change) (Revision, error)
	// CanSpare reports whether at least half of the instances of each vhost of i are routable, i
	// among the others. Draining instances do not count. If i has no vhosts, the instances of its
	// service count.
	CanSpare(ctx context.Context, i Instance) (bool, error)
	// Assert records that an instance has reported or registered, and the result if there is one.
	// It returns ErrConflict if the instance was written since it was read.
	Assert(ctx context.Context, i Instance, r *Result) error
	// Passed removes the marks of an instance that has just passed a probe of its owner. It returns
	// ErrNotOwner when the fence is not the present one.
	Passed(ctx context.Context, i Instance, f Fence) error
	// Serving returns the instances that serve a vhost.
	Serving(ctx context.Context, host string) ([]Instance, error)
	// ProbeNow has the owner of an instance probe it at once, unless it did a moment ago.
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

// A Prober executes the check of an instance once. It returns within the check's timeout, and when
// ctx is over.
type Prober interface {
	Probe(ctx context.Context, i Instance) Result
}

// A Change is one atomic step of the registry. It contains each instance at most once.
type Change struct {
	Steps []Step
	Seen  []Instance        // unchanged instances; the change is valid only while they are at these revisions
	Takes map[string]string // vhost -> the service that loses it
	Fence Fence             // of the worker that makes the change; zero for any other process
}

// step returns the step of an instance, or nil if the change has none.
func (c Change) step(id string) *Step {
	n := slices.IndexFunc(c.Steps, func(s Step) bool { return s.Is.ID == id })
	if n < 0 {
		return nil
	}
	return &c.Steps[n]
}

// A Step is the change of one instance.
type Step struct {
	Was   Instance // before; Rev 0: the id must not exist
	Is    Instance // after; State Gone: Commit removes the instance
	Event *Event   // nil if the step has no event
	Beat  *int64   // if set, the step is valid only while this is the instance's last assertion, in ms since 1970
	Spare bool     // the step is valid only if each vhost of the instance has another backend

	Asserts bool // the instance has reported or registered, as with Store.Assert
}

// A Fence names the shard that a write belongs to, and the term under which the writing worker owns
// the shard. The store refuses a write under any term but the present one. The zero value is no
// fence.
type Fence struct {
	Shard int
	Term  string
}

// An Owner returns the fence of the shard that a name belongs to (an instance id, a vhost or a service), and whether
// the caller owns it.
type Owner func(name string) (Fence, bool)

// Everything is the Owner of a caller that is no worker: it writes without a fence.
func Everything(string) (Fence, bool) { return Fence{}, true }

// revisionNonce is how many bits of a revision are random. After a failover that lost writes, the
// counter may reach the same value again with another document.
const revisionNonce = 20

// NextRevision returns a revision for the write after rev. It is larger than rev and never repeats.
func NextRevision(rev int64) int64 {
	return (rev>>revisionNonce+1)<<revisionNonce | rand.Int64N(1<<revisionNonce) //nolint:gosec // not secret
}
