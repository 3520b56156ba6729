package handlers

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
)

// services lists what there is, with how much of it is healthy.
func (a *API) services(c echo.Context) error {
	if _, err := a.age(); err != nil {
		return err
	}
	type service struct {
		Name      string `json:"name"`
		Healthy   int    `json:"healthy"`
		Instances int    `json:"instances"`
	}
	rev := a.Replica.Revision()
	counts := map[string]service{}
	for i := range a.Replica.All() {
		s := counts[i.Service]
		s.Name = i.Service
		if s.Instances++; i.Routable() {
			s.Healthy++
		}
		counts[i.Service] = s
	}
	list := slices.AppendSeq([]service{}, maps.Values(counts))
	slices.SortFunc(list, func(a, b service) int { return strings.Compare(a.Name, b.Name) })
	return c.JSON(http.StatusOK, map[string]any{"revision": rev, "services": list})
}

// service lists the healthy instances of a service; with ?state= those in that state,
// or any. With If-None-Match and ?wait= it answers when the service has changed.
func (a *API) service(c echo.Context) error {
	query := struct {
		State string        `field:"state" validate:"oneof=starting healthy unhealthy failed draining any"`
		Wait  time.Duration `field:"wait" validate:"min=0s,max=5m"`
	}{State: string(app.Healthy)}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	ctx, name, seen := c.Request().Context(), c.Param("name"), a.seenRevision(c.Request(), c.Param("name"))
	if err := a.awaitChange(ctx, name, seen, query.Wait); err != nil {
		return err
	}
	now := a.Replica.Revision()
	service, err := a.serviceOf(name)
	if err != nil {
		return err
	}
	rev := service.Revision
	if a.upToDate(ctx, name, seen) {
		if seen.Compare(rev) > 0 && now.Compare(seen) > 0 { // a tag of another process: keep its event in memory
			seen = now
		}
		c.Response().Header().Set("ETag", etag(seen))
		return c.NoContent(http.StatusNotModified)
	}
	c.Response().Header().Set("ETag", etag(rev))
	if query.State == string(app.Healthy) { // what everybody asks for
		answer := service.Encoded(func() []byte { return serviceAnswer(name, rev, service.Routable) })
		return c.JSONBlob(http.StatusOK, answer)
	}
	instances := slices.DeleteFunc(slices.Clone(service.Instances), func(i app.Instance) bool { return !selected(i, query.State) })
	return c.JSONBlob(http.StatusOK, serviceAnswer(name, rev, instances))
}

func serviceAnswer(name string, rev app.Revision, instances []app.Instance) []byte {
	answer, _ := json.Marshal(map[string]any{"revision": rev, "service": name, "instances": viewsOf(instances)}) // text and numbers always have a JSON form
	return append(answer, '\n')
}

// selected reports whether ?state= asks for an instance. One in maintenance is healthy,
// and others do not find it.
func selected(i app.Instance, state string) bool {
	if state == string(app.Healthy) {
		return i.Routable()
	}
	return state == "any" || state == string(i.State)
}

// slotView is a backend of a vhost, and whether requests go to it.
type slotView struct {
	URL      string     `json:"url"`
	Instance string     `json:"instance,omitempty"`
	Routed   bool       `json:"routed"`
	Why      string     `json:"why"`
	Leaves   *time.Time `json:"leaves,omitempty"` // when it is taken out of the list
}

type frontendView struct {
	Host       string     `json:"host"`
	Key        string     `json:"key"`
	Service    string     `json:"service"`
	Identifier string     `json:"identifier"`
	Slots      []slotView `json:"slots"`
	Unlisted   []slotView `json:"unlisted"` // registered for it, and not in its list
}

// frontends shows every vhost as the proxy reads it.
func (a *API) frontends(c echo.Context) error {
	if _, err := a.age(); err != nil {
		return err
	}
	list, err := a.Store.Frontends(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]frontendView, len(list))
	for n, f := range list {
		views[n] = a.frontendOf(f)
	}
	return c.JSON(http.StatusOK, map[string]any{"frontends": views})
}

func (a *API) frontendOf(f app.Frontend) frontendView {
	v := frontendView{
		Host: f.Host, Key: a.FrontendKey(f.Host), Service: f.Service, Identifier: f.Identifier,
		Slots: []slotView{}, Unlisted: []slotView{},
	}
	listed, unlisted := diagnose.Backends(f, a.Replica.Instance)
	for _, b := range listed {
		v.Slots = append(v.Slots, slotOf(b))
	}
	for _, b := range unlisted {
		v.Unlisted = append(v.Unlisted, slotOf(b))
	}
	return v
}

func slotOf(b diagnose.Backend) slotView {
	return slotView{URL: b.URL, Instance: b.Instance, Routed: b.Routed, Why: b.Reason, Leaves: instant(b.Leaves)}
}
