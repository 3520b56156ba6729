package handlers

import (
	"bytes"
	"cmp"
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
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
)

// The status page: HTML made here, and a script that fetches it again when something
// has happened. What the page does, it does through the API.

//go:embed page
var pageFiles embed.FS

// pages are the templates by name: each within the layout, with the parts. To parse them
// is a good part of what it takes to start, and most processes are never asked for one.
var pages = sync.OnceValue(parsePages)

func parsePages() map[string]*template.Template {
	funcs := template.FuncMap{"brief": diagnose.Duration, "sentence": sentence, "list": func(items ...any) []any { return items }}
	frame := template.Must(template.New("layout.html").Funcs(funcs).ParseFS(pageFiles, "page/layout.html", "page/parts.html"))
	all := map[string]*template.Template{}
	names, _ := fs.Glob(pageFiles, "page/*.html") // the pattern is right
	for _, name := range names {
		all[strings.TrimSuffix(path.Base(name), ".html")] = template.Must(template.Must(frame.Clone()).ParseFS(pageFiles, name))
	}
	return all
}

// page is what a template shows.
type page struct {
	template string
	status   int

	Title   string
	Section string // the entry of the navigation that it is under
	Body    any

	Down  int    // how many of all instances are unhealthy or failed
	AsOf  moment // what it shows is from then; zero when nothing has been read yet
	Stale bool   // and that is not now: the registry is out of reach
}

// contentPolicy has a browser take scripts and styles from this server's files only:
// whatever a container has put into its registration, it is text.
const contentPolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"frame-ancestors 'none'; form-action 'self'; base-uri 'none'"

// view makes a page of all instances, and of what it reads besides.
type view func(c echo.Context, all []app.Instance) (page, error)

// shown is a view as it is answered: errors are pages too.
type shown struct {
	*API
	view view
}

func (a *API) page(v view) echo.HandlerFunc { return shown{a, v}.serve }

func (a shown) serve(c echo.Context) error {
	all := a.Replica.Instances("")
	p, err := page{template: "unread", status: http.StatusServiceUnavailable, Title: "Out of reach"}, error(nil)
	if a.Replica.Revision() != "" {
		p, err = a.view(c, all)
	}
	if err != nil && c.Request().Context().Err() != nil {
		return err // nobody is there to read it
	}
	if err != nil {
		problem := a.problemOf(c, err)
		p = page{template: "problem", status: problem.Status, Title: problem.Title, Body: problem}
	}
	age, stale := a.age()
	p.Stale = stale != nil
	if a.Replica.Revision() != "" {
		p.AsOf = a.moment(a.Now().Add(-age))
	}
	p.Down = tallyOf(all).Down()
	var text bytes.Buffer
	if err := pages()[p.template].Execute(&text, p); err != nil {
		return fmt.Errorf("page %s: %w", p.template, err)
	}
	guard(c.Response().Header())
	c.Response().Header().Set(echo.HeaderCacheControl, "no-store")
	return c.HTML(max(p.status, http.StatusOK), app.Visible(text.String()))
}

func guard(h http.Header) {
	h.Set(echo.HeaderContentSecurityPolicy, contentPolicy)
	h.Set(echo.HeaderXContentTypeOptions, "nosniff")
	h.Set(echo.HeaderReferrerPolicy, "no-referrer")
}

// static serves the page's script, style and icon.
func (a *API) static(c echo.Context) error {
	name := c.Param("file")
	body, err := pageFiles.ReadFile("page/" + name)
	if err != nil || path.Ext(name) == ".html" {
		return fmt.Errorf("file %s: %w", input.Quote(name), app.ErrNotFound)
	}
	h := c.Response().Header()
	guard(h)
	h.Set(echo.HeaderCacheControl, "no-cache") // ask, and be told that it is the same
	h.Set("ETag", fmt.Sprintf(`"%x"`, sha256.Sum256(body)))
	http.ServeContent(c.Response(), c.Request(), name, time.Time{}, bytes.NewReader(body))
	return nil
}

// readVhosts reads every vhost as the proxy does. It does not ask a Redis that is known
// to be away.
func (a *API) readVhosts(c echo.Context) ([]app.Frontend, error) {
	if _, err := a.age(); err != nil {
		return nil, err
	}
	return a.Store.Frontends(c.Request().Context())
}

// unread reports whether an error leaves a part of a page empty, which says so, while the
// rest of it is still worth showing.
func unread(err error) bool { return errors.Is(err, app.ErrUnavailable) }

// moment is a time as people read it: how long ago, or how long until.
type moment struct{ at, now time.Time }

func (a *API) moment(t time.Time) moment { return moment{t, a.Now()} }

// IsZero reports whether there is no such time.
func (m moment) IsZero() bool { return m.at.IsZero() }

// ISO is the time for programs.
func (m moment) ISO() string { return m.at.UTC().Format(time.RFC3339) }

// Full is the time in full.
func (m moment) Full() string { return m.at.UTC().Format("2 January 2006, 15:04:05 UTC") }

// Clock is the time of the day.
func (m moment) Clock() string { return m.at.UTC().Format("15:04:05 UTC") }

// Words is the time from now.
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

// Span is how long it is from then to now, or from now to then.
func (m moment) Span() string { return cmp.Or(inWords(m.now.Sub(m.at).Abs()), "a moment") }

// sentence is a phrase as one.
func sentence(s string) string {
	first, size := utf8.DecodeRuneInString(s)
	return string(unicode.ToUpper(first)) + s[size:] + "."
}

// inWords is a duration in its largest unit; empty when it is less than a second.
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
