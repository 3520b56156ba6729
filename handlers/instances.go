package handlers

import (
	"context"
	"errors"
	"net/http"
	"strconv"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/registry"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// instances handles the calls on one instance.
type instances struct {
	reads
	registry    *registry.Registry
	store       Reader
	now         func() time.Time
	drainPeriod time.Duration
}

// instanceDetail is an instance with the fields that only its own answer has.
type instanceDetail struct {
	view.Instance
	Streak   int           `json:"streak"` // consecutive results that disagree with the state
	Last     *view.Result  `json:"last"`   // the result that decided the state
	NextDue  *time.Time    `json:"next_probe,omitempty"`
	Deadline *time.Time    `json:"deadline,omitempty"` // time at which the state ends without a result
	Results  []view.Result `json:"results"`            // last results, oldest first
	AsOf     *time.Time    `json:"as_of,omitempty"`    // age of Results and NextDue
	Disputed bool          `json:"disputed,omitempty"` // another worker reaches the instance, and its owner does not
	Links    instanceLinks `json:"links"`
}

// get answers with an instance and its last results.
func (h instances) get(c echo.Context) error {
	ctx := c.Request().Context()
	i, err := h.registry.Get(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	recent, err := h.store.Recent(ctx, i.ID)
	if err != nil {
		return err
	}
	d := instanceDetail{
		Instance: view.InstanceOf(i), Streak: i.Streak, NextDue: view.Instant(recent.Due), Deadline: view.Instant(i.Deadline()),
		Results: make([]view.Result, len(recent.Results)), AsOf: view.Instant(recent.At), Disputed: recent.Disputed, Links: linksOf(i.ID),
	}
	if i.Last != (app.Result{}) {
		d.Last = new(view.ResultOf(i.Last))
	}
	for n, r := range recent.Results {
		d.Results[n] = view.ResultOf(r)
	}
	return c.JSON(http.StatusOK, d)
}

// heartbeat accepts a report: status=pass (the default) or status=fail, with note=text. Any note is accepted.
func (h instances) heartbeat(c echo.Context) error {
	var report struct {
		Status string `field:"status" validate:"omitempty,oneof=pass fail"`
		Note   string `field:"note"`
	}
	if err := input.Report(c.Request(), &report); err != nil {
		return err
	}
	err := h.registry.Report(c.Request().Context(), c.Param("id"), report.Status != "fail", report.Note)
	if errors.Is(err, app.ErrNotFound) {
		return input.Hint(err, "register it again")
	}
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// drain drains an instance, or with boot only that start of it, and answers after the drain period. With keep it
// drains only while that many other instances of the service are healthy.
func (h instances) drain(c echo.Context) error {
	given := struct {
		Hold time.Duration `field:"hold" validate:"min=0s,max=5m"`
		Boot string        `field:"boot" validate:"text=128"`
		Keep *int          `field:"keep"`
	}{Hold: h.drainPeriod}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	ctx, drain := c.Request().Context(), h.registry.Drain
	if given.Keep != nil {
		drain = func(ctx context.Context, id, boot string, period time.Duration) (app.Instance, app.Revision, error) {
			return h.registry.DrainInTurn(ctx, id, boot, period, *given.Keep)
		}
	}
	i, _, err := drain(ctx, c.Param("id"), given.Boot, given.Hold)
	if err != nil {
		return err
	}
	select {
	case <-time.After(given.Hold): // on this process's clock, because no worker may be running
		return c.JSON(http.StatusOK, view.InstanceOf(i))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// headerRemoved says whether a DELETE of an instance removed it (true) or the id was unknown (false).
const headerRemoved = "Rollcall-Removed"

// deregister removes an instance, or with boot only that start of it. Removing an unknown instance succeeds.
func (h instances) deregister(c echo.Context) error {
	var query struct {
		Boot string `field:"boot" validate:"text=128"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	ctx := c.Request().Context()
	_, _, err := h.registry.Deregister(ctx, c.Param("id"), query.Boot)
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	c.Response().Header().Set(headerRemoved, strconv.FormatBool(err == nil))
	return c.NoContent(http.StatusNoContent)
}
