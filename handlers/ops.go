package handlers

import (
	_ "embed"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/handlers/input"
)

//go:embed openapi.yaml
var openapi []byte

// openapi describes the API.
func (a *API) openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", openapi)
}

// runJob runs a job now and answers when it is done.
func (a *API) runJob(c echo.Context) error {
	name := c.Param("name")
	if !slices.Contains(a.Jobs.Names(), name) {
		return fmt.Errorf("job %s (there are %s): %w", input.Quote(name), strings.Join(a.Jobs.Names(), ", "), app.ErrNotFound)
	}
	began := time.Now()
	ctx := app.WithCaller(c.Request().Context(), auth.Unrestricted) // what a job does, nobody has asked for
	if err := a.Jobs.RunOnce(ctx, name); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"job": name, "took_ms": time.Since(began).Milliseconds()})
}

// livez says that the process serves.
func (a *API) livez(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// readyz answers 503 when the replica is older than 2 s, or when Redis refused this process's
// last write, which it makes every second: a registration would be refused, too.
func (a *API) readyz(c echo.Context) error {
	age, err := a.age()
	if err == nil {
		err = a.Writable()
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"revision": a.Replica.Revision(), "age_ms": age.Milliseconds()})
}
