package handlers

import (
	"time"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/app/registry"
	"rollcall/handlers/view"
)

// receipt is the answer to a registration: the instance as Rollcall understood it, and the next steps.
type receipt struct {
	ID          string            `json:"id"`
	Service     string            `json:"service"`
	State       app.State         `json:"state"`
	New         bool              `json:"new"`
	Address     string            `json:"address"`
	AddressFrom app.AddressSource `json:"address_from"` // "given", or "caller": the address of the client
	Check       view.Check        `json:"check"`
	FirstProbe  *time.Time        `json:"first_probe,omitempty"` // absent if the instance is healthy or not probed
	Frontends   []frontendChange  `json:"frontends"`
	Replaces    string            `json:"replaces,omitempty"`
	Next        string            `json:"next"` // the next step, in words
	Links       instanceLinks     `json:"links"`
	Revision    app.Revision      `json:"revision,omitempty"` // absent if the registration needed no write
	Key         string            `json:"key,omitempty"`      // a token for this instance alone, where one is required
}

// frontendChange is the change of a vhost once the instance is healthy.
type frontendChange struct {
	Host    string `json:"host"`
	Key     string `json:"key"`
	Backend string `json:"backend"`
	Slots   int    `json:"slots"`
}

// instanceLinks are the calls on an instance.
type instanceLinks struct {
	Self       string `json:"self"`
	Heartbeat  string `json:"heartbeat"`
	Drain      string `json:"drain"`
	Deregister string `json:"deregister"`
}

func linksOf(id string) instanceLinks {
	self := "/v1/instances/" + id
	return instanceLinks{
		Self: "GET " + self, Heartbeat: "POST " + self + "/heartbeat",
		Drain: "POST " + self + "/drain", Deregister: "DELETE " + self,
	}
}

func (r *registrations) receiptOf(done registry.Registered) receipt {
	i := done.Instance
	answer := receipt{
		ID: i.ID, Service: i.Service, State: i.State, New: done.New, Address: i.Address, AddressFrom: done.Source,
		Check: view.CheckOf(i), Frontends: []frontendChange{}, Replaces: i.Replaces,
		Next: diagnose.Next(i), Links: linksOf(i.ID), Revision: done.Revision, Key: r.tokens.KeyOf(i),
	}
	if i.State == app.Starting && i.Probed() {
		answer.FirstProbe = view.Instant(i.ChangedAt) // at once
	}
	for _, h := range i.Hosts {
		answer.Frontends = append(answer.Frontends, frontendChange{Host: h, Key: r.frontendKey(h), Backend: i.URL(), Slots: i.Weight})
	}
	return answer
}
