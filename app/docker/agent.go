package docker

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"reflect"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"

	api "rollcall/app/client"
)

const (
	reconcileEvery = time.Minute
	reconnectAfter = time.Second
	coalesce       = 20 * time.Millisecond
)

// pace is the time between the regular acts of an agent.
type pace struct {
	reconcile time.Duration // looks at all containers
	poll      time.Duration // looks at health=docker, while the engine has sent no event about health
	idle      time.Duration // an event stream without an event is opened again
}

var usual = pace{reconcile: reconcileEvery, poll: 5 * time.Second, idle: 5 * time.Minute}

// lookAgain are the delays before another look at a container without an address.
var lookAgain = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// Agent registers the containers of one engine. Its methods are not safe for concurrent use.
//
// One goroutine, the loop, reads events and owns the fields below Log. Looks at the engine and calls to Rollcall run in other
// goroutines, which give their results to the loop: neither a slow engine nor a slow Rollcall stops it.
type Agent struct {
	Placement
	Engine *client.Client
	API    *api.Client
	Log    *slog.Logger

	pace       pace // zero: usual
	containers map[string]*known
	dirty      map[string]bool // ids of containers to look at
	spoiled    map[string]bool // ids of containers that ended during the look in flight
	full       bool            // a look at all containers is due
	looking    *look           // in flight, or failed and due again; nil: none
	failures   int             // of looks, one after the other
	sweeping   bool            // a read of the instances is in flight
	swept      bool            // the instances of all services were read
	services   map[string]bool // of this agent's registrations
	synced     time.Time       // last comparison of the containers with the instances
	reporting  bool            // a report is in flight
	healthSeen bool            // the engine sends events about health

	results    chan func() // run by the loop
	out        *outbox
	pulse      *pulse
	refusals   *refusals
	background sync.WaitGroup
}

// look is one look at the engine.
type look struct {
	full bool            // at all containers
	ids  map[string]bool // else at these
}

// covers reports whether a look is in flight and will find a container if it runs.
func (l *look) covers(id string) bool { return l != nil && (l.full || l.ids[id]) }

// known is one running container.
type known struct {
	Seen
	accepted map[string]bool // instances that Rollcall has accepted
	looked   int             // looks without an address
	stopping time.Time       // until then the container is being stopped: it is not registered again
}

// Run registers containers until the context ends. Registrations outlive it: another start of the agent continues. While
// the engine does not answer, Run changes nothing.
func (a *Agent) Run(ctx context.Context) error {
	a.containers, a.dirty, a.spoiled, a.services = map[string]*known{}, map[string]bool{}, map[string]bool{}, map[string]bool{}
	a.pace, a.results = cmp.Or(a.pace, usual), make(chan func(), 100)
	a.out, a.pulse, a.refusals = newOutbox(a.API, a.Log), newPulse(a.API, a.Log), newRefusals(a.Log)
	a.out.settled = func(id string, entry Entry, v api.Verdict) {
		a.give(ctx, func() { a.settle(ctx, id, entry, v) })
	}
	a.pulse.unknown = func(id string) { a.give(ctx, func() { a.registerAgain(id) }) }
	defer a.background.Wait()
	a.background.Go(func() { a.out.run(ctx) })
	a.background.Go(func() { a.pulse.run(ctx) })
	for ctx.Err() == nil {
		if err := a.follow(ctx); err != nil && ctx.Err() == nil {
			a.Log.WarnContext(ctx, "no events from the engine; registrations stay", "err", err)
			wait(ctx, reconnectAfter)
		}
	}
	return nil
}

// give has the loop run a function, unless the context ends before.
func (a *Agent) give(ctx context.Context, result func()) {
	select {
	case a.results <- result:
	case <-ctx.Done():
	}
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

var watched = make(client.Filters).Add("type", "container", "network").Add("event",
	"start", "kill", "die", "pause", "unpause", "rename", "health_status", "connect", "disconnect")

// follow subscribes to events, looks at all containers, and follows one event stream to its end.
func (a *Agent) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	limit := time.AfterFunc(engineWithin, cancel) // for the headers of the answer
	stream := a.Engine.Events(ctx, client.EventsListOptions{Filters: watched})
	limit.Stop()
	a.full, a.looking, a.sweeping, a.reporting = true, nil, false, false
	c := startClock(a.pace)
	defer c.stop()
	for {
		select {
		case event := <-stream.Messages:
			c.idle.Reset(a.pace.idle)
			a.apply(event)
		case result := <-a.results:
			result()
		case <-c.soon.C:
			c.armed = false
			a.look(ctx)
		case <-c.reconcile.C:
			a.full = true
		case <-c.poll.C:
			a.poll(ctx)
		case <-c.idle.C:
			return nil
		case err := <-stream.Err:
			return a.explain(ctx, partEvents, "read the events", err)
		}
		if a.lookDue() {
			c.arm()
		}
	}
}

// clock times the regular acts of an agent, and its next look.
type clock struct {
	reconcile, poll *time.Ticker
	idle, soon      *time.Timer
	armed           bool // soon runs
}

// startClock returns a clock whose first look is due.
func startClock(p pace) *clock {
	return &clock{time.NewTicker(p.reconcile), time.NewTicker(p.poll), time.NewTimer(p.idle), time.NewTimer(0), true}
}

// arm makes a look due in a moment. The events until then share it.
func (c *clock) arm() {
	if !c.armed {
		c.armed = true
		c.soon.Reset(coalesce)
	}
}

func (c *clock) stop() {
	c.reconcile.Stop()
	c.poll.Stop()
	c.idle.Stop()
	c.soon.Stop()
}

// apply follows an event.
func (a *Agent) apply(e events.Message) {
	id := e.Actor.ID
	if e.Type == events.NetworkEventType {
		if id = e.Actor.Attributes["container"]; a.containers[id] != nil {
			a.dirty[id] = true
		}
		return
	}
	if !a.labelled(e.Actor.Attributes) {
		return
	}
	status, isHealth := strings.CutPrefix(string(e.Action), string(events.ActionHealthStatus)+": ")
	switch {
	case isHealth:
		a.healthSeen = true
		a.setHealth(id, container.HealthStatus(status))
	case e.Action == events.ActionKill:
		a.kill(id, e.Actor.Attributes["signal"])
	case e.Action == events.ActionDie || e.Action == events.ActionPause:
		a.end(id)
	default:
		a.dirty[id] = true
	}
}

// kill drains the instances of a container that got its stop signal.
func (a *Agent) kill(id, signal string) {
	k := a.containers[id]
	if k == nil || !isStopSignal(signal, k.stopSignal) {
		return
	}
	k.stopping = time.Now().Add(k.grace + reconcileEvery)
	a.pulse.set(id, nil, "")
	a.out.put(id, drain, k.Entries, k.grace)
}

// end removes the instances of a container that does not run, or is paused.
func (a *Agent) end(id string) {
	delete(a.dirty, id)
	if a.looking != nil {
		a.spoiled[id] = true
	}
	if k := a.containers[id]; k != nil {
		a.pulse.set(id, nil, "")
		a.out.put(id, remove, k.Entries, 0)
		delete(a.containers, id)
	}
}

func (a *Agent) setHealth(id string, health container.HealthStatus) {
	if k := a.containers[id]; k != nil {
		k.health = health
		a.beat(k)
	}
}

// beat has the health of a container reported.
func (a *Agent) beat(k *known) {
	var instances []string
	for _, entry := range k.Entries {
		if entry["health"] == dockerHealth && k.accepted[entry.ID()] && time.Now().After(k.stopping) {
			instances = append(instances, entry.ID())
		}
	}
	a.pulse.set(k.ID, instances, k.health)
}

// poll reports new refusals. It looks at the containers with health=docker, unless the engine sends events about health.
// Podman may send none.
func (a *Agent) poll(ctx context.Context) {
	if a.refusals.changed {
		a.report(ctx)
	}
	for id, k := range a.containers {
		if !a.healthSeen && slices.ContainsFunc(k.Entries, func(e Entry) bool { return e["health"] == dockerHealth }) {
			a.dirty[id] = true
		}
	}
}

// lookDue reports whether there are containers to look at, and no look is in flight.
func (a *Agent) lookDue() bool { return a.looking == nil && (a.full || len(a.dirty) > 0) }

// look looks at all containers, or at the dirty ones.
func (a *Agent) look(ctx context.Context) {
	if !a.lookDue() {
		return
	}
	l := &look{a.full, a.dirty}
	a.looking, a.full, a.dirty = l, false, map[string]bool{}
	clear(a.spoiled)
	a.background.Go(func() {
		seen, err := a.read(ctx, l)
		a.give(ctx, func() { a.looked(ctx, l, seen, err) })
	})
}

func (a *Agent) read(ctx context.Context, l *look) ([]Seen, error) {
	if l.full {
		return a.Look(ctx)
	}
	return a.inspectAll(ctx, slices.Collect(maps.Keys(l.ids)))
}

// looked takes the result of a look.
func (a *Agent) looked(ctx context.Context, l *look, seen []Seen, err error) {
	if a.looking != l { // another event stream has begun with a look of its own
		return
	}
	if err != nil {
		a.repeat(ctx, l, err)
		return
	}
	a.looking, a.failures = nil, 0
	if l.full {
		a.endMissing(seen)
	}
	for _, s := range seen {
		if a.spoiled[s.ID] {
			a.dirty[s.ID] = true
		} else {
			a.note(ctx, s, l.full)
		}
	}
	if l.full {
		a.sweep(ctx)
	}
}

// repeat makes a failed look again, with a delay.
func (a *Agent) repeat(ctx context.Context, l *look, err error) {
	a.full = a.full || l.full
	maps.Copy(a.dirty, l.ids)
	a.Log.WarnContext(ctx, "containers not read; registrations stay", "err", err)
	delay := min(reconnectAfter<<min(a.failures, 4), lastRetry)
	a.failures++
	a.background.Go(func() {
		wait(ctx, delay)
		a.give(ctx, func() {
			if a.looking == l {
				a.looking = nil
			}
		})
	})
}

// endMissing ends the containers that a look at all containers has not found. Their events are lost.
func (a *Agent) endMissing(seen []Seen) {
	running := map[string]bool{}
	for _, s := range seen {
		running[s.ID] = true
	}
	for id := range a.containers {
		if !running[id] {
			a.end(id)
		}
	}
}

// note remembers a container and has it registered, or looks again later if it has no address.
func (a *Agent) note(ctx context.Context, s Seen, full bool) {
	k := a.containers[s.ID]
	if k == nil || s.anotherStart(k.Seen) {
		k = &known{accepted: map[string]bool{}}
		a.containers[s.ID] = k
	}
	former := k.Entries
	k.Seen = s
	switch {
	case s.Err == nil:
		k.looked = 0
		a.beat(k)
		if time.Now().After(k.stopping) && (full || !k.registered(former)) {
			a.out.put(s.ID, register, s.Entries, 0)
		}
	case errors.Is(s.Err, errNoAddress) && k.looked < len(lookAgain):
		k.Entries = former
		a.lookLater(ctx, s.ID, lookAgain[k.looked])
		k.looked++
	default:
		k.Entries = former
		a.refusals.add(ctx, s.ID, s.Name, s.Err.Error())
	}
}

func (s Seen) anotherStart(than Seen) bool {
	return len(s.Entries) > 0 && len(than.Entries) > 0 && s.Entries[0].boot() != than.Entries[0].boot()
}

// registered reports whether Rollcall has accepted the instances of a container, and they are still the same.
func (k *known) registered(former []Entry) bool {
	return reflect.DeepEqual(former, k.Entries) && !slices.ContainsFunc(k.Entries, func(e Entry) bool { return !k.accepted[e.ID()] })
}

// registerAgain registers a container whose instance Rollcall does not know.
func (a *Agent) registerAgain(id string) {
	if k := a.containers[id]; k != nil {
		clear(k.accepted)
		a.dirty[id] = true
	}
}

func (a *Agent) lookLater(ctx context.Context, id string, after time.Duration) {
	a.background.Go(func() {
		wait(ctx, after)
		a.give(ctx, func() {
			if a.containers[id] != nil {
				a.dirty[id] = true
			}
		})
	})
}

// settle takes Rollcall's answer to a registration.
func (a *Agent) settle(ctx context.Context, id string, entry Entry, v api.Verdict) {
	switch {
	case v.Problem == nil:
		a.accept(ctx, id, entry, v.Status == http.StatusCreated)
	case v.Status == http.StatusGone: // an operator drains it
	default:
		a.refusals.add(ctx, id, entry.name(), a.reasonOf(v))
	}
}

// accept takes Rollcall's consent to a registration.
func (a *Agent) accept(ctx context.Context, id string, entry Entry, created bool) {
	a.refusals.remove(id)
	a.services[fmt.Sprint(entry["service"])] = true
	if created {
		a.Log.InfoContext(ctx, "container registered", "instance", entry.ID(), "service", entry["service"], "address", entry["address"], "name", entry.name())
	}
	if k := a.containers[id]; k != nil && len(k.Entries) > 0 && k.Entries[0].boot() == entry.boot() {
		k.accepted[entry.ID()] = true
		a.beat(k)
	}
}
