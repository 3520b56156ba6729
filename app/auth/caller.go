package auth

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"rollcall/app"
)

// A Scope is a right of a token:
//
//	read              read everything
//	admin             do everything
//	register:web      register, change and remove instances of the service web
//	register:web-*    the same for each service whose name begins with web-
//	host:a.test       let registered instances serve the vhost a.test
//	host:*.a.test     the same for each vhost below a.test, and for *.a.test itself
//
// A single * stands for every service, or for every vhost.
type Scope string

// The scopes without a pattern.
const (
	ScopeRead  Scope = "read"
	ScopeAdmin Scope = "admin"

	registerScope = "register:"
	hostScope     = "host:"
)

func (s Scope) validate() error {
	if s == ScopeRead || s == ScopeAdmin || s.namesServices() || s.namesHosts() {
		return nil
	}
	return invalid("scope", fmt.Sprintf("is %.80q", string(s)),
		"give read, admin, register: with a service, its beginning and *, or *; or host: with a lower-case vhost, *. and a name for all below it, or *")
}

// namesServices reports whether the scope is register: with a service, the beginning of a service and *, or *.
func (s Scope) namesServices() bool {
	services, ok := strings.CutPrefix(string(s), registerScope)
	return ok && (services == "*" || app.ValidService(strings.TrimSuffix(services, "*")) == nil)
}

// namesHosts reports whether the scope is host: with a vhost, a wildcard, or *.
func (s Scope) namesHosts() bool {
	hosts, ok := strings.CutPrefix(string(s), hostScope)
	return ok && (hosts == "*" || app.ValidHostName(strings.TrimPrefix(hosts, "*.")))
}

// registers reports whether the scope covers a service.
func (s Scope) registers(service string) bool {
	pattern, ok := strings.CutPrefix(string(s), registerScope)
	prefix, open := strings.CutSuffix(pattern, "*")
	return ok && (pattern == service || open && strings.HasPrefix(service, prefix))
}

// serves reports whether the scope covers a vhost.
func (s Scope) serves(host string) bool {
	pattern, ok := strings.CutPrefix(string(s), hostScope)
	suffix, open := strings.CutPrefix(pattern, "*")
	return ok && (pattern == host || open && strings.HasSuffix(host, suffix))
}

// A Caller is the holder of a token or of an instance's key. It implements app.Caller. The
// zero value has no rights.
type Caller struct {
	Name   string // its name in events; empty if no token is required
	Token  string // the id of its token; empty for an instance's key
	Scopes []Scope

	instance   string // the id of the instance whose key it presented; empty for a token
	registered int64  // when that instance was first registered, in ms since 1970
}

var _ app.Caller = Caller{}

// Unrestricted is the caller of each request if no token is required.
var Unrestricted = Caller{Scopes: []Scope{ScopeAdmin}}

// TokenOf returns the id of the token that the caller of a context presented. It is empty if
// the caller presented none.
func TokenOf(ctx context.Context) string {
	c, _ := app.CallerOf(ctx).(Caller)
	return c.Token
}

// Actor returns the caller's name in events.
func (c Caller) Actor() string { return c.Name }

// MayAdmin reports whether the caller may do everything.
func (c Caller) MayAdmin() bool { return slices.Contains(c.Scopes, ScopeAdmin) }

// MayRead reports whether the caller may read the whole registry.
func (c Caller) MayRead() bool { return c.MayAdmin() || slices.Contains(c.Scopes, ScopeRead) }

// MayRegister reports whether the caller may register instances of a service, and change the
// registered ones.
func (c Caller) MayRegister(service string) bool {
	return c.MayAdmin() || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return s.registers(service) })
}

// MayServe reports whether instances that the caller registers may serve a vhost.
func (c Caller) MayServe(host string) bool {
	return c.MayAdmin() || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return s.serves(host) })
}

// MayChange reports whether the caller may change an instance: it presented the instance's
// key, or it may register the instance's service.
func (c Caller) MayChange(i app.Instance) bool {
	return c.MayRegister(i.Service) || i.ID == c.instance && i.RegisteredAt.UnixMilli() == c.registered
}

// MayLookUp reports whether the caller may learn that no instance has an id. The other callers
// must not learn which ids exist. A caller that may register learns it by registering.
func (c Caller) MayLookUp(id string) bool {
	return id == c.instance || c.MayRegisterSome()
}

// MayRegisterSome reports whether the caller may register instances of a service.
func (c Caller) MayRegisterSome() bool {
	return c.MayAdmin() || slices.ContainsFunc(c.Scopes, func(s Scope) bool { return strings.HasPrefix(string(s), registerScope) })
}

// Authorize returns a *app.FieldError that is an app.ErrForbidden, unless the caller may register an instance.
func (c Caller) Authorize(i app.Instance) error {
	if !c.MayRegister(i.Service) {
		return denied("service", i.Service, registerScope+i.Service)
	}
	for _, h := range i.Hosts {
		if !c.MayServe(h) {
			return denied("host", h, hostScope+h)
		}
	}
	return nil
}

// Require returns a *app.ForbiddenError unless the caller has a scope, ScopeRead or ScopeAdmin.
func (c Caller) Require(s Scope) error {
	if c.MayAdmin() || s == ScopeRead && c.MayRead() {
		return nil
	}
	return &app.ForbiddenError{What: "do that", Want: needs(string(s))}
}

func denied(field, value, scope string) error {
	return &app.FieldError{Field: field, Denied: true, Problem: value + " is outside the scopes of the caller's token", Want: needs(scope)}
}

func needs(scope string) string { return "give a token with the scope " + scope }

func invalid(field, problem, want string) error {
	return &app.FieldError{Field: field, Problem: problem, Want: want}
}
