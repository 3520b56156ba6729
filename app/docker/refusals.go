package docker

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"

	api "rollcall/app/client"
)

// forgetRefusal is the time after which a refusal that has not occurred again is forgotten. A restart loop is one refusal.
const forgetRefusal = time.Hour

// Limits of a report, as the API has them.
const (
	maxRefused = 50
	maxReason  = 600 // bytes
)

// refusals are the containers that are not registered. The loop owns them.
type refusals struct {
	log     *slog.Logger
	byID    map[string]refusal
	changed bool // since the last report
}

type refusal struct {
	name, reason string
	at           time.Time // last occurrence
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, byID: map[string]refusal{}}
}

// add logs a reason once per container.
func (r *refusals) add(ctx context.Context, id, name, reason string) {
	if r.byID[id].reason != reason {
		r.log.ErrorContext(ctx, "container not registered", "container", id[:min(shortID, len(id))], "name", name, "reason", reason)
		r.changed = true
	}
	r.byID[id] = refusal{name, reason, time.Now()}
}

func (r *refusals) remove(id string) {
	if _, refused := r.byID[id]; refused {
		delete(r.byID, id)
		r.changed = true
	}
}

// prune forgets old refusals, but for the given containers.
func (r *refusals) prune(running map[string]*known) {
	maps.DeleteFunc(r.byID, func(id string, f refusal) bool { return running[id] == nil && time.Since(f.at) > forgetRefusal })
}

// list returns the reasons by the containers' names, as many as a report may have.
func (r *refusals) list() map[string]string {
	reasons := map[string]string{}
	for _, id := range slices.Sorted(maps.Keys(r.byID)) {
		if len(reasons) == maxRefused {
			break
		}
		reasons[plain(r.byID[id].name)] = plain(r.byID[id].reason)
	}
	return reasons
}

// plain returns text without control characters, cut to the limit of a report.
func plain(text string) string {
	text = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) {
			return ' '
		}
		return r
	}, text)
	return strings.ToValidUTF8(text[:min(len(text), maxReason)], "")
}

// reasonOf returns the reason of a refused registration, with the label of the field at fault.
func (p Placement) reasonOf(v api.Verdict) string {
	reason := (&api.Error{Status: v.Status, Problem: *v.Problem}).Error()
	if v.Problem.Field == nil {
		return reason
	}
	return "label " + joined(p.Prefix, "", *v.Problem.Field) + ": " + reason
}

// report sends the time of the last comparison and the refused containers to Rollcall, unless a report is in flight.
func (a *Agent) report(ctx context.Context) {
	if a.reporting || a.synced.IsZero() {
		return
	}
	a.reporting, a.refusals.changed = true, false
	node, age, containers, refused := a.Node, time.Since(a.synced).Round(time.Millisecond).String(), len(a.containers), a.refusals.list()
	a.background.Go(func() {
		limited, cancel := context.WithTimeout(ctx, answerWithin)
		defer cancel()
		resp, err := api.Accepted(a.API.ReportAgent(limited, node, api.AgentReport{Age: &age, Containers: &containers, Refused: &refused}))
		if err == nil {
			_ = resp.Body.Close()
		}
		a.give(ctx, func() { a.reported(ctx, err) })
	})
}

// reported takes the answer to a report. Another report follows a failed one within seconds, unless Rollcall refuses it.
func (a *Agent) reported(ctx context.Context, err error) {
	a.reporting = false
	if err == nil {
		return
	}
	if refused, answered := errors.AsType[*api.Error](err); answered && !temporary(refused.Status) {
		a.Log.WarnContext(ctx, "Rollcall refuses the report of the agent", "err", err)
		return
	}
	a.refusals.changed = true
	a.out.complain(ctx, err)
}
