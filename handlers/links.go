package handlers

import (
	"fmt"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/handlers/input"
)

// variable is an environment variable that a Docker link sets.
type variable struct{ name, value string }

// link is a service under the alias that a program expects.
type link struct {
	service string
	alias   string
	port    string // the port that the program expects; empty: the instance's own
}

// parseLink reads service[:alias[:port]].
func parseLink(s string) (link, error) {
	parts := strings.Split(s, ":")
	l := link{service: parts[0], alias: parts[0]}
	if len(parts) > 1 && parts[1] != "" {
		l.alias = parts[1]
	}
	if len(parts) > 2 {
		l.port = parts[2]
	}
	return l, l.check(len(parts) > 3)
}

func (l link) check(tooMany bool) error {
	if l.port != "" && !validPort(l.port) {
		return &app.FieldError{Field: "port", Problem: "is " + input.Quote(l.port), Want: "give a number from 1 to 65535"}
	}
	if l.service == "" || tooMany {
		return &app.FieldError{Field: "link", Problem: "is malformed", Want: "give service, service:alias or service:alias:port"}
	}
	return nil
}

func validPort(s string) bool {
	_, err := strconv.ParseUint(s, 10, 16)
	return err == nil && s[0] != '0'
}

// variables returns the variables that Docker sets in a container that is linked to another container:
// https://docs.docker.com/engine/network/links/#environment-variables
func (l link) variables(i app.Instance) []variable {
	host, own, _ := net.SplitHostPort(i.Address) // canonical
	known := l.port
	if known == "" {
		known = own
	}
	prefix := envName(l.alias)
	tcp := "tcp://" + i.Address
	port := prefix + "_PORT_" + known + "_TCP"
	return []variable{
		{prefix + "_NAME", "/" + l.service + "/" + l.alias},
		{prefix + "_PORT", tcp},
		{port, tcp},
		{port + "_ADDR", host},
		{port + "_PORT", own},
		{port + "_PROTO", "tcp"},
	}
}

// envName turns an alias into the beginning of a variable's name, as Docker does.
func envName(s string) string {
	name := strings.ToUpper(strings.Map(labelRune, s))
	if name[0] >= '0' && name[0] <= '9' {
		name = "_" + name
	}
	return name
}

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
	l := link{service: c.Param("name"), alias: query.Alias, port: query.Port}
	if err := l.check(false); err != nil {
		return err
	}
	return h.answerLinks(c, []link{l}, query.Format)
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
	var links []link
	for _, s := range query.Links {
		l, err := parseLink(s)
		if err != nil {
			return err
		}
		links = append(links, l)
	}
	if len(links) == 0 {
		return &app.FieldError{Field: "link", Problem: "is missing", Want: "give service, service:alias or service:alias:port"}
	}
	return h.answerLinks(c, links, query.Format)
}

// answerLinks picks an instance of each service and answers with its variables: as shell commands (export), as an .env file
// (dotenv) or as an object (json).
func (h *services) answerLinks(c echo.Context, links []link, format string) error {
	var all []variable
	for _, l := range links {
		if !validAlias(l.alias) {
			return &app.FieldError{Field: "alias", Problem: "is " + input.Quote(l.alias), Want: "give letters, digits, hyphens, dots or underscores"}
		}
		healthy, err := h.routable(l.service)
		if err != nil {
			return err
		}
		all = append(all, l.variables(random(healthy))...)
	}
	if format == "json" {
		object := map[string]string{}
		for _, v := range all {
			object[v.name] = v.value
		}
		return c.JSON(http.StatusOK, object)
	}
	return c.String(http.StatusOK, linesOf(all, format))
}

func linesOf(all []variable, format string) string {
	lead := ""
	if format == "export" {
		lead = "export "
	}
	var text strings.Builder
	for _, v := range all {
		fmt.Fprintf(&text, "%s%s=%s\n", lead, v.name, v.value) // addresses and names need no quotes
	}
	return text.String()
}

// validAlias reports whether an alias gives a name that a shell accepts.
func validAlias(s string) bool {
	return s != "" && len(s) <= 64 && strings.IndexFunc(s, func(r rune) bool {
		return labelRune(r) == '_' && r != '_' && r != '-' && r != '.'
	}) < 0
}
