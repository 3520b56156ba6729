package app

import "context"

// A Caller is the party that a verb runs for, with the rights of its token or key. It travels
// in the context, and the verbs decide by it. The package auth implements it.
type Caller interface {
	// Actor returns the caller's name in events. It is empty for Rollcall itself, and for
	// every caller if no token is required.
	Actor() string
	// MayRead reports whether the caller may read the whole registry.
	MayRead() bool
	// Authorize returns a *FieldError that is an ErrForbidden, unless the caller may register an instance: its
	// service, and each of its vhosts.
	Authorize(i Instance) error
	// MayChange reports whether the caller may change an instance.
	MayChange(i Instance) bool
	// MayLookUp reports whether the caller may learn that no instance has an id.
	MayLookUp(id string) bool
}

// unrestricted is the Caller of a context without one: Rollcall itself.
type unrestricted struct{}

func (unrestricted) Actor() string            { return "" }
func (unrestricted) MayRead() bool            { return true }
func (unrestricted) Authorize(Instance) error { return nil }
func (unrestricted) MayChange(Instance) bool  { return true }
func (unrestricted) MayLookUp(string) bool    { return true }

type callerKey struct{}

// WithCaller returns a context whose verbs run for a caller.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns the caller of a context. Without one the verbs run for Rollcall itself,
// which may do everything.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return unrestricted{}
}

// ErrNotYours is the answer about an instance that the caller may not change. It reveals
// neither its service nor whether it exists.
var ErrNotYours = &ForbiddenError{
	What: "do that to this instance", Want: "give its key, or a token that may register its service",
}
