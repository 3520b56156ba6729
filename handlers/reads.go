package handlers

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// services lists what there is, with how much of it is healthy.
func (a *API) services(c echo.Context) error {
	if _, err := a.Snapshot.Age(time.Now()); err != nil {
		return err
	}
	type service struct {
		Name      string `json:"name"`
		Healthy   int    `json:"healthy"`
		Instances int    `json:"instances"`
	}
	list := []service{}
	rev := a.Snapshot.Revision()
	for _, name := range a.Snapshot.Services() {
		s := service{Name: name}
		for _, i := range a.Snapshot.Instances(name) {
			if s.Instances++; i.Routable() {
				s.Healthy++
			}
		}
		list = append(list, s)
	}
	return c.JSON(http.StatusOK, map[string]any{"revision": rev, "services": list})
}

// service lists the healthy instances of a service; with ?state= those in that state,
// or any.
func (a *API) service(c echo.Context) error {
	if _, err := a.Snapshot.Age(time.Now()); err != nil {
		return err
	}
	state := app.State(c.QueryParam("state"))
	states := []app.State{"", "any", app.Starting, app.Healthy, app.Unhealthy, app.Failed, app.Draining}
	if !slices.Contains(states, state) {
		return &app.FieldError{
			Field: "state", Problem: "is " + quote(string(state)),
			Want: "give starting, healthy, unhealthy, failed, draining or any",
		}
	}
	name := c.Param("name")
	rev := a.Snapshot.Revision()
	instances := a.Snapshot.Instances(name)
	if len(instances) == 0 {
		return fmt.Errorf("service %s: %w", quote(name), app.ErrNotFound)
	}
	instances = slices.DeleteFunc(instances, func(i app.Instance) bool {
		return state == "" && !i.Routable() || state != "" && state != "any" && i.State != state
	})
	return c.JSON(http.StatusOK, map[string]any{"revision": rev, "service": name, "instances": instancesOf(instances)})
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
	list, err := a.Store.Frontends(c.Request().Context())
	if err != nil {
		return err
	}
	views := make([]frontendView, len(list))
	for n, f := range list {
		v := frontendView{
			Host: f.Host, Key: a.FrontendKey(f.Host), Service: f.Service, Identifier: f.Identifier,
			Slots: []slotView{}, Unlisted: []slotView{},
		}
		for _, s := range f.Slots {
			i, known := a.Snapshot.Instance(s.Instance)
			v.Slots = append(v.Slots, slotView{
				URL: s.URL, Instance: s.Instance, Routed: s.Routed(), Why: why(s, i, known), Leaves: instant(s.Leaves),
			})
		}
		for _, id := range f.Unlisted {
			i, _ := a.Snapshot.Instance(id)
			v.Unlisted = append(v.Unlisted, slotView{URL: i.URL(), Instance: id, Why: "it is " + string(i.State)})
		}
		views[n] = v
	}
	return c.JSON(http.StatusOK, map[string]any{"frontends": views})
}

// why says why a slot gets requests or not.
func why(s app.Slot, i app.Instance, known bool) string {
	switch {
	case s.Foreign && s.Marked:
		return "not Rollcall's; a proxy has marked it"
	case s.Foreign:
		return "not Rollcall's: left alone"
	case !known && s.Marked:
		return "no longer registered: marked, and about to leave the list"
	case !known:
		return "no longer registered"
	case s.Marked && i.Routable():
		return "healthy, but a proxy has marked it: the next good probe clears that"
	case s.Marked:
		return fmt.Sprintf("it is %s: marked, and about to leave the list", i.State)
	case i.Routable():
		return "healthy"
	}
	return fmt.Sprintf("it is %s, but nothing else is routable: the last one stays", i.State)
}
