package app

import (
	"time"
	"unique"
)

// Held is an instance in half the memory, for those who hold many: what many instances
// have in common is there once for all of them. It has neither Due nor Deadline.
type Held struct {
	common   unique.Handle[common]
	rev      int64
	id       string
	address  string
	boot     string
	replaces string
	hosts    []string
	tags     []string
	meta     map[string]string

	claims       *Claims // nil: none
	replaceOver  bool
	streak       int32 // at most MaxStreak
	falls        int32
	streakAt     time.Time
	last         Result
	registeredAt time.Time
	changedAt    time.Time
}

// common is what instances of a service mostly are alike in.
type common struct {
	service  string
	weight   int
	failOpen bool
	check    Check
	override Override
	state    State
	unknown  string
}

// Hold returns what holds i, whose slices and map are not written to any more.
func Hold(i Instance) *Held {
	var claims *Claims
	if !i.Claims.IsZero() {
		claims = &i.Claims
	}
	return &Held{
		common: unique.Make(common{i.Service, i.Weight, i.FailOpen, i.Check, i.Override, i.State, i.Unknown}),
		rev:    i.Rev, id: i.ID, address: i.Address, boot: i.Boot, replaces: i.Replaces, hosts: i.Hosts, tags: i.Tags, meta: i.Meta,
		claims: claims, replaceOver: i.ReplaceOver,
		streak: int32(i.Streak), falls: int32(i.Falls), streakAt: i.StreakAt, last: i.Last, registeredAt: i.RegisteredAt, changedAt: i.ChangedAt, //nolint:gosec // small counts
	}
}

// Instance returns the whole of it, but for Due and Deadline.
func (h *Held) Instance() Instance {
	c := h.common.Value()
	i := Instance{
		Rev: h.rev, ID: h.id, Service: c.service, Address: h.address, Hosts: h.hosts, Weight: c.weight, FailOpen: c.failOpen,
		Boot: h.boot, Replaces: h.replaces, Tags: h.tags, Meta: h.meta, Check: c.check, Override: c.override, Unknown: c.unknown, State: c.state,
		Streak: int(h.streak), Falls: int(h.falls), StreakAt: h.streakAt, Last: h.last, RegisteredAt: h.registeredAt, ChangedAt: h.changedAt,
		ReplaceOver: h.replaceOver,
	}
	if h.claims != nil {
		i.Claims = *h.claims
	}
	return i
}
