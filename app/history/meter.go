package history

import "time"

// A Meter measures how long a service or a vhost has instances, and how long it has a routable one. Its times are ms of
// a monotonic clock.
type Meter struct {
	Record Record // the confirmed times, and counts of the caller

	all, routable int
	at            int64 // the end of observed and up
	observed, up  int64 // ms with instances, and with a routable one, not confirmed yet
}

// NewMeter returns a Meter without instances that starts now.
func NewMeter(now int64) *Meter { return &Meter{at: now} }

// Count adds instances, or removes them with negative numbers. It ignores a nil Meter.
func (m *Meter) Count(now int64, all, routable int) {
	if m == nil {
		return
	}
	m.pass(now)
	m.all += all
	m.routable += routable
	m.Record.Instances = max(m.Record.Instances, uint32(max(m.all, 0))) //nolint:gosec // instances in memory
}

// Confirm moves the time until now into the record. If valid is false, Confirm drops that time: the counts may have
// been wrong.
func (m *Meter) Confirm(now int64, valid bool) {
	m.pass(now)
	if valid {
		m.Record.Observed += time.Duration(m.observed) * time.Millisecond
		m.Record.Up += time.Duration(m.up) * time.Millisecond
	}
	if m.all > 0 {
		m.Record.Instances = max(m.Record.Instances, uint32(m.all)) //nolint:gosec // instances in memory
	}
	m.observed, m.up = 0, 0
}

// Idle reports whether there are no instances and no unconfirmed time.
func (m *Meter) Idle() bool { return m.all <= 0 && m.observed == 0 }

func (m *Meter) pass(now int64) {
	if m.all > 0 {
		m.observed += now - m.at
	}
	if m.routable > 0 {
		m.up += now - m.at
	}
	m.at = now
}
