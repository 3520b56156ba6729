package chaos

import (
	"fmt"
	"net/http"
	"slices"
	"time"

	"rollcall/app"
	"rollcall/tests/harness"
)

// judge compares the observations with the promises.
func (w *world) judge() {
	w.t.Helper()
	slack := w.machine.Slack()
	w.judgeLists(slack)
	w.judgeUse(slack)
	w.judgeVisits(slack)
	w.judgeProbes(slack)
	w.judgeGuests(slack)
	w.judgeEvents(slack)
	w.judgeChain()
	w.judgeNews(slack)
	w.judgeRegistry()
}

// since formats a time as seconds after the start of the fault.
func (w *world) since(t time.Time) string { return fmt.Sprintf("%+.2fs", t.Sub(w.began).Seconds()) }

func (w *world) judgeLists(slack time.Duration) {
	for what, late := range w.watcher.late {
		if late.by > slack {
			w.t.Errorf("%s, %s later than promised (at %s; %s is allowed for the machine)", what, late.by, w.since(late.at), slack)
		}
	}
	if w.watcher.looks < 40 {
		w.t.Errorf("the lists were looked at %d times: nothing was tested", w.watcher.looks)
	}
}

// judgeUse checks that no user's request reached a backend that should have left its list long before.
func (w *world) judgeUse(slack time.Duration) {
	for host, of := range w.hosts {
		for _, m := range of {
			for _, v := range m.Served() {
				c := m.at(v.At)
				alone := !slices.ContainsFunc(of, func(m *member) bool { return m.at(v.At).well })
				if late := v.At.Sub(w.out(c.at, v.At)); !c.well && !alone && late > slack {
					w.t.Errorf("%s: %s, which is sick since %s, got a request at %s, %s later than promised",
						host, m.id, w.since(c.at), w.since(v.At), late)
				}
			}
		}
	}
}

func (w *world) judgeVisits(slack time.Duration) {
	l := w.load
	l.mu.Lock()
	defer l.mu.Unlock()
	var unexcused []visit
	for _, v := range l.failed {
		if !w.excused(v, slack) {
			unexcused = append(unexcused, v)
		}
	}
	w.t.Logf("%d requests of users, %d not answered well, %d of them without an excuse; %d not made", l.total, len(l.failed), len(unexcused), l.skipped)
	for _, v := range unexcused[:min(len(unexcused), 10)] {
		w.t.Errorf("a user asks for %s at %s and gets %q after %s", v.host, w.since(v.at), v.said, v.took.Round(time.Millisecond))
	}
	if l.total < 60 {
		w.t.Errorf("%d requests of users: nothing was tested", l.total)
	}
}

// excused reports whether a user's request had to fail: the edge has the fault, or the backend's failure
// was not yet detected.
func (w *world) excused(v visit, slack time.Duration) bool {
	end := v.at.Add(v.took)
	if w.fault.visits && end.After(w.began) && v.at.Before(w.lifted.Add(recovery+w.fault.delay+slack)) {
		return true
	}
	alone := true
	for _, m := range w.hosts[v.host] {
		m.mu.Lock()
		for _, c := range m.changes {
			if !c.well && end.After(c.at) && v.at.Before(w.out(c.at, v.at).Add(slack)) {
				m.mu.Unlock()
				return true
			}
		}
		m.mu.Unlock()
		alone = alone && !m.at(v.at).well
	}
	return alone
}

// judgeProbes checks that healthy backends were probed all the time, unless the fault prevents it.
func (w *world) judgeProbes(slack time.Duration) {
	if w.fault.blind {
		return
	}
	allowed := 2*interval + w.fault.delay + slack
	for _, m := range w.members() {
		times := m.Probed(m.id)
		for n := range max(len(times)-1, 0) {
			if gap := times[n+1].Sub(times[n]); gap > allowed && m.at(times[n]) == m.at(times[n+1]) && m.at(times[n]).well {
				w.t.Errorf("%s was not probed for %s at %s, want at most %s", m.id, gap, w.since(times[n]), allowed)
			}
		}
		if !m.beats && len(times) < 5 {
			w.t.Errorf("%s was probed %d times: nothing was tested", m.id, len(times))
		}
	}
}

// lost reports whether a write of some time may be lost.
func (w *world) lost(at time.Time, slack time.Duration) bool {
	switch w.fault.forgets {
	case nothing:
	case everything:
		return at.Before(w.lifted)
	case aSecond:
		return at.After(w.began.Add(-time.Second-slack)) && at.Before(w.lifted)
	}
	return false
}

func (w *world) judgeGuests(slack time.Duration) {
	stored, lost := w.stored(), 0
	for id, at := range w.guests.acked {
		if _, there := stored[id]; there {
			continue
		}
		if lost++; !w.lost(at, slack) {
			w.t.Errorf("%s, which was told that it is registered at %s, is not", id, w.since(at))
		}
	}
	w.t.Logf("%d registrations acknowledged, %d of them lost", len(w.guests.acked), lost)
	if len(w.guests.acked) < 5 {
		w.t.Errorf("%d registrations were acknowledged: nothing was tested", len(w.guests.acked))
	}
}

// judgeEvents checks that the reader got every event of the stream once and in order.
func (w *world) judgeEvents(slack time.Duration) {
	var stream []event
	harness.Eventually(w.t, func() error {
		stream = w.stream()
		w.reader.mu.Lock()
		defer w.reader.mu.Unlock()
		last, n := stream[len(stream)-1].Revision, len(w.reader.seen)
		if n == 0 || app.Revision(w.reader.seen[n-1].Revision).Compare(app.Revision(last)) < 0 {
			return fmt.Errorf("the reader has %d events and not yet %s, the last of %d", n, last, len(stream))
		}
		return nil
	})
	w.reader.mu.Lock()
	defer w.reader.mu.Unlock()
	if gaps := w.reader.gaps; len(gaps) > 0 && w.fault.forgets == nothing {
		w.t.Errorf("the reader was told that it has missed something: %q", gaps)
	}
	in := map[string]bool{}
	for _, e := range stream {
		in[e.Revision] = true
	}
	var kept []string
	for _, e := range w.reader.seen {
		if in[e.Revision] || !w.lost(app.Revision(e.Revision).Time(), slack) {
			kept = append(kept, e.Revision)
		}
	}
	for n, revision := range kept {
		if n >= len(stream) || revision != stream[n].Revision {
			w.t.Errorf("the reader's event %d is %s, and the stream has %v", n, revision, stream[min(n, len(stream)-1)])
			break
		}
	}
	if len(kept) < len(stream) {
		w.t.Errorf("the reader has %d events, and the stream %d", len(kept), len(stream))
	}

	w.t.Logf("%d events in the stream, %d read", len(stream), len(w.reader.seen))
}

// judgeChain checks that the events of each instance form a chain of states that ends in its present
// state.
func (w *world) judgeChain() {
	harness.Eventually(w.t, func() error {
		before := w.stored()
		states := map[string]string{}
		for _, e := range w.stream() {
			if e.Instance == "" {
				continue
			}
			if e.From != states[e.Instance] {
				w.t.Fatalf("%s: %s leads from %q to %q, and the one before to %q", e.Revision, e.Instance, e.From, e.To, states[e.Instance])
			}
			if states[e.Instance] = e.To; e.To == string(app.Gone) {
				delete(states, e.Instance)
			}
		}
		for id, is := range before { // from before the stream was read: the state may have changed since
			if states[id] != is.State {
				return fmt.Errorf("%s is %s, and its last event tells of %q", id, is.State, states[id])
			}
		}
		return nil
	})
}

// judgeNews checks that each backend that failed for long enough has an event.
func (w *world) judgeNews(slack time.Duration) {
	said, now := map[string]int{}, time.Now()
	for _, e := range w.stream() {
		if e.To == string(app.Unhealthy) {
			said[e.Instance]++
		}
	}
	for _, m := range w.members() {
		long := 0
		for n, c := range m.changes {
			end := now
			if n+1 < len(m.changes) {
				end = m.changes[n+1].at
			}
			if !c.well && end.After(w.out(c.at, c.at).Add(slack)) {
				long++
			}
		}
		if said[m.id] < long {
			w.t.Errorf("%s was sick %d times, and %d events say so", m.id, long, said[m.id])
		}
	}
}

func (w *world) stream() (events []event) {
	w.t.Helper()
	entries, err := w.Redis.XRange(w.t.Context(), "rollcall:events", "-", "+").Result()
	if err != nil || len(entries) == 0 {
		w.t.Fatalf("the stream has %d events, %v", len(entries), err)
	}
	for _, x := range entries {
		text, _ := x.Values["event"].(string)
		e := decode[event](text)
		e.Revision = x.ID
		events = append(events, e)
	}
	return events
}

// judgeRegistry checks that the reconcile job repaired no key, and has no key to repair.
func (w *world) judgeRegistry() {
	if said := w.mended(); len(said) > 0 && !w.fault.mends {
		w.t.Errorf("registry and lists differed: %s", said)
	}
	w.must(http.MethodPost, "/v1/jobs/reconcile/run", nil)
	before := len(w.mended())
	if before > 0 && !w.fault.mends {
		w.t.Errorf("a reconcile at the end has something to mend: %s", w.mended())
	}
	w.audited()
	w.must(http.MethodPost, "/v1/jobs/reconcile/run", nil)
	if said := w.mended(); len(said) > before {
		w.t.Errorf("two reconciles, and the second one mends something as well: %s", said)
	}
}

// calm is how long the test watches the world before a fault, and after it.
const calm = 1500 * time.Millisecond

// run injects a fault and judges the observations.
func (f fault) run(w *world) {
	w.t.Helper()
	time.Sleep(calm)
	w.mu.Lock()
	w.began = time.Now()
	w.mu.Unlock()
	f.inject(w)
	time.Sleep(f.lasts)
	if f.lift != nil {
		f.lift(w)
	}
	w.mu.Lock()
	w.lifted = time.Now()
	w.mu.Unlock()
	w.awaitCalm()
	time.Sleep(calm)
	w.rest()
	w.busy.Wait()
	w.judge()
}
