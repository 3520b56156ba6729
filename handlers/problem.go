package handlers

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/caller"
	"rollcall/handlers/input"
	"rollcall/handlers/page"
)

// problem is the body of every error answer, application/problem+json (RFC 9457).
type problem struct {
	Type   string `json:"type"` // urn:rollcall:<code>, stable
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"` // the field at fault
	Want   string `json:"want,omitempty"`  // correct input or next step

	Instance string    `json:"id,omitempty"` // of the instance concerned
	State    app.State `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"` // of the last check
}

// statuses maps the kinds of errors to HTTP. Any other error is internal.
var statuses = []struct {
	err    error
	status int
	code   string
	title  string
	want   string // unless the error has its own
}{
	{app.ErrUndelivered, http.StatusFailedDependency, "undelivered", "Not delivered", ""},
	{app.ErrInvalid, http.StatusUnprocessableEntity, "invalid", "Invalid input", ""},
	{app.ErrNotFound, http.StatusNotFound, "not-found", "Not found", ""},
	{app.ErrConflict, http.StatusConflict, "conflict", "Conflict", "try again"},
	{errTooLate, http.StatusGone, "trimmed", "Events are no longer kept", "read everything anew, then the events without Last-Event-ID"},
	{errNoToken, http.StatusUnauthorized, "unauthorized", "Unauthorized", "give one, as in Authorization: Bearer …"},
	{errNoBearer, http.StatusUnauthorized, "unauthorized", "Unauthorized", "write Bearer before the token, as in Authorization: Bearer …"},
	{errBadToken, http.StatusUnauthorized, "unauthorized", "Unauthorized", "give another one, as in Authorization: Bearer …"},
	{app.ErrForbidden, http.StatusForbidden, "forbidden", "Forbidden", ""},
	{app.ErrGone, http.StatusGone, "draining", "Draining", "it was told to leave, and that is final: start it anew"},
	{app.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "The registry cannot be reached", "try again: every call may be repeated"},
	{errNoneHealthy, http.StatusServiceUnavailable, "none-healthy", "No healthy instance", "try again, or see why with ?state=any"},
	{errCrossOrigin, http.StatusForbidden, "cross-origin", "Cross-origin request", "a browser may only call from this server's own pages"},
	{errForeignHost, http.StatusForbidden, "foreign-host", "Foreign host", "call localhost or 127.0.0.1; to serve another name, set ROLLCALL_ADMIN_TOKEN and give a token with each call"},
	{errNotHealthy, http.StatusFailedDependency, "not-healthy", "Not healthy", ""},
	{input.ErrMediaType, http.StatusUnsupportedMediaType, "media-type", "Unsupported media type", "send a form (curl -d name=value) or application/json"},
	{input.ErrMalformed, http.StatusBadRequest, "malformed", "Malformed", ""},
}

// wantUncertain replaces the advice of a call whose change may have been made.
const wantUncertain = "the change may have been made all the same; try again: every call may be repeated"

var (
	errCrossOrigin = errors.New("another site's page is calling")
	errForeignHost = errors.New("without tokens only localhost and loopback addresses are served")
	errTooLate     = errors.New("too late")
	errNoneHealthy = errors.New("none is healthy")
	errNotHealthy  = errors.New("not healthy")
)

// A notHealthyError has the instance that was not healthy at the end of a wait.
type notHealthyError struct {
	instance app.Instance
	waited   time.Duration
}

// Error implements error.
func (e *notHealthyError) Error() string {
	i := e.instance
	text := fmt.Sprintf("%s is %s after %s: %s", i.ID, i.State, e.waited.Round(time.Millisecond), e.reason())
	if i.Replaces != "" {
		text += "; " + i.Replaces + " stays"
	}
	return text
}

func (e *notHealthyError) reason() string { return diagnose.LastResult(e.instance) }

// Is reports whether the target is the kind of the error.
func (e *notHealthyError) Is(target error) bool { return target == errNotHealthy }

// describe returns the problem of an error, without details that the caller must not learn.
func describe(err error) problem {
	for _, describe := range []func(error) (problem, bool){limited, known, unrouted} {
		if p, ok := describe(err); ok {
			return p
		}
	}
	return problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: http.StatusInternalServerError}
}

// limited describes an error of a limit on requests.
func limited(err error) (problem, bool) {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem{
			Type: "urn:rollcall:too-large", Title: "Too large", Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit), Want: "send less, or in several calls",
		}, true
	}
	if tooOften, ok := errors.AsType[*caller.LimitError](err); ok {
		return problem{
			Type: "urn:rollcall:too-many-requests", Title: "Too many requests", Status: http.StatusTooManyRequests,
			Detail: tooOften.Error(), Want: "try again later; the limit is ROLLCALL_REGISTER_RATE",
		}, true
	}
	return problem{}, false
}

// known describes an error of a kind in statuses.
func known(err error) (problem, bool) {
	for _, s := range statuses {
		if errors.Is(err, s.err) {
			p := problem{Type: "urn:rollcall:" + s.code, Title: s.title, Status: s.status, Detail: err.Error(), Want: s.want}
			p.add(err)
			return p, true
		}
	}
	return problem{}, false
}

// add adds the details that errors of some types have.
func (p *problem) add(err error) {
	if errors.Is(err, app.ErrUnavailable) {
		p.addOutage(err)
	}
	if hint, ok := errors.AsType[*input.HintError](err); ok {
		p.Want = hint.Want
	}
	if forbidden, ok := errors.AsType[*app.ForbiddenError](err); ok {
		p.Detail, p.Want = forbidden.Error(), forbidden.Want
	}
	if field, ok := errors.AsType[*app.FieldError](err); ok {
		p.Detail, p.Field, p.Want = field.Error(), field.Field, field.Want
	}
	if sick, ok := errors.AsType[*notHealthyError](err); ok {
		p.Instance, p.State, p.Reason = sick.instance.ID, sick.instance.State, sick.reason()
	}
}

func (p *problem) addOutage(err error) {
	p.Detail = diagnose.Outage(err)
	if errors.Is(err, app.ErrUncertain) {
		p.Want = wantUncertain
	}
}

// unrouted describes an error of the router.
func unrouted(err error) (problem, bool) {
	e, ok := errors.AsType[*echo.HTTPError](err)
	if !ok {
		return problem{}, false
	}
	p := problem{Type: "about:blank", Title: http.StatusText(e.Code), Status: e.Code}
	if e.Code == http.StatusNotFound {
		p.Detail, p.Want = "no call has this path", "see /openapi.yaml for the paths"
	}
	return p, true
}

// problems answers requests with errors.
type problems struct {
	log  *slog.Logger
	page func(c echo.Context, p page.Problem) error // answers a browser
}

// of describes an error, and logs it unless it is the caller's fault.
func (w problems) of(c echo.Context, err error) problem {
	p, r := describe(err), c.Request()
	p.advise(c)
	attrs := []any{"method", r.Method, "path", c.Path(), "status", p.Status, "err", err}
	switch {
	case p.Status == http.StatusInternalServerError:
		w.log.ErrorContext(r.Context(), "request failed", attrs...)
	case errors.Is(err, app.ErrUnavailable):
		w.log.WarnContext(r.Context(), "registry out of reach", attrs...)
	}
	return p
}

// forPage is of for the status page.
func (w problems) forPage(c echo.Context, err error) page.Problem {
	return w.of(c, err).forPage()
}

func (p problem) forPage() page.Problem {
	return page.Problem{Status: p.Status, Title: p.Title, Detail: p.Detail, Field: p.Field, Want: p.Want}
}

// fromBrowser reports whether a browser opens the URL of a page. Calls of the API get problems as JSON from a browser too.
func fromBrowser(r *http.Request) bool {
	return (r.Method == http.MethodGet || r.Method == http.MethodHead) && !strings.HasPrefix(r.URL.Path, "/v1/") &&
		strings.Contains(r.Header.Get(echo.HeaderAccept), echo.MIMETextHTML)
}

// answer answers a request with an error. It writes nothing if the caller has gone or the answer has begun.
func (w problems) answer(err error, c echo.Context) {
	ctx := c.Request().Context()
	switch {
	case ctx.Err() != nil && (errors.Is(err, context.Canceled) || c.Response().Committed): // the caller has gone
	case c.Response().Committed:
		w.log.WarnContext(ctx, "answer cut short", "method", c.Request().Method, "path", c.Path(), "err", err)
	default:
		p := w.of(c, err)
		setHeaders(c.Response().Header(), p, err)
		if err := w.write(c, p); err != nil {
			w.log.DebugContext(ctx, "answer not written", "err", err)
		}
	}
}

// write writes a problem as a page for a browser, and as JSON for any other caller.
func (w problems) write(c echo.Context, p problem) error {
	h := c.Response().Header()
	h.Add(echo.HeaderVary, echo.HeaderAccept)
	if fromBrowser(c.Request()) && w.page != nil {
		return w.page(c, p.forPage())
	}
	h.Set(echo.HeaderContentType, "application/problem+json")
	return c.JSON(p.Status, p)
}

func setHeaders(h http.Header, p problem, err error) {
	if p.Status == http.StatusServiceUnavailable {
		h.Set(echo.HeaderRetryAfter, "1")
	}
	if tooOften, ok := errors.AsType[*caller.LimitError](err); ok {
		h.Set(echo.HeaderRetryAfter, strconv.Itoa(int(math.Ceil(tooOften.Again.Seconds()))))
	}
	if p.Status == http.StatusUnauthorized { // Bearer for programs; Basic has a browser ask for the token
		h.Add(echo.HeaderWWWAuthenticate, `Bearer realm="Rollcall"`)
		h.Add(echo.HeaderWWWAuthenticate, `Basic realm="Rollcall", charset="UTF-8"`)
	}
}
