package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
)

// detail is an instance with what only its own page shows.
type detail struct {
	instanceView
	Streak   int          `json:"streak"` // results in a row that disagree with the state
	Last     *resultView  `json:"last"`   // the result that decided how it stands
	NextDue  *time.Time   `json:"next_probe,omitempty"`
	Deadline *time.Time   `json:"deadline,omitempty"` // when the state ends by itself
	Results  []resultView `json:"results"`            // the last ones, oldest first
	AsOf     *time.Time   `json:"as_of,omitempty"`    // when Results and NextDue were true
	Disputed bool         `json:"disputed,omitempty"` // another worker reaches it, and its owner does not
	Links    links        `json:"links"`
}

func (a *API) instance(c echo.Context) error {
	ctx := c.Request().Context()
	i, err := a.Registry.Get(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	recent, err := a.Store.Recent(ctx, i.ID)
	if err != nil {
		return err
	}
	d := detail{
		instanceView: instanceOf(i), Streak: i.Streak, NextDue: instant(recent.Due), Deadline: instant(i.Deadline()),
		Results: make([]resultView, len(recent.Results)), AsOf: instant(recent.At), Disputed: recent.Disputed, Links: linksOf(i.ID),
	}
	if i.Last != (app.Result{}) {
		d.Last = new(resultOf(i.Last))
	}
	for n, r := range recent.Results {
		d.Results[n] = resultOf(r)
	}
	return c.JSON(http.StatusOK, d)
}

// heartbeat takes a report: status=pass (or nothing) or status=fail, and note=text. It
// counts whatever the note is.
func (a *API) heartbeat(c echo.Context) error {
	var report struct {
		Status string `field:"status" validate:"omitempty,oneof=pass fail"`
		Note   string `field:"note"`
	}
	if err := input.Report(c.Request(), &report); err != nil {
		return err
	}
	err := a.Registry.Report(c.Request().Context(), c.Param("id"), report.Status != "fail", report.Note)
	if errors.Is(err, app.ErrNotFound) {
		return input.Hint(err, "register it again")
	}
	if err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// drain takes an instance, or with a boot nonce only that start of it, out of the lists and
// answers when it may stop. With keep it does so only while that many others are healthy.
func (a *API) drain(c echo.Context) error {
	given := struct {
		Hold time.Duration `field:"hold" validate:"min=0s,max=5m"`
		Boot string        `field:"boot" validate:"text=128"`
		Keep *int          `field:"keep"`
	}{Hold: a.DrainPeriod}
	if err := input.QueryAndBody(c.Request(), &given); err != nil {
		return err
	}
	ctx, drain := c.Request().Context(), a.Registry.Drain
	if given.Keep != nil {
		drain = func(ctx context.Context, id, boot string, hold time.Duration) (app.Instance, app.Revision, error) {
			return a.Registry.DrainInTurn(ctx, id, boot, hold, *given.Keep)
		}
	}
	i, rev, err := drain(ctx, c.Param("id"), given.Boot, given.Hold)
	if err != nil {
		return err
	}
	a.wrote(ctx, rev)
	select {
	case <-time.After(given.Hold): // by this process's clock, whether or not a worker lives
		return c.JSON(http.StatusOK, instanceOf(i))
	case <-ctx.Done():
		return ctx.Err()
	}
}

// deregister removes an instance, or with a boot nonce only that start of it. One that is not there is removed already.
func (a *API) deregister(c echo.Context) error {
	var query struct {
		Boot string `field:"boot" validate:"text=128"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	ctx := c.Request().Context()
	_, rev, err := a.Registry.Deregister(ctx, c.Param("id"), query.Boot)
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	a.wrote(ctx, rev)
	return c.NoContent(http.StatusNoContent)
}
