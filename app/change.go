package app

import (
	"context"
	"math/rand/v2"
	"slices"
)

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

// Step returns the step of an instance, or nil if the change has none.
func (c Change) Step(id string) *Step {
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
