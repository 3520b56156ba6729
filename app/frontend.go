package app

import "time"

// Frontend is a vhost as the proxy reads it, with what the registry knows of it.
type Frontend struct {
	Host       string
	Service    string // whose vhost it is; empty when only foreign slots are left
	Identifier string // what the proxy's list begins with; empty without a list
	Slots      []Slot
	Unlisted   []string // ids of registered instances that have no slot
}

// Slot is one entry of a vhost's list.
type Slot struct {
	URL      string
	Instance string    // empty: foreign, or no longer registered
	Foreign  bool      // not written by Rollcall: left alone
	Marked   bool      // in the dead set: gets no traffic now
	Unusable bool      // not a URL that a request can be sent to; foreign, then
	Leaves   time.Time // when it is taken out of the list; zero when it stays
}

// Routed reports whether the proxy sends requests to the slot.
func (s Slot) Routed() bool { return !s.Marked && !s.Unusable }

// Settled names backends of a vhost whose settle time is over, and the fence of the vhost's owner.
type Settled struct {
	Host       string
	Fence      Fence
	Departures map[string]int64 // by URL; a departure names one wait of a marked backend to be removed
}

// Repairs is what a reconciliation found and mended.
type Repairs struct {
	Lists     int      // lists of the proxy that were written anew or extended
	WrongType []string // keys of the proxy that had the wrong type
	Instances []string // ids whose places in queues or vhosts were incomplete
	Orphans   []string // ids that vhosts knew but the registry does not
}

// None reports whether everything was in order.
func (r Repairs) None() bool {
	return r.Lists == 0 && len(r.WrongType) == 0 && len(r.Instances) == 0 && len(r.Orphans) == 0
}

// Comparison is what an owner found when it compared lists and marks with the registry.
type Comparison struct {
	Repairs Repairs
	Marked  []string // ids of instances that should get traffic, and that a proxy has marked
	Refused []string // vhosts that another worker owns by now
}
