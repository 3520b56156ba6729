package handlers

import (
	"time"

	"rollcall/app"
	"rollcall/app/diagnose"
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
	FirstProbe  *time.Time        `json:"first_probe,omitempty"` // when the next probe is due; absent when it is healthy or not probed
	Frontends   []frontendChange  `json:"frontends"`
	Replaces    string            `json:"replaces,omitempty"`
	Next        string            `json:"next"` // what happens now, in words
	Links       links             `json:"links"`
	Revision    app.Revision      `json:"revision,omitempty"` // absent when nothing had to be written
	Key         string            `json:"key,omitempty"`      // a token for this instance alone, where one is required
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

func (a *API) receiptOf(done app.Registered) receipt {
	i := done.Instance
	r := receipt{
		ID: i.ID, Service: i.Service, State: i.State, New: done.New, Address: i.Address, AddressFrom: done.Source,
		Check: checkOf(i), Frontends: []frontendChange{}, Replaces: i.Replaces,
		Next: diagnose.Next(i), Links: linksOf(i.ID), Revision: done.Revision, Key: a.Tokens.KeyOf(i),
	}
	if i.State == app.Starting && i.Probed() {
		r.FirstProbe = instant(i.ChangedAt) // at once
	}
	for _, h := range i.Hosts {
		r.Frontends = append(r.Frontends, frontendChange{Host: h, Key: a.FrontendKey(h), Backend: i.URL(), Slots: i.Weight})
	}
	return r
}
