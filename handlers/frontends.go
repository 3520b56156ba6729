package handlers

import (
	"cmp"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
	"rollcall/handlers/view"
)

// frontends handles the reads of vhosts as the proxy reads them.
type frontends struct {
	reads
	store     Reader
	explainer diagnose.Explainer
	key       func(host string) string
}

// slotView is a backend of a vhost.
type slotView struct {
	URL      string     `json:"url"`
	Instance string     `json:"instance,omitempty"`
	Routed   bool       `json:"routed"`
	Why      string     `json:"why"`
	Leaves   *time.Time `json:"leaves,omitempty"` // when it leaves the list
}

// frontendView is a vhost as the proxy reads it.
type frontendView struct {
	Host       string     `json:"host"`
	Key        string     `json:"key"`
	Service    string     `json:"service"`
	Identifier string     `json:"identifier"`
	Slots      []slotView `json:"slots"`
	Unlisted   []slotView `json:"unlisted"` // registered for the vhost, and not in its list
}

// list answers with every vhost.
func (h frontends) list(c echo.Context) error {
	if _, err := h.age(); err != nil {
		return err
	}
	list, err := h.store.Frontends(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]frontendView, len(list))
	for n, f := range list {
		views[n] = h.viewOf(f)
	}
	return c.JSON(http.StatusOK, map[string]any{"frontends": views})
}

func (h frontends) viewOf(f app.Frontend) frontendView {
	listed, unlisted := diagnose.Backends(f, h.replica.Instance)
	return frontendView{
		Host: f.Host, Key: h.key(f.Host), Service: f.Service, Identifier: f.Identifier,
		Slots: slotsOf(listed), Unlisted: slotsOf(unlisted),
	}
}

func slotsOf(backends []diagnose.Backend) []slotView {
	slots := make([]slotView, len(backends))
	for n, b := range backends {
		slots[n] = slotView{URL: b.URL, Instance: b.Instance, Routed: b.Routed, Why: b.Reason, Leaves: view.Instant(b.Leaves)}
	}
	return slots
}

// nameView is a name that the proxy looks up.
type nameView struct {
	Host  string `json:"host"`
	Key   string `json:"key"`
	Type  string `json:"type"`
	Slots int    `json:"slots"`
	Wins  bool   `json:"wins"`
}

// explanationView is how the proxy answers a Host header.
type explanationView struct {
	Header    string        `json:"header"`
	Requested string        `json:"requested"`
	Names     []nameView    `json:"looked_up"`
	Frontend  *frontendView `json:"frontend"`         // null if no list answers
	Status    int           `json:"status,omitempty"` // the status that the proxy answers itself
	Verdict   string        `json:"verdict"`
}

// explain answers with the names that the proxy looks up for a Host header, the list that answers, and the reason why
// each of its backends gets requests or not.
func (h frontends) explain(c echo.Context) error {
	var query struct {
		Host string `field:"host"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := h.age(); err != nil {
		return err
	}
	e, err := h.explainer.Explain(c.Request().Context(), query.Host)
	if err != nil {
		return err
	}
	answer := explanationView{
		Header: e.Header, Requested: e.Requested, Names: []nameView{}, Status: e.Status, Verdict: e.Verdict,
	}
	for _, n := range e.Names {
		answer.Names = append(answer.Names, nameView(n))
	}
	if e.Frontend.Host != "" {
		answer.Frontend = new(h.viewOf(e.Frontend))
	}
	return c.JSON(http.StatusOK, answer)
}

// tlsAsk tells a proxy whether to obtain a certificate for a name: 200 if a routable instance serves it. Caddy
// sends the name as ?domain=, kamal-proxy as ?host=. The catch-all vhost does not count: strangers could point
// any name here and have certificates made for it.
func (h frontends) tlsAsk(c echo.Context) error {
	var query struct {
		Domain string `field:"domain"`
		Host   string `field:"host"`
	}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	h.replica.WaitWrites(c.Request().Context()) // afterWrites leaves out calls without a token
	if _, err := h.age(); err != nil {
		return err
	}
	domain, err := parseDomain(cmp.Or(query.Domain, query.Host))
	if err != nil {
		return err
	}
	if !h.isServed(domain) {
		return fmt.Errorf("no healthy instance serves %s: %w", domain, app.ErrNotFound)
	}
	return c.String(http.StatusOK, "ok\n")
}

// isServed reports whether a healthy instance serves a name.
func (h frontends) isServed(domain string) bool {
	for i := range h.replica.All() {
		if i.Routable() && slices.ContainsFunc(i.Hosts, func(vhost string) bool { return covers(vhost, domain) }) {
			return true
		}
	}
	return false
}

// parseDomain parses a name that a certificate may be for.
func parseDomain(given string) (string, error) {
	domain, err := app.NormalizeHost(given)
	if err != nil || net.ParseIP(domain) != nil || strings.HasPrefix(domain, "*") {
		return "", &app.FieldError{Field: "domain", Problem: "is " + input.Quote(given), Want: "give a name such as shop.example.com"}
	}
	return domain, nil
}

// covers reports whether a vhost, perhaps a wildcard, serves a name.
func covers(vhost, domain string) bool {
	suffix, wildcard := strings.CutPrefix(vhost, "*.")
	return vhost == domain || wildcard && strings.HasSuffix(domain, "."+suffix)
}
