package app

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// A Scope is one thing that a token may do: read, admin (which may do everything),
// register: and services, or host: and vhosts. Services are a name, or the beginning of
// names and *; vhosts are a name, *. and a name for whatever is below it, or *.
type Scope string

// The scopes without a pattern.
const (
	ScopeRead  Scope = "read"
	ScopeAdmin Scope = "admin"

	registerScope = "register:"
	hostScope     = "host:"
)

func (s Scope) validate() error {
	services, registers := strings.CutPrefix(string(s), registerScope)
	hosts, serves := strings.CutPrefix(string(s), hostScope)
	switch {
	case s == ScopeRead, s == ScopeAdmin:
		return nil
	case registers && (services == "*" || validService(strings.TrimSuffix(services, "*")) == nil):
		return nil
	case serves && (hosts == "*" || validName(strings.TrimPrefix(hosts, "*."))):
		return nil
	}
	return invalid("scope", fmt.Sprintf("is %.80q", string(s)),
		"give read, admin, register: with a service, its beginning and *, or *; or host: with a lower-case vhost, *. and a name for all below it, or *")
}

func (s Scope) registers(service string) bool {
	pattern, ok := strings.CutPrefix(string(s), registerScope)
	beginning, open := strings.CutSuffix(pattern, "*")
	return ok && (pattern == service || open && strings.HasPrefix(service, beginning))
}

func (s Scope) serves(host string) bool {
	pattern, ok := strings.CutPrefix(string(s), hostScope)
	below, wildcard := strings.CutPrefix(pattern, "*")
	return ok && (pattern == host || wildcard && strings.HasSuffix(host, below))
}

// A Caller is who asks for something. It travels in the context: the verbs decide on what
// they read anyway, and write down who it was.
type Caller struct {
	Name   string // in the history; empty for Rollcall itself, and where no token is required
	Token  string // the id of its token
	Scopes []Scope

	instance   string // whose key it has; empty: it has none
	registered int64  // when that one was first registered, ms
}

// Anybody is Rollcall itself, and every caller where no token is required.
var Anybody = Caller{Scopes: []Scope{ScopeAdmin}}

type callerKey struct{}

// WithCaller returns a context in which a caller asks.
func WithCaller(ctx context.Context, c Caller) context.Context {
	return context.WithValue(ctx, callerKey{}, c)
}

// CallerOf returns who asks; Anybody when it was not said.
func CallerOf(ctx context.Context) Caller {
	if c, ok := ctx.Value(callerKey{}).(Caller); ok {
		return c
	}
	return Anybody
}

// MayAdmin reports whether the caller may do everything.
func (c Caller) MayAdmin() bool { return slices.Contains(c.Scopes, ScopeAdmin) }

// MayRead reports whether the caller may read everything.
func (c Caller) MayRead() bool { return c.MayAdmin() || slices.Contains(c.Scopes, ScopeRead) }

// MayRegister reports whether the caller may register instances of a service, and change
// those that there are.
func (c Caller) MayRegister(service string) bool {
	return c.MayAdmin() || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return s.registers(service) })
}

// MayServe reports whether instances that the caller registers may serve a vhost.
func (c Caller) MayServe(host string) bool {
	return c.MayAdmin() || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return s.serves(host) })
}

// mayChange reports whether the caller may change an instance: with its key, or because it
// may register its service.
func (c Caller) mayChange(i Instance) bool {
	return c.MayRegister(i.Service) || i.ID == c.instance && i.RegisteredAt.UnixMilli() == c.registered
}

// mayMiss reports whether the caller may be told that there is no such instance. Others
// must not learn which ids there are; who may register finds out by registering.
func (c Caller) mayMiss(id string) bool {
	return c.MayAdmin() || id == c.instance || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return strings.HasPrefix(string(s), registerScope) })
}

// mayAdd is a ForbiddenError unless the caller may register an instance.
func (c Caller) mayAdd(i Instance) error {
	if !c.MayRegister(i.Service) {
		return forbidden("register the service "+i.Service, registerScope+i.Service)
	}
	for _, h := range i.Hosts {
		if !c.MayServe(h) {
			return forbidden("serve the vhost "+h, hostScope+h)
		}
	}
	return nil
}

// Require returns a ForbiddenError unless the caller has a scope, read or admin.
func (c Caller) Require(s Scope) error {
	if c.MayAdmin() || s == ScopeRead && c.MayRead() {
		return nil
	}
	return forbidden("do that", string(s))
}

func forbidden(what, scope string) error {
	return &ForbiddenError{What: what, Want: "give a token with the scope " + scope}
}

// errNotYours does not say whose an instance is, nor whether it is there.
var errNotYours = &ForbiddenError{
	What: "do that to this instance", Want: "give its key, or a token that may register its service",
}
