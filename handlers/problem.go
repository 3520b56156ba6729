package handlers

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// problem is the body of every error answer, application/problem+json (RFC 9457).
type problem struct {
	Type   string `json:"type"` // urn:rollcall:<code>, stable
	Title  string `json:"title"`
	Status int    `json:"status"`
	Detail string `json:"detail,omitempty"`
	Field  string `json:"field,omitempty"` // the field at fault
	Want   string `json:"want,omitempty"`  // what would be right

	Instance string    `json:"id,omitempty"` // of the instance concerned
	State    app.State `json:"state,omitempty"`
	Reason   string    `json:"reason,omitempty"` // of the last check
}

// statuses maps the failure vocabulary to HTTP. What is not in it is internal.
var statuses = []struct {
	err    error
	status int
	code   string
	title  string
}{
	{app.ErrInvalid, http.StatusUnprocessableEntity, "invalid", "Invalid input"},
	{app.ErrNotFound, http.StatusNotFound, "not-found", "Not found"},
	{app.ErrConflict, http.StatusConflict, "conflict", "Conflict"},
	{app.ErrGone, http.StatusGone, "draining", "Draining"},
	{app.ErrUnavailable, http.StatusServiceUnavailable, "unavailable", "The registry cannot be reached"},
	{errNotHealthy, http.StatusFailedDependency, "not-healthy", "Not healthy"},
	{errMedia, http.StatusUnsupportedMediaType, "media-type", "Unsupported media type"},
	{errSyntax, http.StatusBadRequest, "syntax", "The body cannot be read"},
}

var (
	errNotHealthy = errors.New("not healthy")
	errMedia      = errors.New("unsupported media type")
	errSyntax     = errors.New("syntax")
)

// a notHealthyError says how an instance stood when somebody stopped waiting for it.
type notHealthyError struct {
	instance app.Instance
	waited   string
}

func (e *notHealthyError) Error() string {
	i := e.instance
	text := fmt.Sprintf("%s is %s after %s", i.ID, i.State, e.waited)
	if i.Last != (app.Result{}) {
		text += ": " + i.Last.Reason()
	}
	if i.Replaces != "" {
		text += "; " + i.Replaces + " stays"
	}
	return text
}

func (e *notHealthyError) Is(target error) bool { return target == errNotHealthy }

// problemOf describes an error. What the caller must not know, it does not say.
func problemOf(err error) problem {
	if tooLarge, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return problem{
			Type: "urn:rollcall:too-large", Title: "Too large", Status: http.StatusRequestEntityTooLarge,
			Detail: fmt.Sprintf("the body is larger than %d bytes", tooLarge.Limit),
		}
	}
	for _, s := range statuses {
		if !errors.Is(err, s.err) {
			continue
		}
		p := problem{Type: "urn:rollcall:" + s.code, Title: s.title, Status: s.status, Detail: err.Error()}
		if s.status == http.StatusServiceUnavailable {
			p.Detail = "nothing was changed; try again"
		}
		if field, ok := errors.AsType[*app.FieldError](err); ok {
			p.Detail, p.Field, p.Want = field.Error(), field.Field, field.Want
		}
		if sick, ok := errors.AsType[*notHealthyError](err); ok {
			p.Instance, p.State, p.Reason = sick.instance.ID, sick.instance.State, sick.instance.Last.Reason()
		}
		return p
	}
	if e, ok := errors.AsType[*echo.HTTPError](err); ok {
		return problem{Type: "about:blank", Title: http.StatusText(e.Code), Status: e.Code}
	}
	return problem{Type: "urn:rollcall:internal", Title: "Internal error", Status: http.StatusInternalServerError}
}

// fail writes the answer to a request that could not be served.
func (a *API) fail(err error, c echo.Context) {
	ctx := c.Request().Context()
	if c.Response().Committed {
		return
	}
	if errors.Is(err, context.Canceled) && ctx.Err() != nil {
		return // the caller went away
	}
	p := problemOf(err)
	if p.Status >= http.StatusInternalServerError {
		a.Log.ErrorContext(ctx, "request failed", "method", c.Request().Method, "path", c.Path(), "status", p.Status, "err", err)
	}
	if err := write(c, p); err != nil {
		a.Log.DebugContext(ctx, "answer not written", "err", err)
	}
}

func write(c echo.Context, p problem) error {
	h := c.Response().Header()
	h.Set(echo.HeaderContentType, "application/problem+json")
	if p.Status == http.StatusServiceUnavailable {
		h.Set(echo.HeaderRetryAfter, "1")
	}
	return c.JSON(p.Status, p)
}

// quote shows what a caller gave, shortened and without control characters.
func quote(s string) string { return fmt.Sprintf("%.80q", s) }
