package app

import "time"

// Frontend is a vhost's list as the proxy reads it, with the state of its backends in the registry.
type Frontend struct {
	Host       string
	Service    string // the service that serves the vhost; empty if only foreign backends are left
	Identifier string // the first entry of the list; empty without a list
	Slots      []Slot
	Unlisted   []string // ids of registered instances without a backend in the list
}

// Slot is one backend of a frontend.
type Slot struct {
	URL      string
	Instance string    // empty: foreign, or no longer registered
	Foreign  bool      // not written by Rollcall, which leaves it alone
	Marked   bool      // has a dead mark, and gets no traffic
	Unusable bool      // not a URL that a proxy can send a request to; foreign, then
	Leaves   time.Time // when Rollcall removes it from the list; zero: it stays
}

// Routed reports whether the proxy sends requests to the slot.
func (s Slot) Routed() bool { return !s.Marked && !s.Unusable }

// Settled names backends of a vhost whose settle time is over, and the fence of the vhost's owner.
type Settled struct {
	Host       string
	Fence      Fence
	Departures map[string]int64 // by URL; a departure names one wait of a marked backend to be removed
}

// Repairs is what a reconciliation repaired.
type Repairs struct {
	Lists     int      // frontends written again or extended
	WrongType []string // keys of the proxy that had the wrong type
	Instances []string // ids whose entries in the indexes were incomplete
	Orphans   []string // ids in vhosts that the registry does not have
}

// None reports whether the reconciliation repaired nothing.
func (r Repairs) None() bool {
	return r.Lists == 0 && len(r.WrongType) == 0 && len(r.Instances) == 0 && len(r.Orphans) == 0
}

// Comparison is what an owner found when it compared lists and marks with the registry.
type Comparison struct {
	Repairs Repairs
	Marked  []string // ids of instances that should get traffic, and that a proxy has marked
	Refused []string // vhosts that another worker owns by now
}
