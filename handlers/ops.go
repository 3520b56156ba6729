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

// operations handles the calls of operators and orchestrators.
type operations struct {
	reads
	store Reader
	jobs  Jobs
}

// openapi answers with the description of the API.
func (o operations) openapi(c echo.Context) error {
	return c.Blob(http.StatusOK, "application/yaml", openapi)
}

// runJob runs a job and answers when it has ended.
func (o operations) runJob(c echo.Context) error {
	name := c.Param("name")
	if !slices.Contains(o.jobs.Names(), name) {
		return fmt.Errorf("job %s (there are %s): %w", input.Quote(name), strings.Join(o.jobs.Names(), ", "), app.ErrNotFound)
	}
	began := time.Now()
	ctx := app.WithCaller(c.Request().Context(), auth.Unrestricted) // the changes of a job have no actor
	if err := o.jobs.RunOnce(ctx, name); err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"job": name, "took_ms": time.Since(began).Milliseconds()})
}

// livez answers while the process serves.
func (o operations) livez(c echo.Context) error { return c.String(http.StatusOK, "ok\n") }

// readyz answers 503 if the replica is too old, or if Redis refused this process's last write. The process writes
// once a second, and Redis would refuse a registration, too.
func (o operations) readyz(c echo.Context) error {
	age, err := o.age()
	if err == nil {
		err = o.store.Writable()
	}
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, map[string]any{"revision": o.replica.Revision(), "age_ms": age.Milliseconds()})
}
