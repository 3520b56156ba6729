package replica

import (
	"time"
	"unique"

	"rollcall/app"
)

// Compact is an instance in half the memory, for those who hold many: what many instances
// have in common is there once for all of them. It does not have AssertedAt.
type Compact struct {
	common   unique.Handle[common]
	rev      int64
	id       string
	address  string
	boot     string
	replaces string
	hosts    []string
	tags     []string
	meta     map[string]string

	claims       *app.Claims // nil: none
	replaceOver  bool
	streak       int32 // at most MaxStreak
	falls        int32
	drainPeriod  time.Duration
	streakAt     time.Time
	last         app.Result
	registeredAt time.Time
	changedAt    time.Time
}

// common is what instances of a service mostly are alike in.
type common struct {
	service  string
	weight   int
	failOpen bool
	check    app.Check
	override app.Override
	state    app.State
	unknown  string
}

// NewCompact returns the compact form of i, whose slices and map are not written to any more.
func NewCompact(i app.Instance) *Compact {
	var claims *app.Claims
	if !i.Claims.IsZero() {
		claims = &i.Claims
	}
	return &Compact{
		common: unique.Make(common{i.Service, i.Weight, i.FailOpen, i.Check, i.Override, i.State, i.Unknown}),
		rev:    i.Rev, id: i.ID, address: i.Address, boot: i.Boot, replaces: i.Replaces, hosts: i.Hosts, tags: i.Tags, meta: i.Meta,
		claims: claims, replaceOver: i.ReplaceOver,
		streak: int32(i.Streak), falls: int32(i.Falls), drainPeriod: i.DrainPeriod, streakAt: i.StreakAt, last: i.Last, registeredAt: i.RegisteredAt, changedAt: i.ChangedAt, //nolint:gosec // small counts
	}
}

// Instance returns the whole of it.
func (h *Compact) Instance() app.Instance {
	c := h.common.Value()
	i := app.Instance{
		Rev: h.rev, ID: h.id, Service: c.service, Address: h.address, Hosts: h.hosts, Weight: c.weight, FailOpen: c.failOpen,
		Boot: h.boot, Replaces: h.replaces, Tags: h.tags, Meta: h.meta, Check: c.check, Override: c.override, Unknown: c.unknown, State: c.state,
		Streak: int(h.streak), Falls: int(h.falls), DrainPeriod: h.drainPeriod, StreakAt: h.streakAt, Last: h.last, RegisteredAt: h.registeredAt, ChangedAt: h.changedAt,
		ReplaceOver: h.replaceOver,
	}
	if h.claims != nil {
		i.Claims = *h.claims
	}
	return i
}

// ID is the id of the instance.
func (h *Compact) ID() string { return h.id }

// Rev is its revision.
func (h *Compact) Rev() int64 { return h.rev }

// State is its state.
func (h *Compact) State() app.State { return h.common.Value().state }

// ChangedAt is when its state began.
func (h *Compact) ChangedAt() time.Time { return h.changedAt }

// Interval is that of its check.
func (h *Compact) Interval() time.Duration { return h.common.Value().check.Interval }

// Steady reports whether it is healthy and has passed its last probe: another pass changes
// nothing.
func (h *Compact) Steady() bool { return h.streak == 0 && h.State() == app.Healthy }
