// Package handlers is Rollcall's HTTP API: it reads requests, calls the verbs of the registry and writes answers.
// The method routes lists every route. Each resource has a file and a type. Only this package and handlers/page
// import echo.
package handlers

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/app/webhook"
	"rollcall/handlers/agents"
	"rollcall/handlers/caller"
	"rollcall/handlers/input"
	"rollcall/handlers/page"
)

// API has the parts that serve the HTTP API. Serving, Served and the settings but MaxBody may be zero.
type API struct {
	Registry *registry.Registry
	Replica  *replica.Replica // followed by the process
	Store    Reader
	History  Histories
	Tokens   *auth.Tokens // refreshed by the process
	Webhooks *webhook.Webhooks
	Jobs     Jobs
	Agents   agents.Reports
	Metrics  http.Handler // for Prometheus
	Now      func() time.Time
	Log      *slog.Logger
	Settings

	Serving context.Context                                            //nolint:containedctx // its end ends streams and long polls; nil: never
	Served  func(method, route string, status int, took time.Duration) // called after every answer; may be nil
}

// Settings are the settings of the HTTP API.
type Settings struct {
	FrontendKey    func(host string) string // key of a vhost's frontend in Redis
	DrainPeriod    time.Duration            // default drain period
	Version        string                   // of Rollcall, for the page; empty if unknown
	TrustedProxies []*net.IPNet             // networks of the proxies that name the client in X-Forwarded-For or Forwarded
	Rules          app.Rules                // for registrations
	RegisterRate   int                      // registrations a second and caller; 0: no limit
	MaxBody        int64                    // bytes of a request's body
}

// Reader reads the data that the replica does not hold.
type Reader interface {
	page.Reader
	// Host reads the keys that the proxy reads for a Host header.
	Host(ctx context.Context, header string) (diagnose.Host, error)
	// Events returns up to limit events after a revision, oldest first. It returns an *app.TrimmedError if
	// Redis no longer keeps all of them.
	Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error)
	// Writable returns the error of the process's last write if Redis refused it.
	Writable() error
}

// Jobs runs jobs on demand.
type Jobs interface {
	Names() []string
	RunOnce(ctx context.Context, name string) error
}

// Handler returns the handler of the HTTP API.
func (a *API) Handler() http.Handler {
	e := echo.New()
	problems := problems{a.Log, page.Error}
	e.HTTPErrorHandler = problems.answer
	e.IPExtractor = echo.ExtractIPDirect()
	e.Use(measure(a.Served), guard(a.MaxBody, a.Tokens))
	gate := gate{a.Tokens}
	on := func(methods, path string, needs access, h echo.HandlerFunc, m ...echo.MiddlewareFunc) {
		e.Match(strings.Fields(methods), path, h, append([]echo.MiddlewareFunc{gate.admit(needs), afterWrites(needs, a.Replica)}, m...)...)
	}
	a.routes(on, problems)
	return e
}

// addRoute adds a route for some methods.
type addRoute func(methods, path string, needs access, h echo.HandlerFunc, m ...echo.MiddlewareFunc)

func (a *API) routes(on addRoute, problems problems) {
	reads := reads{a.Replica, a.Log}
	history := history{a.Replica, a.Store}
	explainer := diagnose.Explainer{Proxy: a.Store, Replica: a.Replica, Registry: a.Registry}

	registrations := &registrations{
		reads: reads, registry: a.Registry, tokens: a.Tokens, problems: problems, rules: a.Rules,
		clients: caller.Clients{Trusted: a.TrustedProxies}, limiter: caller.Limiter{PerSecond: a.RegisterRate}, frontendKey: a.FrontendKey,
	}
	on("POST", "/v1/register", anyToken, registrations.register)

	instances := instances{reads: reads, registry: a.Registry, store: a.Store, now: a.Now, drainPeriod: a.DrainPeriod}
	on("GET HEAD", "/v1/instances/:id", anyToken, instances.get, noParams)
	on("PATCH", "/v1/instances/:id", adminToken, instances.override)
	on("POST", "/v1/instances/:id/heartbeat", anyToken, instances.heartbeat)
	on("POST", "/v1/instances/:id/drain", anyToken, instances.drain)
	on("DELETE", "/v1/instances/:id", anyToken, instances.deregister)

	services := &services{reads: reads, history: history, serving: a.Serving}
	on("GET HEAD", "/v1/services", readToken, services.list, noParams)
	on("GET HEAD", "/v1/services/:name", readToken, services.get)
	on("GET HEAD", "/v1/services/:name/pick", readToken, services.pick)
	on("GET HEAD", "/v1/services/:name/env", readToken, services.linkOne)
	on("GET HEAD", "/v1/services/:name/history", readToken, serviceHistory{reads, a.History, a.Now}.get)
	on("GET HEAD", "/v1/env", readToken, services.linkMany)
	on("GET HEAD", "/v1/sd/prometheus", readToken, services.prometheus)
	on("GET HEAD", "/v1/traefik", readToken, services.traefik)

	on("PUT", "/v1/agents/:node", anyToken, a.Agents.Put)

	events := events{reads: reads, history: history, serving: a.Serving}
	on("GET", "/v1/events", readToken, events.stream)

	frontends := frontends{reads: reads, store: a.Store, explainer: explainer, key: a.FrontendKey}
	on("GET HEAD", "/v1/frontends", readToken, frontends.list, noParams)
	on("GET HEAD", "/v1/explain", readToken, frontends.explain)
	on("GET HEAD", "/v1/tls/ask", noToken, frontends.tlsAsk)

	tokens := tokens{a.Tokens}
	on("POST", "/v1/tokens", adminToken, tokens.create)
	on("GET HEAD", "/v1/tokens", adminToken, tokens.list, noParams)
	on("DELETE", "/v1/tokens/:id", adminToken, tokens.revoke, noParams)

	operations := operations{reads: reads, store: a.Store, jobs: a.Jobs}
	on("POST", "/v1/jobs/:name/run", adminToken, operations.runJob, noParams)
	on("GET HEAD", "/livez", noToken, operations.livez)
	on("GET HEAD", "/readyz", noToken, operations.readyz)
	on("GET HEAD", "/openapi.yaml", noToken, operations.openapi)
	on("GET HEAD", "/metrics", readToken, echo.WrapHandler(a.Metrics))

	a.webhookRoutes(on)
	a.pageRoutes(on, explainer, problems)
}

func (a *API) webhookRoutes(on addRoute) {
	webhooks := webhooks{a.Webhooks, a.Now}
	on("POST", "/v1/webhooks", adminToken, webhooks.create)
	on("GET HEAD", "/v1/webhooks", adminToken, webhooks.list, noParams)
	on("GET HEAD", "/v1/webhooks/:id", adminToken, webhooks.get, noParams)
	on("DELETE", "/v1/webhooks/:id", adminToken, webhooks.delete, noParams)
	on("POST", "/v1/webhooks/:id/pause", adminToken, webhooks.pause, noParams)
	on("POST", "/v1/webhooks/:id/resume", adminToken, webhooks.resume, noParams)
	on("POST", "/v1/webhooks/:id/test", adminToken, webhooks.test, noParams)
	on("POST", "/v1/webhooks/:id/replay", adminToken, webhooks.replay)
	on("GET HEAD", "/v1/webhooks/:id/deliveries", adminToken, webhooks.deliveries, noParams)
}

// pageRoutes adds the routes of the status page.
func (a *API) pageRoutes(on addRoute, explainer diagnose.Explainer, problems problems) {
	status := &page.Page{
		Registry: a.Registry, Replica: a.Replica, Store: a.Store, Histories: a.History, Webhooks: a.Webhooks, Tokens: a.Tokens,
		Explainer: explainer, Now: a.Now,
		DrainPeriod: a.DrainPeriod, Version: a.Version, Problem: problems.forPage,
	}
	on("GET HEAD", "/", readToken, status.Overview)
	on("GET HEAD", "/instances", readToken, status.Instances)
	on("GET HEAD", "/instances/:id", readToken, status.Instance)
	on("GET HEAD", "/services/:name", readToken, status.Service)
	on("GET HEAD", "/frontends", readToken, status.Frontends)
	on("GET HEAD", "/explain", readToken, status.Explain)
	on("GET HEAD", "/events", readToken, status.Events)
	on("GET HEAD", "/webhooks", adminToken, status.WebhookList)
	on("GET HEAD", "/webhooks/:id", adminToken, status.Webhook)
	on("GET HEAD", "/tokens", adminToken, status.TokenList)
	on("GET HEAD", "/system", adminToken, status.System)
	on("GET HEAD", "/static/:file", noToken, status.Static)
}

// noParams refuses parameters in the URL of a call that has none.
func noParams(next echo.HandlerFunc) echo.HandlerFunc {
	return func(c echo.Context) error {
		if err := input.NoParameters(c.Request()); err != nil {
			return err
		}
		return next(c)
	}
}
