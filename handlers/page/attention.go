package page

import (
	"context"
	"fmt"
	"net/url"
	"slices"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/auth"
	"rollcall/app/diagnose"
)

// alarm is one line of the list of faults on the overview. Condition selects its colour and mark.
type alarm struct{ Condition, Text, Link string }

// alarmsOfAKind bounds the lines of one kind of fault.
const alarmsOfAKind = 5

// attention returns the faults that need an operator, the most serious first.
func (p *Page) attention(ctx context.Context, all []app.Instance, services []serviceRow, vhosts []vhostRow) []alarm {
	alarms := downVhosts(vhosts)
	alarms = append(alarms, downServices(services)...)
	var flapping []string
	for _, i := range all {
		if i.Flapping(p.Now()) {
			flapping = append(flapping, i.ID)
		}
	}
	if len(flapping) > 0 {
		alarms = append(alarms, alarm{string(app.Unhealthy), "Flapping: " + some(flapping), "/instances/" + url.PathEscape(flapping[0])})
	}
	alarms = append(alarms, p.forgotten()...)
	if _, err := p.Replica.Age(time.Now()); err != nil {
		return alarms // Redis has no answer, and the banner says so
	}
	return append(append(alarms, p.failingWebhooks(ctx)...), p.systemAlarms(ctx)...)
}

// downVhosts returns the vhosts of Rollcall without a routed backend.
func downVhosts(vhosts []vhostRow) (alarms []alarm) {
	for _, v := range vhosts {
		if v.Condition == "none" && v.Service != "" && len(alarms) < alarmsOfAKind {
			alarms = append(alarms, alarm{string(app.Failed), v.Host + " has no routed backend", "/explain?host=" + url.QueryEscape(v.Host)})
		}
	}
	return alarms
}

// downServices returns the services with unhealthy or failed instances. A service that starts is not one of them.
func downServices(services []serviceRow) (alarms []alarm) {
	for _, s := range services {
		if s.Tally.Down() == 0 || len(alarms) == alarmsOfAKind {
			continue
		}
		condition := string(app.Unhealthy)
		if s.Tally.Up() == 0 {
			condition = string(app.Failed)
		}
		text := fmt.Sprintf("%s: %d of %d instances down", s.Name, s.Tally.Down(), s.Tally.Total())
		alarms = append(alarms, alarm{condition, text, "/services/" + url.PathEscape(s.Name)})
	}
	return alarms
}

// forgotten returns the instances that were removed within a day because they were down.
func (p *Page) forgotten() []alarm {
	since := p.Now().Add(-24 * time.Hour)
	var ids []string
	for _, e := range p.Replica.Latest("", pageEvents, func(e app.Event) bool {
		return e.Kind == app.EventGone && e.At.After(since) && (e.From == app.Unhealthy || e.From == app.Failed)
	}) {
		ids = append(ids, e.Instance)
	}
	if len(ids) == 0 {
		return nil
	}
	return []alarm{{"gone", "Left while down in the last 24 h: " + some(ids), "/events?kind=" + string(app.EventGone)}}
}

// failingWebhooks returns a line for the webhooks that fail or are paused, to callers with the scope admin.
func (p *Page) failingWebhooks(ctx context.Context) []alarm {
	if !p.mayAdmin(ctx) {
		return nil
	}
	all, err := p.Webhooks.List(ctx)
	if err != nil {
		return nil
	}
	var failing []string
	for _, w := range all {
		if w.Failures > 0 {
			failing = append(failing, w.ID)
		}
	}
	if len(failing) == 0 {
		return nil
	}
	return []alarm{{string(app.Unhealthy), "Failing webhooks: " + some(failing), "/webhooks"}}
}

// systemAlarms returns missing workers, and the faults of Redis that lose data.
func (p *Page) systemAlarms(ctx context.Context) (alarms []alarm) {
	if w, err := p.Store.Workers(ctx); err == nil {
		if len(w.Counters) == 0 {
			alarms = append(alarms, alarm{string(app.Failed), "No worker probes the instances: start rollcall cron", "/system"})
		} else if n := unownedShards(w); n > 0 {
			alarms = append(alarms, alarm{string(app.Unhealthy), fmt.Sprintf("%d shards have no worker", n), "/system"})
		}
		alarms = append(alarms, suspended(w)...)
	}
	alarms = append(alarms, p.disputes()...)
	if server, err := p.Store.Server(ctx); err == nil {
		for _, f := range server.Findings() {
			if f.Severity == "error" {
				alarms = append(alarms, alarm{string(app.Unhealthy), "Redis: " + f.Problem, "/system"})
			}
		}
	}
	return alarms
}

// suspended returns a line for the workers whose self-check fails.
func suspended(w diagnose.Workers) []alarm {
	var ids []string
	for id, counter := range w.Counters {
		if isSuspended(counter) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	slices.Sort(ids)
	return []alarm{{string(app.Unhealthy), "Suspended workers: " + some(ids), "/system"}}
}

// disputes returns a line for the workers that did not reach instances that other workers reached, within the last hour.
func (p *Page) disputes() []alarm {
	since := p.Now().Add(-time.Hour)
	var workers []string
	for _, e := range p.Replica.Latest("", pageEvents, func(e app.Event) bool { return e.Kind == app.EventDisputed && e.At.After(since) }) {
		if !slices.Contains(workers, e.Subject) {
			workers = append(workers, e.Subject)
		}
	}
	if len(workers) == 0 {
		return nil
	}
	return []alarm{{string(app.Unhealthy), "Disputed in the last hour, other workers reach instances of: " + some(workers), "/events?kind=" + string(app.EventDisputed)}}
}

// mayAdmin reports whether the caller has the scope admin.
func (p *Page) mayAdmin(ctx context.Context) bool {
	caller, ok := app.CallerOf(ctx).(auth.Caller)
	return ok && caller.MayAdmin()
}

// some joins up to five names, and gives the number of the others.
func some(names []string) string {
	if len(names) <= alarmsOfAKind {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:alarmsOfAKind], ", "), len(names)-alarmsOfAKind)
}
