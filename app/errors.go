package app

import (
	"errors"
	"fmt"
)

// The errors of the verbs. A verb may also return others, which are internal.
var (
	// ErrInvalid means that the caller's input cannot be used; see FieldError.
	ErrInvalid = errors.New("invalid")
	// ErrNotFound means that no such instance, service, webhook, token or event exists.
	ErrNotFound = errors.New("not found")
	// ErrConflict means that the registry has changed since it was read, or that another instance
	// or service has the id, the address or the vhost.
	ErrConflict = errors.New("conflict")
	// ErrGone means that the instance is draining, so that it cannot be changed any more.
	ErrGone = errors.New("draining")
	// ErrNotOwner means that another worker owns the instance, or that a result or a time is of a
	// state that has ended. The store ignores it.
	ErrNotOwner = errors.New("not the owner")
	// ErrClaimLost means that the claim of a webhook has ended. Its outcome is not recorded.
	ErrClaimLost = errors.New("claim lost")
	// ErrUndelivered means that a receiver did not take a message.
	ErrUndelivered = errors.New("undelivered")
	// ErrForbidden means that the caller is known and lacks the right; see ForbiddenError.
	ErrForbidden = errors.New("forbidden")
	// ErrLastBackend means that an instance stays registered because one of its vhosts has no
	// other backend.
	ErrLastBackend = errors.New("the last backend of a vhost")
	// ErrUnavailable means the store cannot be reached. Nothing was written, unless the error is an ErrUncertain as well.
	ErrUnavailable = errors.New("unavailable")
	// ErrUncertain means that the store was sent a change and gave no answer: it may have written the change.
	ErrUncertain = errors.New("the change may have been made")
)

// A FieldError is an error about one field of the input: an ErrConflict if Held is set, an ErrForbidden if Denied is set,
// else an ErrInvalid.
type FieldError struct {
	Field   string // as the caller wrote it: "host", "interval", "meta.owner"
	Problem string // in words: "is longer than 512 characters"
	Want    string // how to correct it: "give a shorter path"; may be empty
	Held    bool   // the value is valid, but another instance or service has it
	Denied  bool   // the value is valid, but the caller lacks the right to it
}

// Error implements error.
func (e *FieldError) Error() string {
	if e.Want == "" {
		return fmt.Sprintf("%s %s", e.Field, e.Problem)
	}
	return fmt.Sprintf("%s %s; %s", e.Field, e.Problem, e.Want)
}

// Is makes a FieldError an ErrConflict, an ErrForbidden or an ErrInvalid.
func (e *FieldError) Is(target error) bool {
	switch {
	case e.Held:
		return target == ErrConflict
	case e.Denied:
		return target == ErrForbidden
	}
	return target == ErrInvalid
}

// Invalid returns a FieldError that is an ErrInvalid.
func Invalid(field, problem, want string) error {
	return &FieldError{Field: field, Problem: problem, Want: want}
}

// A ForbiddenError is an ErrForbidden about one action.
type ForbiddenError struct {
	What string // the action, in words: "register the service web"
	Want string // how to get the right
}

// Error implements error.
func (e *ForbiddenError) Error() string { return "the caller may not " + e.What + "; " + e.Want }

// Is makes a ForbiddenError an ErrForbidden.
func (e *ForbiddenError) Is(target error) bool { return target == ErrForbidden }

// A TakenError is an ErrConflict about an address, a backend or a vhost that another instance or
// service has.
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

// A TrimmedError is an ErrGone: some of the events after a revision are no longer stored.
type TrimmedError struct {
	First Revision // the first stored event; empty: none is
	Lost  Revision // the revision, if the registry never had this event or Redis lost it; else empty
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
