package registry

import (
	"context"
	"time"

	"rollcall/app"
)

// A Store keeps the registry. Every method returns ErrUnavailable, within about a second, if it
// cannot reach the registry.
type Store interface {
	// Get returns an instance, or ErrNotFound.
	Get(ctx context.Context, id string) (app.Instance, error)
	// Commit writes a change in one atomic step: the instances, their indexes, the frontends of
	// their vhosts and the events. It sets the revision of each Step's Is. Commit writes nothing
	// and returns an error
	//
	//	ErrConflict     if an instance is not at the revision of the decision
	//	ErrNotOwner     if the fence or a beat is not the present one
	//	*TakenError     if another instance or service has an address, a backend or a vhost
	//	ErrLastBackend  if a step with Spare would remove the last backend of a vhost
	Commit(ctx context.Context, c app.Change) (app.Revision, error)
	// CanSpare reports whether at least half of the instances of each vhost of i are routable, i
	// among the others. Draining instances do not count. If i has no vhosts, the instances of its
	// service count.
	CanSpare(ctx context.Context, i app.Instance) (bool, error)
	// Assert records that an instance has reported or registered, and the result if there is one.
	// It returns ErrConflict if the instance was written since it was read.
	Assert(ctx context.Context, i app.Instance, r *app.Result) error
	// Passed removes the marks of an instance that has just passed a probe of its owner. It returns
	// ErrNotOwner when the fence is not the present one.
	Passed(ctx context.Context, i app.Instance, f app.Fence) error
	// Serving returns the instances that serve a vhost.
	Serving(ctx context.Context, host string) ([]app.Instance, error)
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
	Instance(id string) (app.Instance, bool)
	// Written records that this process has written a revision.
	Written(rev app.Revision)
	// WaitWrites waits until the replica has every earlier write of this process, and reports whether one was missing.
	WaitWrites(ctx context.Context) (waited bool)
	// Routable returns the routable instances of a service, sorted by id. The caller must not
	// write to the slice.
	Routable(service string) []app.Instance
}
