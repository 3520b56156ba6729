package page

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/app/ownership"
)

// System answers with the processes, their versions, their shards and the state of Redis.
func (p *Page) System(c echo.Context) error { return p.serve(c, p.system) }

// processRow is a process, or a worker whose process is not listed.
type processRow struct {
	ID, Name, Roles string
	Shards          int
	Works           bool // it has a worker that renews its lease
	Suspended       bool // the self-check of its worker fails
	Version         string
	Started         moment
}

// systemBody is the body of the page of the system.
type systemBody struct {
	Processes       []processRow
	Workers         int
	Versions        int // different ones
	Unowned, Shards int
	Web             bool   // a web process has been here
	Version         string // of this process
	Redis           []fact
	Findings        []diagnose.Finding
	Unread          bool
}

func (p *Page) system(c echo.Context, _ []app.Instance) (view, error) {
	v := systemBody{Shards: ownership.Shards, Version: p.Version}
	_, err := p.Replica.Age(time.Now())
	if err == nil {
		err = p.readSystem(c.Request().Context(), &v)
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	v.Unread = err != nil
	return view{template: "system", Title: "System", Section: "system", Body: v}, nil
}

func (p *Page) readSystem(ctx context.Context, v *systemBody) error {
	w, err := p.Store.Workers(ctx)
	if err != nil {
		return err
	}
	processes, err := p.Store.Processes(ctx)
	if err != nil {
		return err
	}
	server, err := p.Store.Server(ctx)
	if err != nil {
		return err
	}
	v.Processes, v.Versions = p.processRows(processes, w)
	v.Workers, v.Unowned, v.Web = len(w.Counters), unownedShards(w), w.Web != ""
	v.Redis, v.Findings = factsOf(server), server.Findings()
	return nil
}

// processRows returns the processes, those with the most shards first, and the number of their versions. A worker of an
// older version, or of a process that began less than a minute after Redis lost its data, has a row without a process.
func (p *Page) processRows(processes []diagnose.Process, w diagnose.Workers) (rows []processRow, versions int) {
	sizes, different, listed := shardsOf(w), map[string]bool{}, map[string]bool{}
	for _, is := range processes {
		counter, works := w.Counters[is.Worker]
		listed[is.Worker], different[is.Version] = true, true
		rows = append(rows, processRow{
			ID: fmt.Sprintf("%s-%d-%d", is.Host, is.PID, is.Started.UnixMilli()), Name: fmt.Sprintf("%s-%d", is.Host, is.PID),
			Roles: strings.Join(is.Roles, ", "), Shards: sizes[is.Worker], Works: works, Suspended: isSuspended(counter),
			Version: is.Version, Started: p.moment(is.Started),
		})
	}
	for id, counter := range w.Counters {
		if !listed[id] {
			rows = append(rows, processRow{ID: id, Name: "worker " + id, Roles: "cron", Shards: sizes[id], Works: true, Suspended: isSuspended(counter)})
		}
	}
	slices.SortFunc(rows, func(a, b processRow) int { return cmp.Or(b.Shards-a.Shards, cmp.Compare(a.ID, b.ID)) })
	return rows, len(different)
}

// fact is a field of Redis's INFO.
type fact struct{ Name, Value string }

// redisFacts are the shown fields of INFO. Words replace a value.
var redisFacts = []struct {
	name, field string
	words       map[string]string
}{
	{"Version", "redis_version", nil},
	{"Role", "role", map[string]string{"master": "primary", "slave": "replica"}},
	{"Up for", "uptime_in_seconds", nil},
	{"Memory", "used_memory_human", nil},
	{"Memory limit", "maxmemory_human", map[string]string{"0B": "none"}},
	{"Eviction", "maxmemory_policy", nil},
	{"Append-only file", "aof_enabled", map[string]string{"0": "off", "1": "on"}},
	{"Snapshots", "save", map[string]string{"": "off"}},
	{"Replicas", "connected_slaves", nil},
	{"Sentinels", "sentinels", nil},
	{"Clients", "connected_clients", nil},
}

// factsOf returns the shown fields that the server has.
func factsOf(server diagnose.Server) (facts []fact) {
	for _, f := range redisFacts {
		value, known := server[f.field]
		if !known {
			continue
		}
		if word, ok := f.words[value]; ok {
			value = word
		}
		if f.field == "uptime_in_seconds" {
			seconds, _ := strconv.Atoi(value) // Redis's number
			value = cmp.Or(inWords(time.Duration(seconds)*time.Second), "0 s")
		}
		facts = append(facts, fact{f.name, value})
	}
	return facts
}

// shardsOf counts the shards of each owner.
func shardsOf(w diagnose.Workers) map[string]int {
	sizes := map[string]int{}
	for n := range ownership.Shards {
		sizes[ownership.Term(w.Terms[strconv.Itoa(n)]).Worker()]++
	}
	return sizes
}

// isSuspended reports whether a worker has written with its counter that its self-check fails.
func isSuspended(counter string) bool { return strings.HasSuffix(counter, " s") }

// unownedShards counts the shards whose owner is not a known worker.
func unownedShards(w diagnose.Workers) (unowned int) {
	for id, shards := range shardsOf(w) {
		if _, known := w.Counters[id]; !known {
			unowned += shards
		}
	}
	return unowned
}
