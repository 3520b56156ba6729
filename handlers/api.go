// Package handlers is Rollcall's HTTP surface: it reads requests, calls the verbs of
// the registry and writes answers. routes is the whole of it at a glance. echo and
// validator stay in this package.
package handlers

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// API is what the handlers need. All fields but TrustedProxies are required.
type API struct {
	Registry *app.Registry
	Snapshot *app.Snapshot // for reads, kept up to date by somebody else
	Store    Reader        // for reads that are not in the snapshot
	Jobs     Jobs
	Now      func() time.Time
	Log      *slog.Logger

	FrontendKey    func(host string) string // the name of a vhost's list in the proxy's Redis
	DrainHold      time.Duration            // how long a drained instance goes on answering, unless the call says
	TrustedProxies []*net.IPNet             // whose X-Forwarded-For names the caller; nobody's when empty
}

// Reader reads what the snapshot does not hold.
type Reader interface {
	// Results returns the last results of an instance, oldest first.
	Results(ctx context.Context, id string) ([]app.Result, error)
	// Frontends returns every vhost as the proxy reads it, sorted by name.
	Frontends(ctx context.Context) ([]app.Frontend, error)
}

// Jobs runs jobs on demand.
type Jobs interface {
	Names() []string
	RunOnce(ctx context.Context, name string) error
}

// Limits of what is read.
const (
	maxBody = 256 << 10
	maxWait = 5 * time.Minute
	maxHold = 5 * time.Minute
)

// Handler returns the HTTP surface.
func (a *API) Handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = a.fail
	e.IPExtractor = echo.ExtractIPDirect()
	if len(a.TrustedProxies) > 0 {
		trust := []echo.TrustOption{echo.TrustLoopback(false), echo.TrustLinkLocal(false), echo.TrustPrivateNet(false)}
		for _, n := range a.TrustedProxies {
			trust = append(trust, echo.TrustIPRange(n))
		}
		e.IPExtractor = echo.ExtractIPFromXFFHeader(trust...)
	}
	e.Use(a.survive)
	a.routes(e)
	return e
}

func (a *API) routes(e *echo.Echo) {
	e.POST("/v1/register", a.register)
	e.GET("/v1/instances/:id", a.instance)
	e.POST("/v1/instances/:id/heartbeat", a.heartbeat)
	e.POST("/v1/instances/:id/drain", a.drain)
	e.DELETE("/v1/instances/:id", a.deregister)
	e.GET("/v1/services", a.services)
	e.GET("/v1/services/:name", a.service)
	e.GET("/v1/frontends", a.frontends)
	e.POST("/v1/jobs/:name/run", a.runJob)
	e.GET("/livez", a.livez)
	e.GET("/readyz", a.readyz)
}

// survive turns a panic into a 500 that is logged, and bounds what is read.
func (a *API) survive(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				a.Log.ErrorContext(c.Request().Context(), "handler panicked", "path", c.Path(), "panic", p)
				err = echo.ErrInternalServerError
			}
		}()
		c.Request().Body = http.MaxBytesReader(c.Response(), c.Request().Body, maxBody)
		return next(c)
	}
}

// wrote waits until this process's reads have what it has just written. When that
// takes long the write still holds, so the answer does not wait for ever.
func (a *API) wrote(ctx context.Context, r app.Revision) {
	if r == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := a.Snapshot.Reached(ctx, r); err != nil {
		a.Log.WarnContext(ctx, "a write is not in the snapshot yet", "revision", r)
	}
}

// duration reads a duration from the query, or returns its default.
func duration(c echo.Context, field string, def, limit time.Duration) (time.Duration, error) {
	s := c.QueryParam(field)
	if s == "" {
		return def, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 || d > limit {
		return 0, &app.FieldError{Field: field, Problem: "is " + quote(s), Want: "give a duration such as 5s, up to " + limit.String()}
	}
	return d, nil
}
