//go:build unix

package entrypoint

import (
	"context"
	"math/rand/v2"
	"net/http"
	"net/url"
	"time"
)

const (
	firstBackoff = 500 * time.Millisecond
	refusedPause = 30 * time.Second // a refused registration needs an operator
	never        = time.Hour        // until the next registration of an agent that has ended
)

// registry makes the calls of the agent.
type registry interface {
	register(context.Context, url.Values) answer
	heartbeat(ctx context.Context, id string, passed bool, note string) answer
	taskAddress(ctx context.Context, metadata string) string
}

// agent keeps a command registered.
type agent struct {
	settings

	registering chan struct{} // full while the agent registers the command, or must not because of a drain in turn

	api   registry
	log   logFunc
	check func(context.Context) (passed bool, note string) // nil: Rollcall probes, or the command reports by itself

	registered    bool   // by the last call
	draining      bool   // this start is draining, and is not registered again
	lastLogged    string // "registered", "unavailable" or the reason of a refusal
	failing       bool   // the last check failed
	lastRejection string // reason of the last refused heartbeat

	backoff time.Duration // to the next registration while Rollcall is unavailable
}

func newAgent(s settings, api registry, log logFunc) *agent {
	return &agent{settings: s, api: api, log: log, backoff: firstBackoff, registering: make(chan struct{}, 1)}
}

// run registers the command again and again, and reports its health in between, until ctx ends.
func (a *agent) run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	beat := time.NewTicker(a.interval)
	defer beat.Stop()
	for !a.draining {
		fresh := false
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(a.register(ctx))
			beat.Reset(a.interval)
			fresh = true
		case <-beat.C:
		}
		if a.check != nil && a.registered && !a.report(ctx) && !fresh {
			next.Reset(0)
		}
	}
}

// outcome is the result of a registration.
type outcome int

const (
	accepted    outcome = iota
	drained             // this start is draining
	unavailable         // the same registration may succeed later
	idTaken             // by another container, and the agent may choose another id
	refused
)

func (a *agent) outcomeOf(r answer) outcome {
	switch {
	case r.ok() && r.ID != "":
		return accepted
	case r.status == http.StatusGone:
		return drained
	case r.temporary() || r.ok(): // without a receipt, another program answers
		return unavailable
	case r.idHeld() && a.freeID != "":
		return idTaken
	default:
		return refused
	}
}

// register registers the command, and returns the time to the next registration.
func (a *agent) register(ctx context.Context) (next time.Duration) {
	select {
	case a.registering <- struct{}{}:
	case <-ctx.Done():
		return never
	}
	r := a.api.register(ctx, a.currentForm(ctx))
	<-a.registering
	if ctx.Err() != nil {
		return never
	}
	result := a.outcomeOf(r)
	a.registered = result == accepted
	switch result {
	case accepted:
		return a.accepted(r)
	case drained:
		a.draining = true
		a.log("%s is draining: not registered again by this start", a.id)
		return never
	case unavailable:
		return a.backOff(r)
	case idTaken:
		a.log("id %s is held by another container: registering as %s (%s)", a.id, a.freeID, r.reason())
		a.id, a.freeID = a.freeID, ""
		a.form.Set("id", a.id)
		return 0
	default:
		return a.refused(r)
	}
}

// accepted logs the first registration, and each one that Rollcall had lost.
func (a *agent) accepted(r answer) (next time.Duration) {
	a.backoff = firstBackoff
	switch {
	case a.lastLogged == "registered" && r.New:
		a.log("Rollcall had lost %s: registered it again", a.id)
	case a.lastLogged != "registered":
		a.log("registered %s at %s", a.id, r.Address)
	}
	a.lastLogged = "registered"
	if r.New { // detect early another container with the same id or address
		return jitter(min(time.Second, a.reassert))
	}
	return jitter(a.reassert)
}

// backOff doubles the time to the next registration.
func (a *agent) backOff(r answer) (next time.Duration) {
	if a.lastLogged != "unavailable" {
		a.log("no registration at %s, retrying: %s", a.shownURL, r.reason())
	}
	a.lastLogged = "unavailable"
	next = jitter(a.backoff)
	a.backoff = min(2*a.backoff, a.longestBackoff())
	return next
}

// longestBackoff is shorter than the lease of a heartbeat, which must not expire during a pause.
func (a *agent) longestBackoff() time.Duration {
	if a.check != nil {
		return min(a.reassert, a.interval)
	}
	return a.reassert
}

// refused logs each reason once.
func (a *agent) refused(r answer) (next time.Duration) {
	next = refusedPause
	if r.status == http.StatusConflict { // the holder may end soon
		next = a.reassert
	}
	if reason := r.reason(); a.lastLogged != reason {
		a.log("registration refused, trying again every %d s: %s", int(next.Seconds()+0.5), reason)
		a.lastLogged = reason
	}
	return next
}

// currentForm returns the registration with the address, if the agent knows it.
func (a *agent) currentForm(ctx context.Context) url.Values {
	if a.address == "" && a.metadata != "" {
		a.address = a.api.taskAddress(ctx, a.metadata)
	}
	if a.address != "" {
		a.form.Set("address", a.address)
	}
	if a.port != "" && !hasPort(a.address) {
		a.form.Set("port", a.port)
	}
	return a.form
}

// report runs the health command and reports its result. It returns false if Rollcall does not have the instance.
func (a *agent) report(ctx context.Context) (known bool) {
	passed, note := a.check(ctx)
	if ctx.Err() != nil {
		return true
	}
	if a.failing == passed {
		result := map[bool]string{true: "pass", false: "fail"}[passed]
		if note != "" {
			result += ": " + note
		}
		a.log("health command: %s", result)
	}
	a.failing = !passed
	r := a.api.heartbeat(ctx, a.id, passed, note)
	if r.rejected() && a.lastRejection != r.reason() {
		a.lastRejection = r.reason()
		a.log("heartbeat refused: %s", a.lastRejection)
	}
	return r.status != http.StatusNotFound
}

// jitter shortens a time by up to a quarter, so that instances that started together do not call together.
func jitter(d time.Duration) time.Duration {
	return d - rand.N(d/4+1) //nolint:gosec // not a secret
}
