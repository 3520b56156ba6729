package selfcheck_test

import (
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollcall/app"
	"rollcall/jobs/selfcheck"
)

// desk is a SelfCheck with a clock of its own.
type desk struct {
	self selfcheck.SelfCheck
	now  time.Time
}

func newDesk() *desk { return &desk{now: time.Unix(1_700_000_000, 0)} }

func (d *desk) after(wait time.Duration) { d.now = d.now.Add(wait) }

// healthy returns a healthy instance with a probed check.
func healthy(id string) app.Instance {
	return app.Instance{
		Rev: 1, ID: id, Service: "web", Address: "10.0.0.1:80", Check: app.DefaultCheck(app.TCP), State: app.Healthy,
		RegisteredAt: time.Unix(1, 0), ChangedAt: time.Unix(1, 0),
	}
}

// at returns a healthy instance on a host.
func at(id, host string) app.Instance {
	i := healthy(id)
	i.Address = host + ":80"
	return i
}

// host returns the address of a host other than the worker's.
func host(n int) string { return fmt.Sprintf("192.0.2.%d", n) }

// probed records a probe that ends now.
func (d *desk) probed(i app.Instance, code app.Code) app.Result {
	r := app.Result{At: d.now, Code: code, Passed: code == app.OK, Latency: time.Millisecond}
	if code == app.TimedOut {
		r.Latency = i.Check.Timeout
	}
	r.At = d.now.Add(-r.Latency)
	return d.self.Record(i, r, d.now)
}

// decide returns the decision about a failure that has just been recorded. If the decision needs the
// witnesses, they are probed and pass, except the witnesses in silent.
func (d *desk) decide(i app.Instance, r app.Result, silent map[string]bool) selfcheck.Decision {
	v, ask := d.self.Decide(i, r, d.now, false)
	if v != selfcheck.AskWitnesses {
		return v
	}
	d.after(time.Second) // the probes begin at once
	for _, w := range ask {
		code := app.OK
		if silent[w.ID] {
			code = app.TimedOut
		}
		d.probed(w, code)
	}
	v, _ = d.self.Decide(i, r, d.now, true)
	return v
}

// fleetOf adds n witnesses, w0, w1, ..., each on a host of its own.
func (d *desk) fleetOf(n int) (all []app.Instance) {
	for n := range n {
		all = append(all, at(fmt.Sprint("w", n), host(n+1)))
		d.self.AddWitness(all[n], d.now)
	}
	return all
}

func ids(n int) map[string]bool {
	all := map[string]bool{}
	for n := range n {
		all[fmt.Sprint("w", n)] = true
	}
	return all
}

func TestFailuresCountOnEvidence(t *testing.T) {
	t.Parallel()
	const own = "192.0.2.200"
	for name, c := range map[string]struct {
		suspect   string // its host
		code      app.Code
		witnesses int // each on a host of its own
		silent    int // the number of witnesses that do not answer
		prepare   func(*desk)
		want      selfcheck.Decision
	}{
		"refused, although no witness answers":     {host(100), app.Refused, 12, 12, nil, selfcheck.Remove},
		"a status, although no witness answers":    {host(100), 503, 12, 12, nil, selfcheck.Remove},
		"silence, and the others pass":             {host(100), app.TimedOut, 12, 0, nil, selfcheck.Remove},
		"silence, and the others are silent":       {host(100), app.TimedOut, 12, 12, nil, selfcheck.HoldBack},
		"unreachable, and the others are silent":   {host(100), app.Unreachable, 12, 12, nil, selfcheck.HoldBack},
		"no such name, and the others are silent":  {"web.internal", app.Unresolvable, 12, 12, nil, selfcheck.HoldBack},
		"no such name, and the others pass":        {"web.internal", app.Unresolvable, 12, 0, nil, selfcheck.Remove},
		"not allowed, and the others are silent":   {host(100), app.Forbidden, 12, 12, nil, selfcheck.HoldBack},
		"more pass than are silent":                {host(100), app.TimedOut, 5, 2, nil, selfcheck.Remove},
		"as many pass as are silent":               {host(100), app.TimedOut, 4, 2, nil, selfcheck.HoldBack},
		"more are silent than pass":                {host(100), app.TimedOut, 5, 3, nil, selfcheck.HoldBack},
		"no witness":                               {host(100), app.TimedOut, 0, 0, nil, selfcheck.Remove},
		"one witness, which passes":                {host(100), app.TimedOut, 1, 0, nil, selfcheck.Remove},
		"one witness, which is silent":             {host(100), app.TimedOut, 1, 1, nil, selfcheck.Remove},
		"two witnesses, which pass":                {host(100), app.TimedOut, 2, 0, nil, selfcheck.Remove},
		"two witnesses, which are silent":          {host(100), app.TimedOut, 2, 2, nil, selfcheck.HoldBack},
		"two witnesses, of which one is silent":    {host(100), app.TimedOut, 2, 1, nil, selfcheck.HoldBack},
		"on loopback, and the others are silent":   {"127.0.0.1", app.TimedOut, 12, 12, nil, selfcheck.Remove},
		"on ::1, and the others are silent":        {"[::1]", app.TimedOut, 12, 12, nil, selfcheck.Remove},
		"on localhost, and the others are silent":  {"localhost", app.TimedOut, 12, 12, nil, selfcheck.Remove},
		"on the worker's host, others are silent":  {own, app.TimedOut, 12, 12, nil, selfcheck.Remove},
		"only the worker's own host passes":        {host(100), app.TimedOut, 2, 2, passesOn(own, 5), selfcheck.HoldBack},
		"only loopback passes":                     {host(100), app.TimedOut, 2, 2, passesOn("127.0.0.1", 5), selfcheck.HoldBack},
		"only the worker's own host is there":      {host(100), app.TimedOut, 0, 0, passesOn(own, 5), selfcheck.Remove},
		"two on one other host pass":               {host(100), app.TimedOut, 0, 0, passesOn(host(50), 2), selfcheck.Remove},
		"another one on the suspect's host passes": {host(100), app.TimedOut, 3, 3, passesBeforeAndAfter(host(100)), selfcheck.Remove},
		"another one there passes only afterwards": {host(100), app.TimedOut, 3, 3, passesOn(host(100), 1), selfcheck.HoldBack},
		"others on the suspect's host are silent":  {host(100), app.TimedOut, 2, 0, silentOn(host(100), 30), selfcheck.Remove},
		"refused instances are no witnesses":       {host(100), app.TimedOut, 0, 0, findsOn(host(50), 12, app.Refused), selfcheck.Remove},
		"unhealthy instances are no witnesses":     {host(100), app.TimedOut, 0, 0, meetsOn(host(50), 12, app.Unhealthy), selfcheck.Remove},
		"starting instances are no witnesses":      {host(100), app.TimedOut, 0, 0, meetsOn(host(50), 12, app.Starting), selfcheck.Remove},
		"the suspect itself is no witness":         {host(100), app.TimedOut, 1, 1, meetsSuspect, selfcheck.Remove},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			d.self.SetOwn([]netip.Addr{netip.MustParseAddr(own)})
			d.fleetOf(c.witnesses)
			suspect := at("suspect", c.suspect)
			d.after(10 * time.Second)
			r := d.probed(suspect, c.code)
			if c.prepare != nil {
				c.prepare(d)
			}
			silent := ids(c.silent)
			for n := range 50 {
				silent[fmt.Sprint("silent", n)] = true
			}
			if got := d.decide(suspect, r, silent); got != c.want {
				t.Errorf("decision %d, want %d", got, c.want)
			}
		})
	}
}

// passesOn records passes of instances on a host, after the suspect's failure.
func passesOn(host string, n int) func(*desk) { return findsOn(host, n, app.OK) }

func passesBeforeAndAfter(host string) func(*desk) {
	return func(d *desk) {
		d.self.Record(at("x0", host), app.Result{At: d.now.Add(-5 * time.Second), Passed: true}, d.now)
		passesOn(host, 1)(d)
	}
}

func silentOn(host string, n int) func(*desk) {
	return func(d *desk) {
		for n := range n {
			d.self.AddWitness(at(fmt.Sprint("silent", n), host), d.now)
		}
	}
}

func findsOn(host string, n int, code app.Code) func(*desk) {
	return func(d *desk) {
		d.after(10 * time.Millisecond)
		for n := range n {
			d.probed(at(fmt.Sprint("x", n), host), code)
		}
	}
}

func meetsOn(host string, n int, state app.State) func(*desk) {
	return func(d *desk) {
		for n := range n {
			i := at(fmt.Sprint("x", n), host)
			i.State = app.Healthy
			d.self.AddWitness(i, d.now)
			i.State = state
			d.self.AddWitness(i, d.now)
		}
	}
}

func meetsSuspect(d *desk) {
	d.self.AddWitness(at("suspect", host(101)), d.now) // re-registered meanwhile, at another address
}

// A pass proves the path only if its probe began after the failed one began. A failure
// contradicts it if it ended after that time.
func TestOnlyProbesAfterTheFailureAreEvidence(t *testing.T) {
	t.Parallel()
	d := newDesk()
	fleet, suspect := d.fleetOf(6), at("suspect", host(100))
	r := app.Result{At: d.now, Code: app.TimedOut, Latency: time.Second}
	for _, w := range fleet[:4] { // the probe begins before the failed one, and ends after it
		d.self.Record(w, app.Result{At: d.now.Add(-time.Millisecond), Passed: true, Latency: 500 * time.Millisecond}, d.now.Add(time.Second))
	}
	for _, w := range fleet[4:] {
		d.self.Record(w, app.Result{At: d.now.Add(-500 * time.Millisecond), Code: app.TimedOut, Latency: time.Second}, d.now.Add(time.Second))
	}
	d.after(time.Second)
	d.self.Record(suspect, r, d.now)
	v, ask := d.self.Decide(suspect, r, d.now, false)
	if v != selfcheck.AskWitnesses || len(ask) != 4 {
		t.Errorf("decision %d, asks %d; want the four whose pass is too old to be asked", v, len(ask))
	}
	for _, w := range ask {
		if w.ID > "w3" {
			t.Errorf("%s is asked, which has just failed", w.ID)
		}
	}
}

func TestATimeoutCountsOnlyIfTheWorkerWasOnTime(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		timeout, latency time.Duration
		code             app.Code
		lacked           time.Duration // how long before the probe the worker lacked sockets or memory; 0: it did not
		want             app.Code
	}{
		"on time":                     {time.Second, 1010 * time.Millisecond, app.TimedOut, 0, app.TimedOut},
		"a little late":               {time.Second, 1250 * time.Millisecond, app.TimedOut, 0, app.TimedOut},
		"late":                        {time.Second, 1251 * time.Millisecond, app.TimedOut, 0, app.Inconclusive},
		"late for a short timeout":    {100 * time.Millisecond, 151 * time.Millisecond, app.TimedOut, 0, app.Inconclusive},
		"late, once connected":        {time.Second, 3 * time.Second, 22, 0, app.Inconclusive},
		"lacked sockets just before":  {time.Second, time.Second, app.TimedOut, 4 * time.Second, app.Inconclusive},
		"lacked sockets long before":  {time.Second, time.Second, app.TimedOut, 5 * time.Second, app.TimedOut},
		"lacked sockets meanwhile":    {time.Second, time.Second, app.TimedOut, -500 * time.Millisecond, app.Inconclusive},
		"lacked, and was refused":     {time.Second, time.Millisecond, app.Refused, time.Second, app.Refused},
		"late, and it was a bad page": {time.Second, 3 * time.Second, 500, 0, 500},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var self selfcheck.SelfCheck
			began := time.Unix(1_700_000_000, 0)
			if c.lacked != 0 {
				self.Record(at("other", host(1)), app.Result{At: began.Add(-c.lacked), Code: app.Inconclusive, Detail: "too many open files"}, began)
			}
			i := at("i", host(2))
			i.Check.Timeout = c.timeout
			r := app.Result{At: began, Latency: c.latency, Code: c.code}
			if got := self.Record(i, r, began.Add(c.latency)).Code; got != c.want {
				t.Errorf("counts as %q, want %q", got, c.want)
			}
		})
	}
}

// All but two instances stop answering at the same time. The worker is suspended until the silent
// witnesses have lost their votes, and no longer.
func TestTwoSurvivorsConfirmAMassDeath(t *testing.T) {
	t.Parallel()
	for survivors, want := range map[int]bool{0: false, 1: false, 2: true, 3: true} {
		d := newDesk()
		fleet := d.fleetOf(12)
		removed, silent := time.Duration(0), ids(12)
		for n := range survivors {
			delete(silent, fleet[n].ID)
		}
		for began := d.now; d.now.Sub(began) < 30*time.Second && removed == 0; {
			d.after(time.Second)
			for _, w := range fleet {
				if !silent[w.ID] {
					d.probed(w, app.OK)
				} else if d.decide(w, d.probed(w, app.TimedOut), silent) == selfcheck.Remove {
					removed = d.now.Sub(began)
				}
			}
		}
		if (removed > 0) != want {
			t.Errorf("with %d survivors: removed after %s, want it at all: %t", survivors, removed, want)
		}
		if is, _ := d.self.Suspended(); is == want {
			t.Errorf("with %d survivors: suspended %t", survivors, is)
		}
	}
}

func TestAWitnessThatPassesAgainEndsTheSuspension(t *testing.T) {
	t.Parallel()
	d := newDesk()
	fleet := d.fleetOf(12)
	for range 20 { // cut off for longer than a witness needs to lose its vote
		d.after(time.Second)
		for _, w := range fleet {
			d.decide(w, d.probed(w, app.TimedOut), ids(12))
		}
	}
	if is, _ := d.self.Suspended(); !is {
		t.Fatal("a worker that is cut off is not suspended")
	}
	if !d.self.Ignores(fleet[0], app.Result{Code: app.TimedOut}) || d.self.Ignores(fleet[0], app.Result{Code: app.Refused}) {
		t.Error("want a suspended worker to ignore silence only")
	}
	began := d.now
	ask := d.self.Recheck(began)
	if len(ask) != len(fleet)-1 { // all but the last suspect
		t.Fatalf("%d witnesses are asked again, want %d: they may have come back", len(ask), len(fleet)-1)
	}
	d.after(time.Second)
	for _, w := range ask {
		d.probed(w, app.OK)
	}
	d.self.Resume(began, d.now)
	if is, reason := d.self.Suspended(); is {
		t.Errorf("still suspended: %s", reason)
	}
}

// The network may come back during a probe. The failure of that probe does not count, although witnesses
// have passed since it began. The next failure counts.
func TestAFailureFromBeforeTheSuspensionsEndDoesNotCount(t *testing.T) {
	t.Parallel()
	d := newDesk()
	fleet := d.fleetOf(12)
	d.after(time.Second)
	d.decide(fleet[0], d.probed(fleet[0], app.TimedOut), ids(12))
	if is, _ := d.self.Suspended(); !is {
		t.Fatal("the worker is not suspended")
	}
	d.after(time.Second)
	for _, want := range []selfcheck.Decision{selfcheck.HoldBack, selfcheck.Remove} {
		d.after(2 * time.Second)
		r := d.probed(fleet[1], app.TimedOut)
		for _, w := range fleet[2:] {
			d.probed(w, app.OK)
		}
		if got := d.decide(fleet[1], r, nil); got != want {
			t.Errorf("decision %d, want %d", got, want)
		}
		if is, reason := d.self.Suspended(); is {
			t.Errorf("still suspended: %s", reason)
		}
	}
}

// An instance stops being a witness when it is forgotten, when it was not seen for long, or
// when it has moved. Its results at the old address are no evidence.
func TestWitnessesAreForgotten(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(*desk, []app.Instance)
		want   selfcheck.Decision
	}{
		"no change": {func(*desk, []app.Instance) {}, selfcheck.HoldBack},
		"forgotten": {func(d *desk, all []app.Instance) { d.self.RemoveWitness("w0"); d.self.RemoveWitness("w1") }, selfcheck.Remove},
		"not seen":  {func(d *desk, _ []app.Instance) { d.after(2 * time.Minute) }, selfcheck.Remove},
		"moved": {func(d *desk, all []app.Instance) {
			for _, w := range all {
				w.Address = "198.51.100.1:80"
				d.self.AddWitness(w, d.now)
			}
		}, selfcheck.AskWitnesses},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDesk()
			all, suspect := d.fleetOf(2), at("suspect", host(100))
			d.after(time.Second)
			r := d.probed(suspect, app.TimedOut)
			for _, w := range all {
				d.probed(w, app.TimedOut)
			}
			c.change(d, all)
			if got, _ := d.self.Decide(suspect, r, d.now, false); got != c.want {
				t.Errorf("decision %d, want %d", got, c.want)
			}
		})
	}
}

// TestACutOffWorkerRemovesNoInstance draws a fleet, its history, and the failures that follow
// while only the worker's own host answers.
func TestACutOffWorkerRemovesNoInstance(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk()
		hosts := rapid.IntRange(3, 8).Draw(t, "hosts")
		var fleet []app.Instance
		for n := range hosts + rapid.IntRange(0, 20).Draw(t, "more") {
			fleet = append(fleet, at(fmt.Sprint("w", n), host(1+n%hosts)))
			d.self.AddWitness(fleet[n], d.now)
		}
		own := at("own", "127.0.0.1")
		for range rapid.IntRange(0, 40).Draw(t, "before") {
			d.after(100 * time.Millisecond)
			d.probed(rapid.SampledFrom(fleet).Draw(t, "passes"), app.OK)
		}
		d.after(time.Second) // the network fails
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			d.after(time.Duration(rapid.IntRange(1, 2000).Draw(t, "ms")) * time.Millisecond)
			d.probed(own, app.OK)
			i := rapid.SampledFrom(fleet).Draw(t, "instance")
			r := d.probed(i, rapid.SampledFrom([]app.Code{app.TimedOut, app.Unreachable, app.Unresolvable, app.NameServerFailed}).Draw(t, "code"))
			if !r.Conclusive() {
				continue
			}
			d.self.AddWitness(i, d.now)
			for _, w := range fleet { // the worker continues to probe, so it forgets no witness
				d.self.AddWitness(w, d.now)
			}
			for asked := false; ; asked = true {
				v, ask := d.self.Decide(i, r, d.now, asked)
				if v == selfcheck.Remove {
					t.Fatalf("%s is removed", i.ID)
				}
				if v == selfcheck.HoldBack {
					break
				}
				for _, w := range ask {
					d.probed(w, app.TimedOut)
				}
			}
			if rapid.Bool().Draw(t, "recheck") {
				began := d.now
				for _, w := range d.self.Recheck(began) {
					d.probed(w, app.TimedOut)
				}
				d.self.Resume(began, d.now)
			}
			if is, _ := d.self.Suspended(); !is {
				t.Fatal("the worker is not suspended")
			}
		}
	})
}

// TestEveryDeathIsFoundWhileMostWitnessesPass draws the silent instances of a fleet: fewer than
// half of it.
func TestEveryDeathIsFoundWhileMostWitnessesPass(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		d := newDesk()
		n := rapid.IntRange(3, 17).Draw(t, "instances")
		fleet := d.fleetOf(n)
		silent := map[string]bool{}
		for range rapid.IntRange(1, (n-1)/2).Draw(t, "dead") {
			silent[rapid.SampledFrom(fleet).Draw(t, "silent").ID] = true
		}
		d.after(time.Second)
		for _, i := range fleet {
			if !silent[i.ID] {
				continue
			}
			if n-1-len(silent)+1 < 2 {
				continue
			}
			if got := d.decide(i, d.probed(i, app.TimedOut), silent); got != selfcheck.Remove {
				t.Fatalf("%s: decision %d with %d of %d silent, want it removed", i.ID, got, len(silent), n)
			}
			d.self.RemoveWitness(i.ID)
			delete(silent, i.ID)
		}
	})
}
