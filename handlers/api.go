// Package handlers is Rollcall's HTTP surface: it reads requests, calls the verbs of
// the registry and writes answers. routes is the whole of it at a glance. echo and
// validator stay in this package.
package handlers

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"runtime/debug"
	"strings"
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
	"rollcall/app/replica"
	"rollcall/handlers/input"
	"rollcall/handlers/page"
)

// API is what the handlers need. All fields but TrustedProxies, Serving, Served, Rules
// and RegisterRate are required.
type API struct {
	Registry *app.Registry
	Replica  *replica.Replica // for reads, kept up to date by somebody else
	Store    Reader           // for reads that are not in the replica
	Tokens   *auth.Tokens     // kept up to date by somebody else
	Webhooks *app.Webhooks
	Jobs     Jobs
	Writable func() error // the error of the last write if Redis refused it
	Now      func() time.Time
	Log      *slog.Logger

	FrontendKey    func(host string) string // the name of a vhost's list in the proxy's Redis
	DrainPeriod    time.Duration            // how long a drained instance goes on answering, unless the call says
	Metrics        http.Handler             // for Prometheus
	TrustedProxies []*net.IPNet             // whose X-Forwarded-For names the caller; nobody's when empty
	Serving        context.Context          //nolint:containedctx // over when streams and long polls have to end; nil: never

	Served func(method, route string, status int, took time.Duration) // hears of every answer; nil: nobody does

	Rules        app.Rules // for registrations
	RegisterRate int       // registrations a second of one caller; 0: any number
	MaxBody      int64     // bytes of a body that are read

	registrations limiter
	turns         sync.Map // by service, a *atomic.Uint64: how many picks took turns
}

// Reader reads what the replica does not hold.
type Reader interface {
	// Recent returns what the owner of an instance knows of it beside its document.
	Recent(ctx context.Context, id string) (app.Recent, error)
	// Frontends returns every vhost as the proxy reads it, sorted by name.
	Frontends(ctx context.Context) ([]app.Frontend, error)
	// Host reads the keys that the proxy reads for a Host header.
	Host(ctx context.Context, header string) (diagnose.Host, error)
	// Events returns up to limit events after a revision, oldest first, or an
	// *app.TrimmedError when some of them are no longer kept.
	Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error)
}

// Jobs runs jobs on demand.
type Jobs interface {
	Names() []string
	RunOnce(ctx context.Context, name string) error
}

// Handler returns the HTTP surface.
func (a *API) Handler() http.Handler {
	e := echo.New()
	e.HTTPErrorHandler = a.fail
	e.IPExtractor = echo.ExtractIPDirect()
	a.registrations.perSecond = a.RegisterRate
	e.Use(a.measured, a.survive)
	a.routes(e)
	return e
}

func (a *API) routes(e *echo.Echo) {
	status := a.statusPage()
	on := func(methods, path string, who access, h echo.HandlerFunc, m ...echo.MiddlewareFunc) {
		e.Match(strings.Fields(methods), path, h, append([]echo.MiddlewareFunc{a.admit(who)}, m...)...)
	}
	on("POST", "/v1/register", callers, a.register)
	on("GET HEAD", "/v1/instances/:id", callers, a.instance, plain)
	on("PATCH", "/v1/instances/:id", admins, a.override)
	on("POST", "/v1/instances/:id/heartbeat", callers, a.heartbeat)
	on("POST", "/v1/instances/:id/drain", callers, a.drain)
	on("DELETE", "/v1/instances/:id", callers, a.deregister)
	on("GET HEAD", "/v1/services", readers, a.services, plain)
	on("GET HEAD", "/v1/services/:name", readers, a.service)
	on("GET HEAD", "/v1/services/:name/pick", readers, a.pick)
	on("GET HEAD", "/v1/services/:name/env", readers, a.linkOne)
	on("GET HEAD", "/v1/env", readers, a.linkMany)
	on("GET", "/v1/events", readers, a.events)
	on("GET HEAD", "/v1/frontends", readers, a.frontends, plain)
	on("GET HEAD", "/v1/explain", readers, a.explain)
	on("GET HEAD", "/v1/sd/prometheus", readers, a.prometheus)
	on("GET HEAD", "/v1/tls/ask", everybody, a.tlsAsk)
	on("POST", "/v1/webhooks", admins, a.createWebhook)
	on("GET HEAD", "/v1/webhooks", admins, a.webhooks, plain)
	on("GET HEAD", "/v1/webhooks/:id", admins, a.webhook, plain)
	on("DELETE", "/v1/webhooks/:id", admins, a.deleteWebhook, plain)
	on("POST", "/v1/webhooks/:id/pause", admins, a.pauseWebhook, plain)
	on("POST", "/v1/webhooks/:id/resume", admins, a.resumeWebhook, plain)
	on("POST", "/v1/webhooks/:id/test", admins, a.testWebhook, plain)
	on("POST", "/v1/webhooks/:id/replay", admins, a.replay)
	on("GET HEAD", "/v1/webhooks/:id/deliveries", admins, a.deliveries, plain)
	on("POST", "/v1/tokens", admins, a.createToken)
	on("GET HEAD", "/v1/tokens", admins, a.tokens, plain)
	on("DELETE", "/v1/tokens/:id", admins, a.revokeToken, plain)
	on("POST", "/v1/jobs/:name/run", admins, a.runJob, plain)
	on("GET HEAD", "/", readers, status.Overview)
	on("GET HEAD", "/instances", readers, status.Instances)
	on("GET HEAD", "/instances/:id", readers, status.Instance)
	on("GET HEAD", "/services/:name", readers, status.Service)
	on("GET HEAD", "/frontends", readers, status.Frontends)
	on("GET HEAD", "/explain", readers, status.Explain)
	on("GET HEAD", "/events", readers, status.Events)
	on("GET HEAD", "/static/:file", everybody, status.Static)
	on("GET HEAD", "/livez", everybody, a.livez)
	on("GET HEAD", "/readyz", everybody, a.readyz)
	on("GET HEAD", "/openapi.yaml", everybody, a.openapi)
	on("GET HEAD", "/metrics", readers, echo.WrapHandler(a.Metrics))
}

func (a *API) statusPage() *page.Page {
	return &page.Page{
		Registry: a.Registry, Replica: a.Replica, Store: a.Store, Now: a.Now, DrainPeriod: a.DrainPeriod,
		Problem: func(c echo.Context, err error) page.Problem {
			p := a.problemOf(c, err)
			return page.Problem{Status: p.Status, Title: p.Title, Detail: p.Detail, Field: p.Field, Want: p.Want}
		},
	}
}

// measured tells how each request was answered. It has errors answered first.
func (a *API) measured(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		began := time.Now()
		if err := next(c); err != nil {
			c.Error(err)
		}
		if a.Served != nil {
			a.Served(c.Request().Method, c.Path(), c.Response().Status, time.Since(began))
		}
		return nil
	}
}

// survive turns a panic into an internal error, which only the log describes, bounds the
// body, and refuses the requests that a page of another site makes a browser send: while
// Rollcall listens on loopback only, being on this machine is the permission.
func (a *API) survive(next echo.HandlerFunc) echo.HandlerFunc {
	sites := http.NewCrossOriginProtection()
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		c.Request().Body = http.MaxBytesReader(c.Response().Writer, c.Request().Body, a.MaxBody)
		if err := a.checkHost(c.Request()); err != nil {
			return err
		}
		if err := sites.Check(c.Request()); err != nil {
			return fmt.Errorf("%w: %w", errCrossOrigin, err)
		}
		return next(c)
	}
}

// plain is for calls that take no parameters: one that is given is a mistake.
func plain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := input.NoParameters(c.Request()); err != nil {
			return err
		}
		return next(c)
	}
}

// age is how long ago the replica was up to date, or why it cannot be read from.
func (a *API) age() (time.Duration, error) { return a.Replica.Age(time.Now()) }

// wrote waits until this process's reads have what it has just written. When that
// takes long the write still holds, so the answer does not wait for ever.
func (a *API) wrote(ctx context.Context, r app.Revision) {
	if r == "" {
		return
	}
	reading, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := a.Replica.WaitRevision(reading, r); err != nil && ctx.Err() == nil {
		a.Log.WarnContext(ctx, "a write is not in the replica yet", "revision", r)
	}
}
