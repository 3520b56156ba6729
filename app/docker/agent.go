package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/client"
	"golang.org/x/sync/errgroup"

	api "rollcall/app/client"
)

const (
	reconcileEvery = time.Minute
	idleFor        = 5 * time.Minute // an event stream without an event is opened again
	reconnectAfter = time.Second
	coalesce       = 20 * time.Millisecond
	engineWithin   = 30 * time.Second // an answer of the engine
	answerWithin   = 10 * time.Second // an answer of Rollcall
	reportEvery    = 2 * time.Second  // heartbeats of health=docker
	inspections    = 8                // at a time
	batch          = 100              // registrations in one call
)

// lookAgain are the delays before another look at a container without an address.
var lookAgain = []time.Duration{200 * time.Millisecond, time.Second, 5 * time.Second}

// Agent registers the containers of one engine. Its methods are not safe for concurrent use.
type Agent struct {
	Placement
	Engine *client.Client
	API    *api.Client
	Log    *slog.Logger

	containers map[string]*known
	background sync.WaitGroup
	again      chan string // ids of containers to look at again
}

// known is one running container.
type known struct {
	entries  []Entry
	health   container.HealthStatus
	looked   int       // looks without an address
	refused  string    // last reason in the log
	stopping time.Time // until then the container is being stopped: it is not registered again
}

// Seen is one container with its registrations, or the reason for none.
type Seen struct {
	ID, Name string
	Entries  []Entry
	Err      error

	inspected container.InspectResponse
}

// Look returns the running labelled containers of the engine.
func (a *Agent) Look(ctx context.Context) ([]Seen, error) {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	list, err := a.Engine.ContainerList(ctx, client.ContainerListOptions{Filters: make(client.Filters).Add("status", "running")})
	if err != nil {
		return nil, explain("list the containers", err)
	}
	var ids []string
	for _, c := range list.Items {
		if a.labelled(c.Labels) {
			ids = append(ids, c.ID)
		}
	}
	return a.inspectAll(ctx, ids)
}

// inspectAll leaves out containers that do not run, or are paused.
func (a *Agent) inspectAll(ctx context.Context, ids []string) ([]Seen, error) {
	all := make([]Seen, len(ids))
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(inspections)
	for n, id := range ids {
		group.Go(func() (err error) {
			all[n], err = a.inspect(ctx, id)
			return err
		})
	}
	err := group.Wait()
	return slices.DeleteFunc(all, func(s Seen) bool { return s.ID == "" }), err
}

// inspect returns the zero Seen for a container that is gone, does not run or is paused.
func (a *Agent) inspect(ctx context.Context, id string) (Seen, error) {
	result, err := a.Engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if errdefs.IsNotFound(err) {
		return Seen{}, nil
	}
	if err != nil {
		return Seen{}, explain("inspect container "+id, err)
	}
	c := result.Container
	if !c.State.Running || c.State.Paused || c.State.Restarting || !a.labelled(c.Config.Labels) {
		return Seen{}, nil
	}
	seen := Seen{ID: c.ID, Name: strings.TrimPrefix(c.Name, "/"), inspected: c}
	owner := c
	if other := c.HostConfig.NetworkMode.ConnectedContainer(); other != "" {
		found, err := a.Engine.ContainerInspect(ctx, other, client.ContainerInspectOptions{})
		if err != nil {
			seen.Err = explain("inspect container "+other+", the owner of the network", err)
			return seen, nil
		}
		owner = found.Container
	}
	seen.Entries, seen.Err = a.Entries(c, owner)
	return seen, nil
}

// explain adds the remedy to an error of the engine.
func explain(call string, err error) error {
	switch {
	case errdefs.IsPermissionDenied(err):
		err = errors.Join(err, errors.New("the socket proxy or the engine refuses this call; allow ping, version, events and containers"))
	case client.IsErrConnectionFailed(err):
		err = errors.Join(err, errors.New("set DOCKER_HOST, or mount the folder of the engine's socket"))
	}
	return &engineError{call, err}
}

type engineError struct {
	call string
	err  error
}

func (e *engineError) Error() string {
	return e.call + ": " + strings.ReplaceAll(e.err.Error(), "\n", "; ")
}
func (e *engineError) Unwrap() error { return e.err }

// Run registers containers until the context ends. Registrations outlive it: another start of the agent continues. While
// the engine does not answer, Run changes nothing.
func (a *Agent) Run(ctx context.Context) error {
	a.containers, a.again = map[string]*known{}, make(chan string, 100)
	defer a.background.Wait()
	for ctx.Err() == nil {
		if err := a.follow(ctx); err != nil && ctx.Err() == nil {
			a.Log.WarnContext(ctx, "no events from the engine; registrations stay", "err", err)
			wait(ctx, reconnectAfter)
		}
	}
	return nil
}

func wait(ctx context.Context, d time.Duration) {
	select {
	case <-ctx.Done():
	case <-time.After(d):
	}
}

var watched = make(client.Filters).Add("type", "container", "network").Add("event",
	"start", "kill", "die", "pause", "unpause", "rename", "health_status", "connect", "disconnect")

// follow subscribes to events, reconciles, and follows one event stream to its end.
func (a *Agent) follow(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream := a.Engine.Events(ctx, client.EventsListOptions{Filters: watched})
	if err := a.reconcile(ctx); err != nil {
		return err
	}
	reconcile, report := time.NewTicker(reconcileEvery), time.NewTicker(reportEvery)
	defer reconcile.Stop()
	defer report.Stop()
	idle, soon := time.NewTimer(idleFor), time.NewTimer(time.Hour)
	dirty := map[string]bool{}
	for {
		select {
		case event := <-stream.Messages:
			idle.Reset(idleFor)
			if id := a.apply(ctx, event); id != "" {
				dirty[id] = true
				soon.Reset(coalesce)
			}
		case id := <-a.again:
			dirty[id] = true
			soon.Reset(coalesce)
		case <-soon.C:
			a.refresh(ctx, slices.Collect(maps.Keys(dirty)))
			clear(dirty)
		case <-report.C:
			a.report(ctx)
		case <-reconcile.C:
			if err := a.reconcile(ctx); err != nil {
				a.Log.WarnContext(ctx, "containers not compared; registrations stay", "err", err)
			}
		case <-idle.C:
			return nil
		case err := <-stream.Err:
			return explain("read the events", err)
		}
	}
}

// apply ends the instances of a container that stops, dies or is paused. It returns the id of a container to look at.
func (a *Agent) apply(ctx context.Context, e events.Message) string {
	id := e.Actor.ID
	if e.Type == events.NetworkEventType {
		id = e.Actor.Attributes["container"]
		if a.containers[id] == nil {
			return ""
		}
		return id
	}
	if !a.labelled(e.Actor.Attributes) {
		return ""
	}
	if e.Action == events.ActionKill {
		a.kill(ctx, id, e.Actor.Attributes["signal"])
		return ""
	}
	if e.Action == events.ActionDie || e.Action == events.ActionPause {
		a.remove(ctx, id)
		return ""
	}
	return id
}

// kill drains the instances of a container that got its stop signal.
func (a *Agent) kill(ctx context.Context, id, signal string) {
	k := a.containers[id]
	if k == nil {
		return
	}
	result, err := a.Engine.ContainerInspect(ctx, id, client.ContainerInspectOptions{})
	if err != nil || !isStopSignal(signal, result.Container.Config.StopSignal) {
		return
	}
	grace := 10 * time.Second
	if t := result.Container.Config.StopTimeout; t != nil && *t >= 0 {
		grace = time.Duration(*t) * time.Second
	}
	k.stopping = time.Now().Add(grace + reconcileEvery)
	hold := grace.String()
	for _, entry := range k.entries {
		boot := entry.boot()
		a.background.Go(func() {
			resp, err := api.Accepted(a.API.Drain(ctx, entry.ID(), &api.DrainParams{Hold: &hold, Boot: &boot}))
			if err == nil {
				_ = resp.Body.Close()
			} else if ctx.Err() == nil && !api.IsStatus(err, http.StatusNotFound) {
				a.Log.WarnContext(ctx, "instance not drained", "instance", entry.ID(), "err", err)
			}
		})
	}
}

// remove deregisters the instances of a container.
func (a *Agent) remove(ctx context.Context, id string) {
	k := a.containers[id]
	if k == nil {
		return
	}
	for _, entry := range k.entries {
		a.deregister(ctx, entry.ID(), entry.boot())
	}
	delete(a.containers, id)
}

func (a *Agent) deregister(ctx context.Context, id, boot string) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := api.Accepted(a.API.Deregister(ctx, id, &api.DeregisterParams{Boot: &boot}))
	if err == nil {
		_ = resp.Body.Close()
		a.Log.InfoContext(ctx, "instance removed", "instance", id)
	} else if !api.IsStatus(err, http.StatusNotFound) && !api.IsStatus(err, http.StatusConflict) {
		a.Log.WarnContext(ctx, "instance not removed; next try within a minute", "instance", id, "err", err)
	}
}

// refresh looks at containers again, after events.
func (a *Agent) refresh(ctx context.Context, ids []string) {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	seen, err := a.inspectAll(ctx, ids)
	if err != nil {
		a.Log.WarnContext(ctx, "containers not inspected; registrations stay", "err", err)
		return
	}
	a.register(ctx, seen)
}

// reconcile registers the containers that run, and removes the agent's instances without a container.
func (a *Agent) reconcile(ctx context.Context) error {
	seen, err := a.Look(ctx)
	if err != nil {
		return err
	}
	running := map[string]bool{}
	for _, s := range seen {
		running[s.ID] = true
	}
	maps.DeleteFunc(a.containers, func(id string, _ *known) bool { return !running[id] })
	a.register(ctx, seen)
	if err := a.sweep(ctx, running); ctx.Err() != nil {
		return ctx.Err()
	} else if err != nil {
		a.Log.WarnContext(ctx, "former instances not removed; next try within a minute", "err", err)
		return nil
	}
	a.Log.DebugContext(ctx, "containers compared", "containers", len(seen))
	return nil
}

// sweep removes the instances of this node whose container does not run.
func (a *Agent) sweep(ctx context.Context, running map[string]bool) error {
	ctx, cancel := context.WithTimeout(ctx, engineWithin)
	defer cancel()
	services, err := api.Read[api.ServiceList](a.API.Services(ctx))
	if err != nil {
		return err
	}
	for _, service := range services.Services {
		instances, err := a.API.InState(ctx, service.Name, "any")
		if err != nil && !api.IsStatus(err, http.StatusNotFound) {
			return err
		}
		for _, i := range instances {
			if i.Meta == nil || i.Boot == nil || (*i.Meta)[metaNode] != a.Node || running[(*i.Meta)[metaContainer]] {
				continue
			}
			a.deregister(ctx, i.Id, *i.Boot)
		}
	}
	return nil
}

// register registers the containers that have an address and no error.
func (a *Agent) register(ctx context.Context, seen []Seen) {
	var owners []*known
	var ids []string
	var entries []Entry
	for _, s := range seen {
		k := a.note(ctx, s)
		if s.Err != nil || time.Now().Before(k.stopping) {
			continue
		}
		for _, entry := range s.Entries {
			owners, ids, entries = append(owners, k), append(ids, s.ID), append(entries, entry)
		}
	}
	for len(entries) > 0 {
		n := min(batch, len(entries))
		a.send(ctx, owners[:n], ids[:n], entries[:n])
		owners, ids, entries = owners[n:], ids[n:], entries[n:]
	}
	a.report(ctx)
}

// note remembers a container, and looks again later if it has no address.
func (a *Agent) note(ctx context.Context, s Seen) *known {
	k := a.containers[s.ID]
	if k == nil {
		k = &known{}
		a.containers[s.ID] = k
	}
	if len(k.entries) > 0 && len(s.Entries) > 0 && k.entries[0].boot() != s.Entries[0].boot() {
		k.stopping, k.looked = time.Time{}, 0 // another start
	}
	if h := s.inspected.State.Health; h != nil {
		k.health = h.Status
	}
	switch {
	case s.Err == nil:
		k.entries, k.looked = s.Entries, 0
	case errors.Is(s.Err, errNoAddress) && k.looked < len(lookAgain):
		a.lookLater(ctx, s.ID, lookAgain[k.looked])
		k.looked++
	default:
		a.refuse(ctx, k, s.ID, s.Name, s.Err.Error())
	}
	return k
}

func (a *Agent) lookLater(ctx context.Context, id string, after time.Duration) {
	a.background.Go(func() {
		wait(ctx, after)
		select {
		case a.again <- id:
		case <-ctx.Done():
		}
	})
}

// refuse logs the reason of a refusal once.
func (a *Agent) refuse(ctx context.Context, k *known, id, name, reason string) {
	if k.refused != reason {
		a.Log.ErrorContext(ctx, "container not registered", "container", id[:min(shortID, len(id))], "name", name, "reason", reason)
	}
	k.refused = reason
}

// send makes one call. A container whose registration is refused does not affect the others.
func (a *Agent) send(parent context.Context, owners []*known, ids []string, entries []Entry) {
	ctx, cancel := context.WithTimeout(parent, engineWithin)
	defer cancel()
	body, err := json.Marshal(entries)
	if err != nil {
		a.Log.ErrorContext(ctx, "registrations not encoded", "err", err)
		return
	}
	verdicts, err := api.Read[api.Verdicts](a.API.RegisterWithBody(ctx, &api.RegisterParams{}, "application/json", bytes.NewReader(body)))
	if err == nil && len(verdicts) != len(entries) {
		err = errors.New("the answer has another number of verdicts")
	}
	if err != nil {
		a.Log.WarnContext(ctx, "containers not registered; next try in 1 s", "containers", len(entries), "err", err)
		for _, id := range slices.Compact(slices.Clone(ids)) {
			a.lookLater(parent, id, time.Second)
		}
		return
	}
	for n, v := range verdicts {
		a.verdict(parent, v, owners[n], ids[n], entries[n])
	}
}

func (a *Agent) verdict(ctx context.Context, v api.Verdict, k *known, id string, entry Entry) {
	meta, _ := entry["meta"].(map[string]string)
	switch {
	case v.Problem == nil:
		k.refused = ""
		if v.Status == http.StatusCreated {
			a.Log.InfoContext(ctx, "container registered", "instance", entry.ID(), "service", entry["service"], "address", entry["address"], "name", meta[metaName])
		}
	case v.Status >= http.StatusInternalServerError || v.Status == http.StatusTooManyRequests:
		a.lookLater(ctx, id, time.Second)
	case v.Status == http.StatusGone: // an operator drains it
	default:
		a.refuse(ctx, k, id, meta[metaName], (&api.Error{Status: v.Status, Problem: *v.Problem}).Error())
	}
}

// report sends the results of Docker's own health checks.
func (a *Agent) report(ctx context.Context) {
	for _, k := range a.containers {
		if time.Now().Before(k.stopping) || k.health != container.Healthy && k.health != container.Unhealthy {
			continue
		}
		status := api.Pass
		if k.health == container.Unhealthy {
			status = api.Fail
		}
		for _, entry := range k.entries {
			if entry["health"] == dockerHealth {
				a.heartbeat(ctx, entry.ID(), status)
			}
		}
	}
}

func (a *Agent) heartbeat(ctx context.Context, id string, status api.ReportStatus) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := api.Accepted(a.API.Heartbeat(ctx, id, api.Report{Status: &status}))
	if err == nil {
		_ = resp.Body.Close()
		return
	}
	a.Log.WarnContext(ctx, "health not reported", "instance", id, "err", err)
}
