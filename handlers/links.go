package handlers

import (
	"net/http"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
	"rollcall/handlers/links"
)

// linkOne answers with the variables of one service: GET /v1/services/:name/env.
func (h *services) linkOne(c echo.Context) error {
	query := struct {
		Alias  string `field:"alias"`
		Port   string `field:"port"`
		Format string `field:"format" validate:"oneof=export dotenv json"`
	}{Alias: c.Param("name"), Format: "export"}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	l := links.Link{Service: c.Param("name"), Alias: query.Alias, Port: query.Port}
	if err := l.Check(); err != nil {
		return err
	}
	return h.answerLinks(c, []links.Link{l}, query.Format)
}

// linkMany answers with the variables of several services: GET /v1/env?link=service:alias:port, with link given any number of times.
func (h *services) linkMany(c echo.Context) error {
	query := struct {
		Links  []string `field:"link"`
		Format string   `field:"format" validate:"oneof=export dotenv json"`
	}{Format: "export"}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	var given []links.Link
	for _, s := range query.Links {
		l, err := links.Parse(s)
		if err != nil {
			return err
		}
		given = append(given, l)
	}
	if len(given) == 0 {
		return &app.FieldError{Field: "link", Problem: "is missing", Want: "give service, service:alias or service:alias:port"}
	}
	return h.answerLinks(c, given, query.Format)
}

// answerLinks picks an instance of each service and answers with its variables: as shell commands (export), as an .env file
// (dotenv) or as an object (json).
func (h *services) answerLinks(c echo.Context, given []links.Link, format string) error {
	var all []links.Variable
	for _, l := range given {
		if !links.ValidAlias(l.Alias) {
			return &app.FieldError{Field: "alias", Problem: "is " + input.Quote(l.Alias), Want: "give letters, digits, hyphens, dots or underscores"}
		}
		healthy, err := h.routable(l.Service)
		if err != nil {
			return err
		}
		all = append(all, l.Variables(random(healthy))...)
	}
	if format == "json" {
		object := map[string]string{}
		for _, v := range all {
			object[v.Name] = v.Value
		}
		return c.JSON(http.StatusOK, object)
	}
	return c.String(http.StatusOK, links.Lines(all, format))
}
