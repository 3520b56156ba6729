package diagnose

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
)

// Severity is the severity of a finding.
type Severity string

// The severities.
const (
	Error   Severity = "error"   // end users or the registry suffer, or will at the next restart
	Warning Severity = "warning" // a fault that affects no user yet
)

// Finding is a fault of a Redis, of its settings or of its keys.
type Finding struct {
	Severity Severity
	Problem  string
	Fix      string // how to repair it
}

func problemf(fix, format string, args ...any) Finding {
	return Finding{Severity: Error, Problem: fmt.Sprintf(format, args...), Fix: fix}
}

func warnf(fix, format string, args ...any) Finding {
	return Finding{Severity: Warning, Problem: fmt.Sprintf(format, args...), Fix: fix}
}

const (
	observed = 4 * time.Second        // between the two reads of the workers: longer than a lease
	maxSync  = 3 * time.Minute        // since an agent's last comparison of its containers
	maxSkew  = 500 * time.Millisecond // between this machine's clock and Redis's
	mend     = "rollcall jobs run reconcile mends it"
)

// Doctor looks for faults of a Redis and of the keys in it.
type Doctor struct {
	Source  Source
	Observe time.Duration // time between the two reads of the workers; 0: 4 s
}

// Examine returns the faults.
func (d Doctor) Examine(ctx context.Context) ([]Finding, error) {
	var found []Finding
	for _, examine := range []examination{d.server, d.clock, d.workers, d.disputes, d.agents, twice(d.lists), twice(d.deadSets)} {
		f, err := examine(ctx)
		if err != nil {
			return found, err
		}
		found = append(found, f...)
	}
	return found, nil
}

type examination func(context.Context) ([]Finding, error)

// twice returns the findings that two examinations in a row agree on. The source reads many keys one by one, and they
// disagree for a moment while a process writes.
func twice(examine examination) examination {
	return func(ctx context.Context) ([]Finding, error) {
		first, err := examine(ctx)
		if err != nil || len(first) == 0 {
			return nil, err
		}
		again, err := examine(ctx)
		return slices.DeleteFunc(again, func(f Finding) bool { return !slices.Contains(first, f) }), err
	}
}

func (d Doctor) server(ctx context.Context) ([]Finding, error) {
	s, err := d.Source.Server(ctx)
	if err != nil {
		return nil, err
	}
	return s.Findings(), nil
}

func (d Doctor) clock(ctx context.Context) ([]Finding, error) {
	skew, err := d.Source.Skew(ctx)
	if err != nil || skew.Abs() <= maxSkew {
		return nil, err
	}
	return []Finding{warnf("run NTP on both; Rollcall goes by Redis's clock meanwhile",
		"the clock of Redis is %s off this machine's", skew.Round(time.Millisecond))}, nil
}

// workers reads the workers twice, because only a counter that grows proves that a process lives.
func (d Doctor) workers(ctx context.Context) ([]Finding, error) {
	first, err := d.Source.Workers(ctx)
	if err != nil {
		return nil, err
	}
	if err := app.Sleep(ctx, cmp.Or(d.Observe, observed)); err != nil {
		return nil, err
	}
	second, err := d.Source.Workers(ctx)
	if err != nil {
		return nil, err
	}
	return workerFindings(first, second), nil
}

func (d Doctor) disputes(ctx context.Context) ([]Finding, error) {
	ids, err := d.Source.Disputed(ctx)
	if err != nil || len(ids) == 0 {
		return nil, err
	}
	const shown = 5
	return []Finding{warnf("check the routes from the hosts of the cron processes to the instances",
		"%d instances are disputed (%s): the worker that owns them does not reach them, and another worker does; they are not removed",
		len(ids), strings.Join(ids[:min(len(ids), shown)], " "))}, nil
}

// agents looks for agents that no longer compare the containers of their engine, which they do once a minute.
func (d Doctor) agents(ctx context.Context) (found []Finding, err error) {
	all, err := d.Source.Agents(ctx)
	for _, a := range all.Agents {
		if age := d.Source.Now().Sub(a.SyncedAt); age > maxSync {
			found = append(found, warnf(
				fmt.Sprintf("look at the log of rollcall docker --node %s; if that engine is gone, HDEL %s %s", a.Node, all.Key, a.Node),
				"the agent of node %s last compared its containers %s ago: changes of its containers do not arrive", a.Node, age.Round(time.Second)))
		}
	}
	return found, err
}

// workerFindings compares two reads of the workers.
func workerFindings(first, second Workers) (found []Finding) {
	found = webFindings(first, second)
	alive := map[string]bool{}
	var silent []string
	for id, counter := range second.Counters {
		if before, known := first.Counters[id]; known && before == counter {
			silent = append(silent, id)
		} else {
			alive[id] = true
		}
	}
	if len(alive) == 0 {
		return append(found, problemf("start rollcall cron, and look at its log",
			"no cron process is at work: no instance is probed, and no unhealthy instance is removed"))
	}
	if slices.Sort(silent); len(silent) > 0 {
		found = append(found, problemf("look at the logs of all cron processes: another worker drops a silent one within 5s, unless its own calls fail",
			"the workers %s have been silent for %s and are not dropped: the workers disagree about who lives", strings.Join(silent, " "), observed))
	}
	return append(found, shardFindings(first, second, alive)...)
}

func webFindings(first, second Workers) []Finding {
	switch second.Web {
	case "":
		return []Finding{warnf("start rollcall web", "no web process has ever been here")}
	case first.Web:
		return []Finding{problemf("start rollcall web, and look at its log",
			"no web process has been heard of for %s: instances cannot report, and no grace, lease or forget period runs", observed)}
	}
	return nil
}

// shardFindings looks for shards without a living owner, and for workers with more than their share.
func shardFindings(first, second Workers, alive map[string]bool) (found []Finding) {
	orphans, sizes := 0, map[string]int{}
	for n := range ownership.Shards {
		number := strconv.Itoa(n)
		owner := ownership.Term(second.Terms[number]).Worker()
		if sizes[owner]++; !alive[owner] && first.Terms[number] == second.Terms[number] {
			orphans++
		}
	}
	if orphans > 0 {
		found = append(found, problemf("look at the logs of all cron processes",
			"%d of %d shards have no living owner: their instances are not probed", orphans, ownership.Shards))
	}
	return append(found, shareFindings(first, sizes, alive)...)
}

// shareFindings finds the workers that own more than their share of the shards. sizes counts the shards of each worker.
func shareFindings(first Workers, sizes map[string]int, alive map[string]bool) (found []Finding) {
	share := ownership.Share(len(alive))
	for _, id := range slices.Sorted(maps.Keys(alive)) {
		if sizes[id] > share && first.Counters[id] != "" {
			found = append(found, warnf("run rollcall doctor again: a worker gives back what is above its share within seconds",
				"the worker %s owns %d shards, more than its share of %d", id, sizes[id], share))
		}
	}
	return found
}

// lists compares the proxy's lists with the registry.
func (d Doctor) lists(ctx context.Context) ([]Finding, error) {
	l, err := d.Source.Lists(ctx)
	if err != nil {
		return nil, err
	}
	found := versionFindings(l.Instances)
	for _, id := range l.Misplaced {
		found = append(found, problemf(mend, "instance %s does not stand in its vhosts as it should", id))
	}
	byID := map[string]app.Instance{}
	for _, i := range l.Instances {
		byID[i.ID] = i
	}
	for _, list := range l.Lists {
		found = append(found, list.findings(byID)...)
	}
	return found, nil
}

// versionFindings looks for instances that this version leaves to a newer one.
func versionFindings(instances []app.Instance) []Finding {
	var newer []string
	for _, i := range instances {
		if !i.Understood() {
			newer = append(newer, i.ID)
		}
	}
	if len(newer) == 0 {
		return nil
	}
	slices.Sort(newer)
	return []Finding{warnf("run a cron of the newer version; if there is none any more, deregister them: they register again",
		"%d instances have fields that this version does not know, so it does not check them, such as %s", len(newer), newer[0])}
}

// findings compares a list with the instances that it should have.
func (l List) findings(byID map[string]app.Instance) (found []Finding) {
	if l.Type != "list" && l.Type != "none" {
		return []Finding{problemf("rollcall jobs run reconcile replaces it",
			"%s is a %s, not a list: the proxy cannot answer for %s", l.Key, l.Type, l.Host)}
	}
	if l.Identifier != "" && l.Identifier != l.Service {
		found = append(found, warnf(l.identifierFix(), "%s begins with %q, which Rollcall did not write", l.Key, l.Identifier))
	}
	return slices.Concat(found, l.foreign(), l.missing(byID), l.counts(byID))
}

// missing finds the routable instances that the list does not contain.
func (l List) missing(byID map[string]app.Instance) (found []Finding) {
	for _, id := range l.Unlisted {
		if byID[id].Routable() {
			found = append(found, problemf("rollcall jobs run reconcile appends it", "%s is healthy and not in %s", id, l.Key))
		}
	}
	return found
}

func (l List) identifierFix() string {
	if strings.Contains(l.Identifier, "://") {
		return "the first entry is never routed: LPUSH an identifier before it"
	}
	return "nothing, if it was meant: Rollcall leaves it alone"
}

// foreign looks for entries that Rollcall did not write.
func (l List) foreign() (found []Finding) {
	var foreign, unusable []string
	for _, s := range l.Slots {
		switch {
		case s.Unusable:
			unusable = append(unusable, fmt.Sprintf("%q", s.URL))
		case s.Foreign:
			foreign = append(foreign, s.URL)
		}
	}
	if unusable != nil {
		found = append(found, problemf("LREM them", "%s has entries that are no http URL, on which Hipache hangs or crashes: %s",
			l.Key, strings.Join(unusable, " ")))
	}
	if foreign != nil {
		found = append(found, warnf("LREM them, unless they are meant: Rollcall neither checks nor removes them",
			"%s has entries that Rollcall did not write: %s", l.Key, strings.Join(foreign, " ")))
	}
	return found
}

// counts compares the number of entries of each instance with its weight.
func (l List) counts(byID map[string]app.Instance) (found []Finding) {
	entries := l.staying()
	for _, id := range slices.Sorted(maps.Keys(entries)) {
		i, registered := byID[id]
		mayStay := i.Slots() == 0 && i.MayStay()
		if n := entries[id]; registered && n != i.Slots() && !mayStay {
			found = append(found, problemf(mend, "%s has %d backends in %s and should have %d", id, n, l.Key, i.Slots()))
		}
	}
	return found
}

// staying counts the backends of each instance that do not leave the list.
func (l List) staying() map[string]int {
	entries := map[string]int{}
	for _, s := range l.Slots {
		if !s.Unusable && !s.Foreign && s.Leaves.IsZero() {
			entries[s.Instance]++
		}
	}
	return entries
}

// deadSets looks for dead sets that mark no backend, or mark one for ever, or have another type.
func (d Doctor) deadSets(ctx context.Context) ([]Finding, error) {
	sets, err := d.Source.DeadSets(ctx)
	var found []Finding
	for _, s := range sets {
		found = append(found, s.findings()...)
	}
	return found, err
}

func (s DeadSet) findings() (found []Finding) {
	fix := fmt.Sprintf("DEL %s; a good probe does it by itself while anybody is registered for it", s.Key)
	if s.Type != "set" {
		return []Finding{problemf(fix, "%s is a %s, not a set: a proxy that reads it hangs", s.Key, s.Type)}
	}
	stale := func(mark string) bool {
		n, err := strconv.Atoi(mark)
		return err != nil || n < 0 || n >= s.Slots
	}
	if slices.ContainsFunc(s.Marks, stale) {
		found = append(found, warnf(fix, "%s has marks without a backend (%s; the list has %d backends)", s.Key, strings.Join(s.Marks, " "), s.Slots))
	}
	if s.Permanent {
		found = append(found, warnf(fix, "%s has no time to live: its marks stay for ever", s.Key))
	}
	return found
}
