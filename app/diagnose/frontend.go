package diagnose

import (
	"time"

	"rollcall/app"
)

// Backend is an entry of a frontend, or a registered instance without an entry, with the reason why requests go
// to it or not.
type Backend struct {
	URL      string
	Instance string // id; empty if the entry is foreign or its instance is no longer registered
	Routed   bool
	Reason   string
	Leaves   time.Time // when it leaves the list; zero if it stays
}

// Lookup returns a registered instance by its id.
type Lookup func(id string) (i app.Instance, registered bool)

// Backends returns the backends of a frontend in the order of its list, and the registered instances that are not
// in the list.
func Backends(f app.Frontend, instance Lookup) (listed, unlisted []Backend) {
	listed, unlisted = []Backend{}, []Backend{}
	for _, s := range f.Slots {
		i, _ := instance(s.Instance)
		listed = append(listed, Backend{
			URL: s.URL, Instance: s.Instance, Routed: s.Routed(), Reason: entryReason(s, i), Leaves: s.Leaves,
		})
	}
	for _, id := range f.Unlisted {
		if i, registered := instance(id); registered { // otherwise it has gone since the frontend was read
			unlisted = append(unlisted, Backend{URL: i.URL(), Instance: id, Reason: unlistedReason(i)})
		}
	}
	return listed, unlisted
}

// entryReason says why an entry gets requests or not. The zero Instance stands for one that is no longer registered.
func entryReason(s app.Slot, i app.Instance) string {
	switch {
	case s.Unusable, s.Foreign:
		return foreignReason(s)
	case !s.Leaves.IsZero() && i.Routable():
		return "healthy, but its weight was lowered: marked, and about to leave the list"
	case !s.Leaves.IsZero():
		return State(i) + ": marked, and about to leave the list"
	case s.Marked && i.Routable():
		return "healthy, but a proxy has marked it: the next good probe clears that"
	case s.Marked:
		return State(i) + ", and a proxy has marked it"
	case i.Routable():
		return "healthy"
	}
	return State(i) + ", but nothing else is routable: the last one stays"
}

func foreignReason(s app.Slot) string {
	switch {
	case s.Unusable:
		return "not Rollcall's, and not a URL that a request can be sent to"
	case s.Marked:
		return "not Rollcall's; a proxy has marked it"
	}
	return "not Rollcall's: left alone"
}

func unlistedReason(i app.Instance) string {
	if i.Routable() {
		return "healthy, but missing: the next reconciliation adds it"
	}
	return State(i)
}
