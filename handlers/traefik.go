package handlers

import (
	"net/http"
	"slices"

	"github.com/labstack/echo/v4"

	"rollcall/app/traefik"
	"rollcall/handlers/input"
)

// traefik answers Traefik's HTTP provider with a router and a service for each vhost. A stale replica is an error:
// Traefik keeps its configuration unless the answer is 200.
func (h *services) traefik(c echo.Context) error {
	var query struct {
		EntryPoints  []string `field:"entrypoint" validate:"dive,max=128"`
		TLS          *bool    `field:"tls"`
		CertResolver string   `field:"certresolver" validate:"max=128"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := h.age(); err != nil {
		return err
	}
	doc, err := traefik.Encode(slices.Values(h.replica.Instances("")), traefik.Options{
		EntryPoints: query.EntryPoints, TLS: query.CertResolver != "" || query.TLS != nil && *query.TLS, CertResolver: query.CertResolver,
	})
	if err != nil {
		return err
	}
	return c.JSONBlob(http.StatusOK, doc)
}
