package handlers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
)

// explain says what the proxy makes of a Host header: what it looks up, which list
// answers, and which of its backends get requests, and why.
func (a *API) explain(c echo.Context) error {
	var query struct {
		Host string `field:"host"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	e, err := a.explanation(c.Request().Context(), query.Host)
	if err != nil {
		return err
	}
	type lookedUp struct {
		Host  string `json:"host"`
		Key   string `json:"key"`
		Type  string `json:"type"`
		Slots int    `json:"slots"`
		Wins  bool   `json:"wins"`
	}
	answer := struct {
		Header    string        `json:"header"`
		Requested string        `json:"requested"`
		Names     []lookedUp    `json:"looked_up"`
		Frontend  *frontendView `json:"frontend"`         // null when no list answers
		Status    int           `json:"status,omitempty"` // what the proxy answers by itself
		Verdict   string        `json:"verdict"`
	}{Header: e.Header, Requested: e.Requested, Names: []lookedUp{}, Status: e.Status, Verdict: e.Verdict}
	for _, n := range e.Names {
		answer.Names = append(answer.Names, lookedUp(n))
	}
	if e.Frontend.Host != "" {
		view := a.frontendOf(e.Frontend)
		answer.Frontend = &view
	}
	return c.JSON(http.StatusOK, answer)
}

// explanation is what the store makes of a Host header, and what the registry has to add:
// who is registered for a vhost that nothing answers for, and that a list has only those
// that stay because nothing else is there.
func (a *API) explanation(ctx context.Context, header string) (app.Explanation, error) {
	e, err := a.Store.Explain(ctx, header)
	if err != nil {
		return e, err
	}
	if e.Frontend.Host == "" {
		e.Verdict += a.registeredFor(ctx, e.Names)
		return e, nil
	}
	sick := func(s app.Slot) bool {
		i, known := a.Replica.Instance(s.Instance)
		return !s.Routed() || known && !i.Routable()
	}
	if e.Status == 0 && !slices.ContainsFunc(e.Frontend.Slots, func(s app.Slot) bool { return !sick(s) }) {
		e.Verdict += ", but nothing in it is healthy: what is left stays because there is nothing else"
	}
	return e, nil
}

// registeredFor says who is registered for vhosts that have no list, and how it is.
func (a *API) registeredFor(ctx context.Context, names []app.LookedUp) string {
	const enough = 5
	var said []string
	for _, i := range a.Replica.Instances("") {
		serves := func(n app.LookedUp) bool { return slices.Contains(i.Hosts, n.Host) }
		if !slices.ContainsFunc(names, serves) {
			continue
		}
		if len(said) == enough {
			said = append(said, "and others")
			break
		}
		if now, err := a.Registry.Get(ctx, i.ID); err == nil { // the replica has not heard of every result
			i = now
		}
		said = append(said, fmt.Sprintf("%s is %s", i.ID, standing(i)))
	}
	if len(said) == 0 {
		return ""
	}
	return "; " + strings.Join(said, ", ")
}
