package app

import (
	"cmp"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// EventKind is the kind of an event.
type EventKind string

// The kinds of event. An event with the name of a state means that an instance entered the state.
const (
	EventRegistered EventKind = "registered" // a new instance, or one that starts again
	EventUpdated    EventKind = "updated"    // registered again with other fields, or overridden; state unchanged
	EventHealthy    EventKind = "healthy"
	EventUnhealthy  EventKind = "unhealthy"
	EventFailed     EventKind = "failed"
	EventDraining   EventKind = "draining"
	EventGone       EventKind = "gone"
	EventContested  EventKind = "contested"      // two live claimants of one id; state unchanged
	EventPaused     EventKind = "webhook-paused" // Subject is the webhook's id
	EventResumed    EventKind = "webhook-resumed"
	EventBenched    EventKind = "worker-benched" // the worker is suspended; Subject is its name
	EventBack       EventKind = "worker-back"
	EventDisputed   EventKind = "worker-disputed"    // other workers reach instances that this worker does not; Subject is its name
	EventNamesFail  EventKind = "name-server-failed" // Subject is the worker's name
	EventNamesBack  EventKind = "name-server-back"
	EventCreated    EventKind = "token-created" // Subject is the token's id
	EventRevoked    EventKind = "token-revoked"
	EventRefused    EventKind = "container-refused" // an agent does not register a container; Subject is the agent's node
)

// EventKinds lists all kinds.
var EventKinds = []EventKind{
	EventRegistered, EventUpdated, EventHealthy, EventUnhealthy, EventFailed, EventDraining, EventGone, EventContested,
	EventPaused, EventResumed, EventBenched, EventBack, EventDisputed, EventNamesFail, EventNamesBack, EventCreated, EventRevoked,
	EventRefused,
}

// Event is one entry of the registry's history. Each change of an instance's state has exactly one.
// The API and webhooks show its JSON.
type Event struct {
	Revision    Revision  `json:"id"` // set by the store
	Kind        EventKind `json:"kind"`
	At          time.Time `json:"at"`
	Service     string    `json:"service,omitempty"` // empty, like the next three fields, if the event is not about an instance
	Instance    string    `json:"instance,omitempty"`
	From        State     `json:"from,omitempty"`
	To          State     `json:"to,omitempty"`
	Subject     string    `json:"subject,omitempty"`     // the webhook, worker, token or node that the event is about; empty for an instance
	Reason      string    `json:"reason"`                // for people
	Maintenance bool      `json:"maintenance,omitempty"` // the instance is in maintenance
	Actor       string    `json:"actor,omitempty"`       // who made the change: a token's name, or "key:" and an instance's id; empty for Rollcall itself, and if no token is required
}

// Entry is an event together with the instance after it. Instance is the zero value if the instance
// is gone.
type Entry struct {
	Event    Event
	Instance Instance
}

// Revision is a point in the history of the registry: the id of the last event before it, in the
// form of Redis's stream ids (milliseconds-number). The empty revision is the beginning.
type Revision string

// Compare returns -1, 0 or +1 if r is before, at or after other.
func (r Revision) Compare(other Revision) int {
	rms, rn := r.parts()
	oms, on := other.parts()
	return cmp.Or(cmp.Compare(rms, oms), cmp.Compare(rn, on))
}

// Before returns the last revision that can be before r.
func (r Revision) Before() Revision {
	switch ms, n := r.parts(); {
	case n > 0:
		return revision(ms, n-1)
	case ms > 0:
		return revision(ms-1, math.MaxUint64)
	}
	return revision(0, 0)
}

// RevisionAt returns the first revision that can be at a time.
func RevisionAt(t time.Time) Revision { return revision(uint64(max(t.UnixMilli(), 0)), 0) }

// Time returns the time of r.
func (r Revision) Time() time.Time {
	ms, _ := r.parts()
	return time.UnixMilli(int64(ms)) //nolint:gosec // Redis made it from its clock
}

func revision(ms, n uint64) Revision { return Revision(fmt.Sprintf("%d-%d", ms, n)) }

// Valid reports whether r has the form of a revision: one number, or two with a hyphen between
// them.
func (r Revision) Valid() bool {
	first, second, two := strings.Cut(string(r), "-")
	_, err := strconv.ParseUint(first, 10, 64)
	if err == nil && two {
		_, err = strconv.ParseUint(second, 10, 64)
	}
	return err == nil
}

func (r Revision) parts() (ms, n uint64) {
	first, second, _ := strings.Cut(string(r), "-")
	ms, _ = strconv.ParseUint(first, 10, 64)
	n, _ = strconv.ParseUint(second, 10, 64)
	return ms, n
}

// NewEvent returns the event of the step from was to is.
func NewEvent(kind EventKind, was, is Instance, now time.Time, reason string) *Event {
	return &Event{
		Kind: kind, At: now, Service: is.Service, Instance: is.ID,
		From: was.State, To: is.State, Reason: reason, Maintenance: is.Override.Maintenance,
	}
}
