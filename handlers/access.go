package handlers

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strings"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/handlers/input"
)

// access is the token that a route needs.
type access int

const (
	noToken    access = iota
	anyToken          // or an instance's key; the verb checks the scope
	readToken         // scope read
	adminToken        // scope admin
)

var (
	errNoToken  = errors.New("there is no token")
	errNoBearer = errors.New("the Authorization header has no Bearer token")
	errBadToken = errors.New("unknown or revoked token")
)

// gate admits the callers of a route.
type gate struct{ tokens *auth.Tokens }

// admit refuses callers without the access that a route needs, and puts the caller into the request's context.
// It runs before the handler reads the body or the registry.
func (g gate) admit(needs access) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if needs == noToken {
			return next
		}
		return func(c echo.Context) error {
			caller, err := g.callerOf(c.Request())
			switch {
			case err != nil:
			case needs == readToken:
				err = caller.Require(auth.ScopeRead)
			case needs == adminToken:
				err = caller.Require(auth.ScopeAdmin)
			}
			if err != nil {
				return err
			}
			c.SetRequest(withCaller(c.Request(), caller))
			return next(c)
		}
	}
}

// withCaller returns a request with the caller in its context.
func withCaller(r *http.Request, caller auth.Caller) *http.Request {
	return r.WithContext(app.WithCaller(r.Context(), caller))
}

// callerOf returns the caller of a request, from a bearer token or from the password that a browser sends. While
// tokens are not required, a password belongs to a proxy before Rollcall and is ignored.
func (g gate) callerOf(r *http.Request) (auth.Caller, error) {
	token, given := g.tokenOf(r)
	if !given {
		return g.callerWithoutToken(r)
	}
	caller, known := g.tokens.Caller(strings.TrimSpace(token))
	if !known {
		return auth.Caller{}, errBadToken
	}
	return caller, nil
}

func (g gate) tokenOf(r *http.Request) (token string, given bool) {
	scheme, token, _ := strings.Cut(r.Header.Get(echo.HeaderAuthorization), " ")
	if strings.EqualFold(scheme, "Bearer") {
		return token, true
	}
	if g.tokens.Required() {
		_, token, given = r.BasicAuth()
	}
	return token, given
}

func (g gate) callerWithoutToken(r *http.Request) (auth.Caller, error) {
	switch {
	case !g.tokens.Required():
		return auth.Unrestricted, nil
	case r.Header.Get(echo.HeaderAuthorization) != "":
		return auth.Caller{}, errNoBearer
	}
	return auth.Caller{}, errNoToken
}

// checkHost refuses a request to another name than this machine's while no token is required. Callers on this
// machine then need no token, and neither must the page of another site that points its name here (DNS rebinding). The
// browser sends that name.
func checkHost(r *http.Request, tokens *auth.Tokens) error {
	if isLoopback(r.Host) || tokens.Required() {
		return nil
	}
	return fmt.Errorf("host %s: %w", input.Quote(r.Host), errForeignHost)
}

// isLoopback reports whether a Host header is localhost or a literal loopback address,
// with or without a port.
func isLoopback(header string) bool {
	host, _, err := net.SplitHostPort(header)
	if err != nil {
		host = strings.TrimSuffix(strings.TrimPrefix(header, "["), "]")
	}
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.Zone() == "" && ip.Unmap().IsLoopback()
}
