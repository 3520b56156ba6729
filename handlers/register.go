package handlers

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// receipt is the answer to a registration: what was understood, and what will happen.
type receipt struct {
	ID          string            `json:"id"`
	Service     string            `json:"service"`
	State       app.State         `json:"state"`
	New         bool              `json:"new"`
	Address     string            `json:"address"`
	AddressFrom app.AddressSource `json:"address_from"` // "given", or "caller": where the call came from
	Check       checkView         `json:"check"`
	FirstProbe  *time.Time        `json:"first_probe,omitempty"` // when the next probe is due; absent when it is not probed
	Frontends   []frontendChange  `json:"frontends"`
	Replaces    string            `json:"replaces,omitempty"`
	Next        string            `json:"next"` // what happens now, in words
	Links       links             `json:"links"`
	Revision    app.Revision      `json:"revision,omitempty"`
}

// frontendChange is what will be written for a vhost once the instance is healthy.
type frontendChange struct {
	Host    string `json:"host"`
	Key     string `json:"key"`
	Backend string `json:"backend"`
	Slots   int    `json:"slots"`
}

type links struct {
	Self       string `json:"self"`
	Heartbeat  string `json:"heartbeat"`
	Drain      string `json:"drain"`
	Deregister string `json:"deregister"`
}

func linksOf(id string) links {
	self := "/v1/instances/" + id
	return links{
		Self: "GET " + self, Heartbeat: "POST " + self + "/heartbeat",
		Drain: "POST " + self + "/drain", Deregister: "DELETE " + self,
	}
}

// verdict is the answer to one registration of several.
type verdict struct {
	Status  int      `json:"status"`
	Receipt *receipt `json:"receipt,omitempty"`
	Problem *problem `json:"problem,omitempty"`
}

func (a *API) register(c echo.Context) error {
	wait, err := duration(c, "wait", 0, maxWait)
	if err != nil {
		return err
	}
	sets, many, err := readFields(c)
	if err != nil {
		return err
	}
	deadline := time.Now().Add(wait)
	if !many {
		status, r, err := a.registerOne(c, sets[0], wait, deadline)
		if err != nil {
			return err
		}
		return c.JSON(status, r)
	}
	verdicts := make([]verdict, len(sets))
	for n, set := range sets {
		status, r, err := a.registerOne(c, set, 0, deadline)
		verdicts[n] = verdictOf(status, r, err)
	}
	for n := range verdicts {
		if r := verdicts[n].Receipt; r != nil && wait > 0 {
			i, err := a.healthy(c.Request().Context(), r.ID, wait, deadline)
			if r.State = i.State; err != nil {
				verdicts[n] = verdictOf(0, *r, err)
			}
		}
	}
	return c.JSON(http.StatusMultiStatus, verdicts)
}

func verdictOf(status int, r receipt, err error) verdict {
	if err != nil {
		p := problemOf(err)
		return verdict{Status: p.Status, Problem: &p}
	}
	return verdict{Status: status, Receipt: &r}
}

func (a *API) registerOne(c echo.Context, set fields, wait time.Duration, deadline time.Time) (int, receipt, error) {
	ctx := c.Request().Context()
	reg, err := parseRegistration(set, c.RealIP())
	if err != nil {
		return 0, receipt{}, err
	}
	done, err := a.Registry.Register(ctx, reg)
	if err != nil {
		return 0, receipt{}, err
	}
	a.wrote(ctx, done.Revision)
	if wait > 0 {
		if done.Instance, err = a.healthy(ctx, done.Instance.ID, wait, deadline); err != nil {
			return 0, receipt{}, err
		}
	}
	status := http.StatusOK
	if done.New {
		status = http.StatusCreated
	}
	return status, a.receiptOf(done), nil
}

func (a *API) receiptOf(done app.Registered) receipt {
	i := done.Instance
	r := receipt{
		ID: i.ID, Service: i.Service, State: i.State, New: done.New, Address: i.Address, AddressFrom: done.Source,
		Check: checkOf(i), FirstProbe: instant(i.Due), Frontends: []frontendChange{}, Replaces: i.Replaces,
		Next: next(i), Links: linksOf(i.ID), Revision: done.Revision,
	}
	for _, h := range i.Hosts {
		r.Frontends = append(r.Frontends, frontendChange{Host: h, Key: a.FrontendKey(h), Backend: i.URL(), Slots: i.Weight})
	}
	return r
}

// next says in words what happens to an instance now.
func next(i app.Instance) string {
	var text string
	switch {
	case i.State == app.Healthy:
		text = "healthy: found by others, and routed if it has a vhost"
	case i.Check.Kind == app.Heartbeat:
		text = "healthy once it has reported well; then it has to report every " + i.Check.Interval.String()
	default:
		text = "healthy once it has passed its probe " + times(i.Check.Rise) + "; failed if that takes longer than " + i.Check.Grace.String()
	}
	if i.State != app.Healthy && i.Replaces != "" {
		text += "; then it takes over from " + i.Replaces + ", which stays until then"
	}
	return text
}

// healthy waits until an instance is healthy, and returns it as it stands when the
// wait is over: with an error if it is not.
func (a *API) healthy(ctx context.Context, id string, wait time.Duration, deadline time.Time) (app.Instance, error) {
	waiting, cancel := context.WithDeadline(ctx, deadline)
	defer cancel()
	err := a.Snapshot.Wait(waiting, func() bool {
		i, known := a.Snapshot.Instance(id)
		return !known || i.State != app.Starting && i.State != app.Unhealthy
	})
	if ctx.Err() != nil {
		return app.Instance{}, ctx.Err()
	}
	if err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return app.Instance{}, err
	}
	i, err := a.Registry.Get(ctx, id)
	if err != nil {
		return app.Instance{}, err
	}
	if i.State != app.Healthy {
		return i, &notHealthyError{instance: i, waited: wait.String()}
	}
	return i, nil
}
