package replica

import (
	"cmp"
	"math"
	"time"
	"unique"

	"rollcall/app"
)

// Compact is an instance in a third of the memory. Instances share the values that are mostly equal
// within a service, values that few instances have are in a part of their own, and times are in ms.
// It lacks AssertedAt.
type Compact struct {
	common  unique.Handle[common]
	rare    *rare // nil: no such value is set
	rev     int64
	id      string
	address string
	boot    string
	hosts   []string

	streak       int32 // at most MaxStreak
	falls        int32
	streakAt     moment
	registeredAt moment
	changedAt    moment

	lastAt      moment
	lastLatency time.Duration
	lastCode    app.Code
	lastPassed  bool
}

// rare is the part of an instance that most instances do not have.
type rare struct {
	replaces    string
	replaceOver bool
	tags        []string
	meta        map[string]string
	claims      app.Claims
	drainPeriod time.Duration
	lastDetail  string
}

// moment is a time in ms since 1970, as records have it. noMoment is the zero time.
type moment int64

const noMoment moment = math.MinInt64

func momentOf(t time.Time) moment {
	if t.IsZero() {
		return noMoment
	}
	return moment(t.UnixMilli())
}

func (m moment) time() time.Time {
	if m == noMoment {
		return time.Time{}
	}
	return time.UnixMilli(int64(m))
}

// common is the fields that are mostly equal within a service.
type common struct {
	service  string
	weight   int
	failOpen bool
	check    app.Check
	override app.Override
	state    app.State
	unknown  string
}

// NewCompact returns the compact form of an instance. The caller must not write to the instance's
// slices and map any more.
func NewCompact(i app.Instance) *Compact {
	h := &Compact{
		common: unique.Make(common{i.Service, i.Weight, i.FailOpen, i.Check, i.Override, i.State, i.Unknown}),
		rev:    i.Rev, id: i.ID, address: i.Address, boot: i.Boot, hosts: i.Hosts,
		streak: int32(i.Streak), falls: int32(i.Falls), //nolint:gosec // small counts
		streakAt: momentOf(i.StreakAt), registeredAt: momentOf(i.RegisteredAt), changedAt: momentOf(i.ChangedAt),
		lastAt: momentOf(i.Last.At), lastLatency: i.Last.Latency, lastCode: i.Last.Code, lastPassed: i.Last.Passed,
	}
	if r := (rare{i.Replaces, i.ReplaceOver, i.Tags, i.Meta, i.Claims, i.DrainPeriod, i.Last.Detail}); !r.isZero() {
		h.rare = new(r)
	}
	return h
}

func (r rare) isZero() bool {
	return !r.replaceOver && r.tags == nil && r.meta == nil && r.claims.IsZero() && r.drainPeriod == 0 &&
		cmp.Or(r.replaces, r.lastDetail) == ""
}

// Instance returns the instance.
func (h *Compact) Instance() app.Instance {
	c := h.common.Value()
	i := app.Instance{
		Rev: h.rev, ID: h.id, Service: c.service, Address: h.address, Hosts: h.hosts, Weight: c.weight, FailOpen: c.failOpen,
		Boot: h.boot, Check: c.check, Override: c.override, Unknown: c.unknown, State: c.state, Streak: int(h.streak), Falls: int(h.falls),
		Last:     app.Result{At: h.lastAt.time(), Latency: h.lastLatency, Passed: h.lastPassed, Code: h.lastCode},
		StreakAt: h.streakAt.time(), RegisteredAt: h.registeredAt.time(), ChangedAt: h.changedAt.time(),
	}
	if r := h.rare; r != nil {
		i.Replaces, i.ReplaceOver, i.Tags, i.Meta, i.Claims = r.replaces, r.replaceOver, r.tags, r.meta, r.claims
		i.DrainPeriod, i.Last.Detail = r.drainPeriod, r.lastDetail
	}
	return i
}

// ID returns the id of the instance.
func (h *Compact) ID() string { return h.id }

// Rev returns its revision.
func (h *Compact) Rev() int64 { return h.rev }

// State returns its state.
func (h *Compact) State() app.State { return h.common.Value().state }

// Service returns the name of its service.
func (h *Compact) Service() string { return h.common.Value().service }

// Hosts returns its vhosts. The caller must not write to the slice.
func (h *Compact) Hosts() []string { return h.hosts }

// Routable reports whether end users' requests may be sent to it.
func (h *Compact) Routable() bool {
	c := h.common.Value()
	return app.Instance{State: c.state, Override: c.override}.Routable()
}

// Failing reports whether it is unhealthy or failed, outside maintenance.
func (h *Compact) Failing() bool {
	c := h.common.Value()
	return (c.state == app.Unhealthy || c.state == app.Failed) && !c.override.Maintenance
}

// ChangedAt returns when its state began.
func (h *Compact) ChangedAt() time.Time { return h.changedAt.time() }

// Interval returns the interval of its check.
func (h *Compact) Interval() time.Duration { return h.common.Value().check.Interval }

// Steady reports whether the instance is healthy and passed its last probe, so that another pass
// does not change it.
func (h *Compact) Steady() bool { return h.streak == 0 && h.State() == app.Healthy }
