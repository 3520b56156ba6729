package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/app/diagnose"
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
	e, err := a.explainer().Explain(c.Request().Context(), query.Host)
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

func (a *API) explainer() diagnose.Explainer {
	return diagnose.Explainer{Proxy: a.Store, Replica: a.Replica, Registry: a.Registry}
}
