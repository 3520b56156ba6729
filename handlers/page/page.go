// Package page serves the status page: services, instances, frontends and events as HTML, for people. It only reads the
// registry. Its script calls the API.
package page

import (
	"bytes"
	"cmp"
	"context"
	"crypto/sha256"
	"embed"
	"errors"
	"fmt"
	"html/template"
	"io/fs"
	"net/http"
	"path"
	"strings"
	"sync"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
	"rollcall/app/display"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/app/webhook"
	"rollcall/handlers/input"
)

// Page serves the status page: HTML, and a script that fetches it again after an event. Its buttons call the API.
type Page struct {
	Registry    *registry.Registry
	Replica     *replica.Replica
	Store       Reader
	Histories   Histories
	Webhooks    Webhooks
	Tokens      Tokens
	Explainer   diagnose.Explainer
	Now         func() time.Time
	DrainPeriod time.Duration
	Version     string                                  // of Rollcall; empty if unknown
	Problem     func(c echo.Context, err error) Problem // describes an error, and logs it if the operator must know

	dayStrips   shared[strip]      // by service, of the last 24 hours
	lastResults shared[app.Result] // by instance
}

// Reader reads the data that the replica does not hold.
type Reader interface {
	// Recent returns the last results of an instance and the time of its next probe.
	Recent(ctx context.Context, id string) (app.Recent, error)
	// LastResults returns the last results of instances, as old as the interval of the flushes. It leaves out instances
	// without one.
	LastResults(ctx context.Context, ids []string) (map[string]app.Result, error)
	// Frontends returns every vhost as the proxy reads it, sorted by name.
	Frontends(ctx context.Context) ([]app.Frontend, error)
	// Server reads the INFO and some settings of Redis.
	Server(ctx context.Context) (diagnose.Server, error)
	// Workers reads the workers and the terms of the shards.
	Workers(ctx context.Context) (diagnose.Workers, error)
	// Processes lists the running web and cron processes.
	Processes(ctx context.Context) ([]diagnose.Process, error)
}

// Webhooks reads the subscriptions.
type Webhooks interface {
	List(ctx context.Context) ([]webhook.Webhook, error)
	Get(ctx context.Context, id string) (webhook.Webhook, error)
	Attempts(ctx context.Context, id string) ([]webhook.Attempt, error)
}

// Tokens reads the tokens.
type Tokens interface {
	List(ctx context.Context) ([]auth.Token, error)
}

// Problem is an error as the page shows it.
type Problem struct {
	Status              int
	Title               string
	Detail, Field, Want string
}

//go:embed assets
var assets embed.FS

// pages are the templates by name, each inside the layout and with the parts. They are parsed at the first request, because
// parsing takes a large part of a process's start and most processes serve no page.
var pages = sync.OnceValue(parsePages)

func parsePages() map[string]*template.Template {
	funcs := template.FuncMap{"brief": diagnose.Duration, "sentence": sentence, "list": func(items ...any) []any { return items }}
	frame := template.Must(template.New("layout.html").Funcs(funcs).ParseFS(assets, "assets/layout.html", "assets/parts.html"))
	all := map[string]*template.Template{}
	names, _ := fs.Glob(assets, "assets/*.html") // the pattern is right
	for _, name := range names {
		all[strings.TrimSuffix(path.Base(name), ".html")] = template.Must(template.Must(frame.Clone()).ParseFS(assets, name))
	}
	return all
}

// view is the data of a template.
type view struct {
	template string
	status   int

	Title   string
	Section string // active entry of the navigation
	Body    any

	Down  int    // number of unhealthy and failed instances
	AsOf  moment // age of the data; zero before the first read
	Stale bool   // the registry is out of reach
	Base  string // URL of this server as the browser knows it
	Final bool   // the page does not update itself
}

// contentPolicy permits scripts and styles of this server only, so that a browser runs no code from the text of a
// registration.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; form-action 'self'; base-uri 'none'"

// content returns the data of a page. all are the instances in the replica.
type content func(c echo.Context, all []app.Instance) (view, error)

// serve answers with a page. Errors are pages too.
func (p *Page) serve(c echo.Context, content content) error {
	all := p.Replica.Instances("")
	v, err := view{template: "unread", status: http.StatusServiceUnavailable, Title: "Out of reach"}, error(nil)
	if p.Replica.Revision() != "" {
		v, err = content(c, all)
	}
	if err != nil && c.Request().Context().Err() != nil {
		return err // the caller has gone
	}
	if err != nil {
		problem := p.Problem(c, err)
		v = view{template: "problem", status: problem.Status, Title: problem.Title, Body: problem}
	}
	age, stale := p.Replica.Age(time.Now())
	v.Stale = stale != nil
	v.Base = c.Scheme() + "://" + c.Request().Host
	if p.Replica.Revision() != "" {
		v.AsOf = p.moment(p.Now().Add(-age))
	}
	v.Down = tallyOf(all).Down()
	var text bytes.Buffer
	if err := pages()[v.template].Execute(&text, v); err != nil {
		return fmt.Errorf("page %s: %w", v.template, err)
	}
	guard(c.Response().Header())
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.HTML(max(v.status, http.StatusOK), display.Visible(text.String()))
}

// Error answers a browser with an error. The caller may have no token, so the page has no data of the registry. It does not
// update itself.
func Error(c echo.Context, problem Problem) error {
	v := view{template: "problem", Title: problem.Title, Body: problem, Final: true}
	var text bytes.Buffer
	if err := pages()[v.template].Execute(&text, v); err != nil {
		return fmt.Errorf("page %s: %w", v.template, err)
	}
	guard(c.Response().Header())
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.HTML(problem.Status, display.Visible(text.String()))
}

func guard(h http.Header) {
	h.Set(echo.HeaderContentSecurityPolicy, contentPolicy)
	h.Set(echo.HeaderXContentTypeOptions, "nosniff")
	h.Set(echo.HeaderReferrerPolicy, "no-referrer")
}

// Overview answers with every service, the vhosts that are worst off and the last events.
func (p *Page) Overview(c echo.Context) error { return p.serve(c, p.overview) }

// Instances answers with the instances that the query selects.
func (p *Page) Instances(c echo.Context) error { return p.serve(c, p.instances) }

// Instance answers with one instance.
func (p *Page) Instance(c echo.Context) error { return p.serve(c, p.instance) }

// Service answers with one service.
func (p *Page) Service(c echo.Context) error { return p.serve(c, p.service) }

// Frontends answers with every vhost as the proxy reads it.
func (p *Page) Frontends(c echo.Context) error { return p.serve(c, p.frontends) }

// Explain answers with the explanation of a Host header.
func (p *Page) Explain(c echo.Context) error { return p.serve(c, p.explain) }

// Events answers with the events, newest first.
func (p *Page) Events(c echo.Context) error { return p.serve(c, p.events) }

// Static serves the page's script, style and icon.
func (p *Page) Static(c echo.Context) error {
	name := c.Param("file")
	body, err := assets.ReadFile("assets/" + name)
	if err != nil || path.Ext(name) == ".html" {
		return fmt.Errorf("file %s: %w", input.Quote(name), app.ErrNotFound)
	}
	h := c.Response().Header()
	guard(h)
	h.Set(echo.HeaderCacheControl, "no-cache") // the browser asks each time and gets 304
	h.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(body)))
	http.ServeContent(c.Response(), c.Request(), name, time.Time{}, bytes.NewReader(body))
	return nil
}

// readVhosts reads every vhost as the proxy reads it. It does not call Redis while the registry is out of reach.
func (p *Page) readVhosts(c echo.Context) ([]app.Frontend, error) {
	if _, err := p.Replica.Age(time.Now()); err != nil {
		return nil, err
	}
	return p.Store.Frontends(c.Request().Context())
}

// unread reports whether an error means that a part of a page is missing. The page shows the other parts and says so.
func unread(err error) bool { return errors.Is(err, app.ErrUnavailable) }

// moment is a time that the page shows relative to now.
type moment struct{ at, now time.Time }

func (p *Page) moment(t time.Time) moment { return moment{t, p.Now()} }

// IsZero reports whether the time is absent.
func (m moment) IsZero() bool { return m.at.IsZero() }

// ISO returns the time for programs.
func (m moment) ISO() string { return m.at.UTC().Format(time.RFC3339) }

// Full returns the date and time.
func (m moment) Full() string { return m.at.UTC().Format("2 January 2006, 15:04:05 UTC") }

// Clock returns the time of day.
func (m moment) Clock() string { return m.at.UTC().Format("15:04:05 UTC") }

// Words returns the distance from now, such as "5 min ago" or "in 3 s".
func (m moment) Words() string {
	d := m.now.Sub(m.at)
	switch length := inWords(d.Abs()); {
	case length == "":
		return "just now"
	case d < 0:
		return "in " + length
	default:
		return length + " ago"
	}
}

// Span returns the length of the time between the moment and now.
func (m moment) Span() string { return cmp.Or(inWords(m.now.Sub(m.at).Abs()), "a moment") }

// sentence returns a phrase with a capital letter and a full stop.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:] + "."
}

// inWords returns a duration in its largest unit, or an empty text below one second.
func inWords(d time.Duration) string {
	switch {
	case d < time.Second:
		return ""
	case d < time.Minute:
		return fmt.Sprintf("%d s", d/time.Second)
	case d < time.Hour:
		return fmt.Sprintf("%d min", d/time.Minute)
	case d < 48*time.Hour:
		return fmt.Sprintf("%d h", d/time.Hour)
	}
	return fmt.Sprintf("%d days", d/(24*time.Hour))
}
