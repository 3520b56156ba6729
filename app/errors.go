package app

import (
	"errors"
	"fmt"
)

// The failure vocabulary. Everything else a verb returns is internal.
var (
	// ErrInvalid means the caller's input cannot be used; see FieldError.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound means there is no such instance, service, webhook, token or event.
	ErrNotFound = errors.New("not found")
	// ErrConflict means somebody else holds what the caller asked for: a newer
	// revision, a vhost, or an id.
	ErrConflict = errors.New("conflict")
	// ErrGone means the instance is leaving and cannot be changed any more.
	ErrGone = errors.New("draining")
	// ErrNotOwner means that another worker owns the instance, or that a result or a time
	// was about something that is not so any more: it does not count.
	ErrNotOwner = errors.New("not the owner")
	// ErrClaimLost means that another worker has the webhook by now, or that nobody
	// has: what the loser found out counts for nothing.
	ErrClaimLost = errors.New("claim lost")
	// ErrUndelivered means that a receiver did not take a message.
	ErrUndelivered = errors.New("undelivered")
	// ErrForbidden means that the caller is known and may not do that; see ForbiddenError.
	ErrForbidden = errors.New("forbidden")
	// ErrLastBackend means that an instance stays registered because a vhost of it has
	// no other backend.
	ErrLastBackend = errors.New("the last backend of a vhost")
	// ErrUnavailable means the store cannot be reached. Nothing was written, unless the error is an ErrUncertain as well.
	ErrUnavailable = errors.New("unavailable")
	// ErrUncertain means that the store was sent a change and gave no answer: it may have written the change.
	ErrUncertain = errors.New("the change may have been made")
)

// A FieldError is an ErrInvalid (or an ErrConflict, when Held is set) that names
// the field at fault and says what would be right.
type FieldError struct {
	Field   string // as the caller wrote it: "host", "interval", "meta.owner"
	Problem string // what is wrong with it, in words
	Want    string // what would be right; may be empty
	Held    bool   // the value is fine but somebody else has it
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("%s %s", e.Field, e.Problem)
	}
	return fmt.Sprintf("%s %s; %s", e.Field, e.Problem, e.Want)
}

// Is makes a FieldError an ErrInvalid or an ErrConflict.
func (e *FieldError) Is(target error) bool {
	if e.Held {
		return target == ErrConflict
	}
	return target == ErrInvalid
}

func invalid(field, problem, want string) error {
	return &FieldError{Field: field, Problem: problem, Want: want}
}

// A ForbiddenError is an ErrForbidden that says what the caller may not do.
type ForbiddenError struct {
	What string // in words: "register the service web"
	Want string // what would be right
}

// Error implements error.
func (e *ForbiddenError) Error() string { return "the caller may not " + e.What + "; " + e.Want }

// Is makes a ForbiddenError an ErrForbidden.
func (e *ForbiddenError) Is(target error) bool { return target == ErrForbidden }

// A TakenError is an ErrConflict over something that only one can have.
type TakenError struct {
	What   string // "address", "backend" or "host"
	Value  string // the address; the vhost that the backend is of; the vhost
	Holder string // the instance's id or the service's name
}

// Error implements error.
func (e *TakenError) Error() string {
	return fmt.Sprintf("%s %s belongs to %s", e.What, e.Value, e.Holder)
}

// Is makes a TakenError an ErrConflict.
func (e *TakenError) Is(target error) bool { return target == ErrConflict }

// A TrimmedError is an ErrGone: the events after a revision are not all there.
type TrimmedError struct {
	First Revision // the first event that is; empty: there is none
	Lost  Revision // set when the registry has no event of this id: Redis lost it, or never had it
}

// Error implements error.
func (e *TrimmedError) Error() string {
	if e.Lost != "" {
		return "the registry has no event " + string(e.Lost) + ": Redis was emptied, restored from an older copy, or lost it in a failover; read everything anew"
	}
	return "events before " + string(e.First) + " are no longer kept: begin there, or read everything anew"
}

// Is makes a TrimmedError an ErrGone.
func (e *TrimmedError) Is(target error) bool { return target == ErrGone }
