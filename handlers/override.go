package handlers

import (
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// overrideRequest is the body of a request for an override. An override lasts 24 hours at most, so that a forgotten
// one ends.
type overrideRequest struct {
	Maintenance *bool         `field:"maintenance"`
	Weight      *int          `field:"weight" validate:"omitempty,min=1,max=100"`
	For         time.Duration `field:"for" validate:"omitempty,min=1s,max=24h"`
}

// override sets maintenance (maintenance=true) or a weight (weight=n) with an expiry (for=10m).
// maintenance=false alone ends the override.
func (h instances) override(c echo.Context) error {
	var given overrideRequest
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	o, err := given.override(h.now())
	if err != nil {
		return err
	}
	ctx := c.Request().Context()
	i, _, err := h.registry.Override(ctx, c.Param("id"), o)
	if err != nil {
		return err
	}
	return c.JSON(http.StatusOK, view.InstanceOf(i))
}

func (r overrideRequest) override(now time.Time) (app.Override, error) {
	o := app.Override{Maintenance: valueOf(r.Maintenance), Weight: valueOf(r.Weight)}
	switch empty := !o.Maintenance && o.Weight == 0; {
	case empty && r.endsOverride():
		return o, nil
	case empty:
		return o, &app.FieldError{Field: "maintenance", Problem: "is missing", Want: "give maintenance=true or weight, with for=10m; or maintenance=false alone"}
	case r.For == 0:
		return o, &app.FieldError{Field: "for", Problem: "is missing", Want: "an override always expires: give for=10m"}
	}
	o.Until = now.Add(r.For).Truncate(time.Millisecond)
	return o, nil
}

// endsOverride reports whether the request is maintenance=false alone.
func (r overrideRequest) endsOverride() bool {
	return r.Maintenance != nil && !*r.Maintenance && valueOf(r.Weight) == 0 && r.For == 0
}

// valueOf returns the value of a field, or the zero value if the field is absent.
func valueOf[T any](field *T) (value T) {
	if field != nil {
		value = *field
	}
	return value
}
