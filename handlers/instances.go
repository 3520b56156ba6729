package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

func (a *API) instance(c echo.Context) error {
	ctx := c.Request().Context()
	i, err := a.Registry.Get(ctx, c.Param("id"))
	if err != nil {
		return err
	}
	results, err := a.Store.Results(ctx, i.ID)
	if err != nil {
		return err
	}
	type detail struct {
		instanceView
		Streak   int          `json:"streak"` // results in a row that disagree with the state
		Last     *resultView  `json:"last"`   // the result that decided how it stands
		NextDue  *time.Time   `json:"next_probe,omitempty"`
		Deadline *time.Time   `json:"deadline,omitempty"` // when the state ends by itself
		Results  []resultView `json:"results"`            // the last ones, oldest first
		Links    links        `json:"links"`
	}
	d := detail{
		instanceView: instanceOf(i), Streak: i.Streak, NextDue: instant(i.Due), Deadline: instant(i.Deadline),
		Results: make([]resultView, len(results)), Links: linksOf(i.ID),
	}
	if i.Last != (app.Result{}) {
		last := resultOf(i.Last)
		d.Last = &last
	}
	for n, r := range results {
		d.Results[n] = resultOf(r)
	}
	return c.JSON(http.StatusOK, d)
}

// heartbeat takes a report: status=pass (or nothing) or status=fail, and note=text.
func (a *API) heartbeat(c echo.Context) error {
	sets, many, err := readFields(c)
	if err != nil {
		return err
	}
	if many {
		return errSyntax
	}
	report := map[string]string{"status": c.QueryParam("status"), "note": c.QueryParam("note")}
	for name, values := range sets[0] {
		if _, known := report[name]; !known {
			return &app.FieldError{Field: clip(name), Problem: "is not a field of a heartbeat", Want: "the fields are status and note"}
		}
		if len(values) != 1 || report[name] != "" {
			return twiceError(name)
		}
		report[name] = values[0]
	}
	status, note := report["status"], report["note"]
	if status != "" && status != "pass" && status != "fail" {
		return &app.FieldError{Field: "status", Problem: "is " + quote(status), Want: "give pass or fail"}
	}
	if len(note) > 200 || quote(note) != `"`+note+`"` && len(note) <= 80 {
		return &app.FieldError{Field: "note", Problem: "is too long or contains control characters", Want: "give at most 200 characters of plain text"}
	}
	if err := a.Registry.Report(c.Request().Context(), c.Param("id"), status != "fail", note); err != nil {
		return err
	}
	return c.NoContent(http.StatusNoContent)
}

// drain takes an instance out of the lists and answers when it may stop.
func (a *API) drain(c echo.Context) error {
	ctx := c.Request().Context()
	hold, err := duration(c, "hold", a.DrainHold, maxHold)
	if err != nil {
		return err
	}
	i, rev, err := a.Registry.Drain(ctx, c.Param("id"), hold)
	if err != nil {
		return err
	}
	a.wrote(ctx, rev)
	over, cancel := context.WithDeadline(ctx, time.Now().Add(i.Deadline.Sub(a.Now())))
	defer cancel()
	<-over.Done()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return c.JSON(http.StatusOK, instanceOf(i))
}

func (a *API) deregister(c echo.Context) error {
	ctx := c.Request().Context()
	_, rev, err := a.Registry.Deregister(ctx, c.Param("id"))
	if err != nil && !errors.Is(err, app.ErrNotFound) {
		return err
	}
	a.wrote(ctx, rev)
	return c.NoContent(http.StatusNoContent)
}
