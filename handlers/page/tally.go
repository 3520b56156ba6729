package page

import (
	"fmt"

	"rollcall/app"
)

// maintenance is the condition of an instance that an operator has taken out of service.
const maintenance = "maintenance"

// conditions are the conditions of instances, worst first: the states, and maintenance, which hides any state
// but draining.
var conditions = []string{
	string(app.Unhealthy), string(app.Failed), string(app.Starting), string(app.Draining), maintenance, string(app.Healthy),
}

func conditionOf(i app.Instance) string {
	if i.Override.Maintenance && i.State != app.Draining {
		return maintenance
	}
	return string(i.State)
}

// tally counts instances by condition.
type tally map[string]int

func tallyOf(instances []app.Instance) tally {
	t := tally{}
	for _, i := range instances {
		t[conditionOf(i)]++
	}
	return t
}

// Total returns the number of instances.
func (t tally) Total() (n int) {
	for _, count := range t {
		n += count
	}
	return n
}

// Up returns the number of healthy instances outside maintenance.
func (t tally) Up() int { return t[string(app.Healthy)] }

// Down returns the number of unhealthy and failed instances.
func (t tally) Down() int { return t[string(app.Unhealthy)] + t[string(app.Failed)] }

// Sentence returns a summary.
func (t tally) Sentence() string {
	total, of := t.Total(), "instances"
	if total == 1 {
		of = "instance"
	}
	switch {
	case total == 0:
		return "Nothing is registered."
	case t.Down() > 0:
		return fmt.Sprintf("%d of %d %s down.", t.Down(), total, of)
	case t.Up() == total:
		return fmt.Sprintf("%d of %d %s healthy.", total, total, of)
	}
	return fmt.Sprintf("%d of %d %s healthy, none down.", t.Up(), total, of)
}

// share is the part of one condition, as a piece of a bar of width 1000.
type share struct {
	Condition string
	Count     int
	X, Width  int
}

// Shares returns the conditions that instances have, worst first.
func (t tally) Shares() (shares []share) {
	total, before := t.Total(), 0
	for _, c := range conditions {
		if n := t[c]; n > 0 {
			x := before * 1000 / total
			before += n
			shares = append(shares, share{c, n, x, before*1000/total - x})
		}
	}
	return shares
}

// All returns every condition, worst first, with its number of instances.
func (t tally) All() []share {
	all := make([]share, len(conditions))
	for n, c := range conditions {
		all[n] = share{Condition: c, Count: t[c]}
	}
	return all
}
