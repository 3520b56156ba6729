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
	"sync"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// API is what the handlers need. All fields but TrustedProxies, Serving and Served are required.
type API struct {
	Registry *app.Registry
	Snapshot *app.Snapshot // for reads, kept up to date by somebody else
	Store    Reader        // for reads that are not in the snapshot
	Webhooks *app.Webhooks
	Jobs     Jobs
	Now      func() time.Time
	Log      *slog.Logger

	FrontendKey    func(host string) string // the name of a vhost's list in the proxy's Redis
	DrainHold      time.Duration            // how long a drained instance goes on answering, unless the call says
	Metrics        http.Handler             // for Prometheus
	TrustedProxies []*net.IPNet             // whose X-Forwarded-For names the caller; nobody's when empty
	Serving        context.Context          //nolint:containedctx // over when streams and long polls have to end; nil: never

	Served func(method, route string, status int, took time.Duration) // hears of every answer; nil: nobody does

	turns sync.Map // by service, a *atomic.Uint64: how many picks took turns
}

// Reader reads what the snapshot does not hold.
type Reader interface {
	// Results returns the last results of an instance, oldest first.
	Results(ctx context.Context, id string) ([]app.Result, error)
	// Frontends returns every vhost as the proxy reads it, sorted by name.
	Frontends(ctx context.Context) ([]app.Frontend, error)
	// Explain says what the proxy makes of a Host header.
	Explain(ctx context.Context, header string) (app.Explanation, error)
	// Events returns up to limit events after a revision, oldest first, or an
	// *app.TrimmedError when some of them are no longer kept.
	Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error)
}

// Jobs runs jobs on demand.
type Jobs interface {
	Names() []string
	RunOnce(ctx context.Context, name string) error
}

// maxBody is how many bytes of a body are read.
const maxBody = 256 << 10

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
	e.Use(a.measured, survive)
	a.routes(e)
	return e
}

func (a *API) routes(e *echo.Echo) {
	get := func(path string, h echo.HandlerFunc, m ...echo.MiddlewareFunc) {
		e.GET(path, h, m...)
		e.HEAD(path, h, m...)
	}
	e.POST("/v1/register", a.register)
	get("/v1/instances/:id", a.instance, plain)
	e.PATCH("/v1/instances/:id", a.override)
	e.POST("/v1/instances/:id/heartbeat", a.heartbeat)
	e.POST("/v1/instances/:id/drain", a.drain)
	e.DELETE("/v1/instances/:id", a.deregister, plain)
	get("/v1/services", a.services, plain)
	get("/v1/services/:name", a.service)
	get("/v1/services/:name/pick", a.pick)
	get("/v1/services/:name/env", a.linkOne)
	get("/v1/env", a.linkMany)
	e.GET("/v1/events", a.events)
	get("/v1/frontends", a.frontends, plain)
	get("/v1/explain", a.explain)
	get("/v1/sd/prometheus", a.prometheus)
	get("/v1/tls/ask", a.tlsAsk)
	e.POST("/v1/webhooks", a.createWebhook)
	get("/v1/webhooks", a.webhooks, plain)
	get("/v1/webhooks/:id", a.webhook, plain)
	e.DELETE("/v1/webhooks/:id", a.deleteWebhook, plain)
	e.POST("/v1/webhooks/:id/pause", a.pauseWebhook, plain)
	e.POST("/v1/webhooks/:id/resume", a.resumeWebhook, plain)
	e.POST("/v1/webhooks/:id/test", a.testWebhook, plain)
	e.POST("/v1/webhooks/:id/replay", a.replay)
	get("/v1/webhooks/:id/deliveries", a.deliveries, plain)
	e.POST("/v1/jobs/:name/run", a.runJob, plain)
	get("/", a.page(a.overviewPage))
	get("/instances", a.page(a.instancesPage))
	get("/instances/:id", a.page(a.instancePage))
	get("/services/:name", a.page(a.servicePage))
	get("/frontends", a.page(a.vhostsPage))
	get("/explain", a.page(a.vhostPage))
	get("/events", a.page(a.eventsPage))
	get("/static/:file", a.static)
	get("/livez", a.livez)
	get("/readyz", a.readyz)
	get("/openapi.yaml", a.openapi)
	get("/metrics", echo.WrapHandler(a.Metrics))
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

// survive turns a panic into an error, which nobody but the log is told, bounds what
// is read, and refuses what a page of another site has a browser send: where Rollcall
// listens on loopback only, being there is the permission.
func survive(next echo.HandlerFunc) echo.HandlerFunc {
	sites := http.NewCrossOriginProtection()
	return func(c echo.Context) (err error) {
		defer func() {
			if p := recover(); p != nil {
				err = fmt.Errorf("panic: %v\n%s", p, debug.Stack())
			}
		}()
		c.Request().Body = http.MaxBytesReader(c.Response().Writer, c.Request().Body, maxBody)
		if err := sites.Check(c.Request()); err != nil {
			return fmt.Errorf("%w: %w", errCrossOrigin, err)
		}
		return next(c)
	}
}

// plain is for calls that take no parameters: one that is given is a mistake.
func plain(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := readQuery(c.Request(), &struct{}{}); err != nil {
			return err
		}
		return next(c)
	}
}

// age is how long ago the snapshot was up to date, or why it cannot be read from.
func (a *API) age() (time.Duration, error) { return a.Snapshot.Age(time.Now()) }

// wrote waits until this process's reads have what it has just written. When that
// takes long the write still holds, so the answer does not wait for ever.
func (a *API) wrote(ctx context.Context, r app.Revision) {
	if r == "" {
		return
	}
	reading, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	if err := a.Snapshot.Reached(reading, r); err != nil && ctx.Err() == nil {
		a.Log.WarnContext(ctx, "a write is not in the snapshot yet", "revision", r)
	}
}
