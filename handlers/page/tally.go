package page

import (
	"fmt"

	"rollcall/app"
)

// maintenance is the condition of an instance that an operator has taken out of service.
const maintenance = "maintenance"

// conditions are what instances are counted by on the page, worst first: their states, and
// maintenance, whatever the state, unless an instance is leaving anyway.
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

// Total is how many there are.
func (t tally) Total() (n int) {
	for _, count := range t {
		n += count
	}
	return n
}

// Up is how many others find, and users reach.
func (t tally) Up() int { return t[string(app.Healthy)] }

// Down is how many do not work as they should.
func (t tally) Down() int { return t[string(app.Unhealthy)] + t[string(app.Failed)] }

// Sentence says how they are.
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

// share is the part of a tally that one condition has, as a piece of a bar 1000 wide.
type share struct {
	Condition string
	Count     int
	X, Width  int
}

// Shares are the parts that there are, worst first.
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

// All are all conditions, worst first, with how many instances have them.
func (t tally) All() []share {
	all := make([]share, len(conditions))
	for n, c := range conditions {
		all[n] = share{Condition: c, Count: t[c]}
	}
	return all
}
