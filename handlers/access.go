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

// access is who may call a route. Every route has one.
type access int

const (
	everybody access = iota // nobody is asked who he is
	callers                 // who has any token, or an instance's key: what it is good for, the verb knows
	readers
	admins
)

var (
	errNoToken  = errors.New("there is no token")
	errBadToken = errors.New("the token does not count, or does not any more")
)

// admit refuses callers without the access that a route asks for, and puts the caller into
// the request's context. It runs before the body is read and before the registry is looked at.
func (a *API) admit(who access) echo.MiddlewareFunc {
	return func(next echo.HandlerFunc) echo.HandlerFunc {
		if who == everybody {
			return next
		}
		return func(c echo.Context) error {
			caller, err := a.callerOf(c.Request())
			switch {
			case err != nil:
			case who == readers:
				err = caller.Require(auth.ScopeRead)
			case who == admins:
				err = caller.Require(auth.ScopeAdmin)
			}
			if err != nil {
				return err
			}
			c.SetRequest(from(caller, c.Request()))
			return next(c)
		}
	}
}

// checkHost refuses a request to a name other than this machine's while no token is
// required: being on this machine is then the permission, and a page of another site that
// has its own name point here (DNS rebinding) would have it. A browser sends the name.
func (a *API) checkHost(r *http.Request) error {
	if isLoopback(r.Host) || a.Tokens.Required() {
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

// from is a request in whose context the caller is.
func from(caller auth.Caller, r *http.Request) *http.Request {
	return r.WithContext(app.WithCaller(r.Context(), caller))
}

// callerOf finds out who calls, by a bearer token or by the password that a browser was
// given. Where no token is required a password is somebody else's: of a proxy before us.
func (a *API) callerOf(r *http.Request) (auth.Caller, error) {
	scheme, token, _ := strings.Cut(r.Header.Get(echo.HeaderAuthorization), " ")
	given := strings.EqualFold(scheme, "Bearer")
	if a.Tokens.Required() && !given {
		_, token, given = r.BasicAuth()
	}
	switch {
	case !given && a.Tokens.Required():
		return auth.Caller{}, errNoToken
	case !given:
		return auth.Unrestricted, nil
	}
	caller, known := a.Tokens.Caller(strings.TrimSpace(token))
	if !known {
		return auth.Caller{}, errBadToken
	}
	return caller, nil
}
