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
	refusedPause = 30 * time.Second // a refusal is said once, and a person has to act
)

// registry is the calls of the agent.
type registry interface {
	register(context.Context, url.Values) answer
	heartbeat(ctx context.Context, id string, passed bool, note string) answer
	taskAddress(ctx context.Context, metadata string) string
}

// agent keeps a command registered.
type agent struct {
	settings

	asserting chan struct{} // holds an element while the agent registers the command, or while a drain in turn keeps it from that

	api   registry
	say   func(string, ...any)
	check func(context.Context) (passed bool, note string) // nil: Rollcall probes, or the command reports by itself

	known   bool          // Rollcall knows the command
	gone    bool          // this start of it is draining, and will not be registered again
	told    string        // what was said last
	sick    bool          // what the last check said
	refused string        // why the last report was
	backoff time.Duration // to the next attempt while Rollcall is away
}

func newAgent(s settings, api registry, say func(string, ...any)) *agent {
	return &agent{settings: s, api: api, say: say, backoff: firstBackoff, asserting: make(chan struct{}, 1)}
}

// run registers, again and again, and reports in between. It ends with the context.
func (a *agent) run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	beat := time.NewTicker(a.interval)
	defer beat.Stop()
	for !a.gone {
		fresh := false
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(a.assert(ctx))
			beat.Reset(a.interval)
			fresh = true
		case <-beat.C:
		}
		if a.check != nil && a.known && !a.report(ctx) && !fresh {
			next.Reset(0)
		}
	}
}

// assert registers, and returns the time to the next registration.
func (a *agent) assert(ctx context.Context) time.Duration {
	select {
	case a.asserting <- struct{}{}:
	case <-ctx.Done():
		return time.Hour
	}
	r := a.api.register(ctx, a.formNow(ctx))
	<-a.asserting
	if ctx.Err() != nil {
		return time.Hour
	}
	a.known = false
	switch {
	case r.ok() && r.ID != "":
		a.known, a.backoff = true, firstBackoff
		switch {
		case a.told == "registered" && r.New:
			a.say("Rollcall had lost %s: registered it again", a.id)
		case a.told != "registered":
			a.say("registered %s at %s", a.id, r.Address)
		}
		a.told = "registered"
		if r.New { // another container that claims the id or the address is found out early
			return spread(min(time.Second, a.reassert))
		}
		return spread(a.reassert)
	case r.status == http.StatusGone:
		a.gone = true
		a.say("%s is draining: not registered again by this start", a.id)
		return time.Hour
	case r.temporary() || r.ok():
		if a.told != "away" {
			a.say("no registration at %s, trying on: %s", a.shownURL, r.reason())
		}
		a.told = "away"
		pause := spread(a.backoff)
		a.backoff = min(2*a.backoff, a.longestBackoff())
		return pause
	}
	if r.idHeld() && a.freeID != "" {
		a.say("id %s is held by another container: registering as %s (%s)", a.id, a.freeID, r.reason())
		a.id, a.freeID = a.freeID, ""
		a.form.Set("id", a.id)
		return 0
	}
	pause := refusedPause
	if r.status == http.StatusConflict { // the holder may be gone soon
		pause = a.reassert
	}
	if reason := r.reason(); a.told != reason {
		a.say("registration refused, trying again every %d s: %s", int(pause.Seconds()+0.5), reason)
		a.told = reason
	}
	return pause
}

// longestBackoff is short where a lease runs: it must not end while we wait.
func (a *agent) longestBackoff() time.Duration {
	if a.check != nil {
		return min(a.reassert, a.interval)
	}
	return a.reassert
}

// formNow is the registration with the address as far as it is known.
func (a *agent) formNow(ctx context.Context) url.Values {
	if a.address == "" && a.metadata != "" {
		a.address = a.api.taskAddress(ctx, a.metadata)
	}
	if a.address != "" {
		a.form.Set("address", a.address)
	}
	if a.port != "" && !ported(a.address) {
		a.form.Set("port", a.port)
	}
	return a.form
}

// report checks, and says what came of it. It is false if Rollcall does not know the
// command any more.
func (a *agent) report(ctx context.Context) bool {
	passed, note := a.check(ctx)
	if ctx.Err() != nil {
		return true
	}
	if a.sick == passed {
		verdict := map[bool]string{true: "pass", false: "fail"}[passed]
		if note != "" {
			verdict += ": " + note
		}
		a.say("health command: %s", verdict)
	}
	a.sick = !passed
	r := a.api.heartbeat(ctx, a.id, passed, note)
	if refused := r.status/100 == 4 && r.status != http.StatusNotFound && r.status != http.StatusGone; refused && a.refused != r.reason() {
		a.refused = r.reason()
		a.say("heartbeat refused: %s", a.refused)
	}
	return r.status != http.StatusNotFound
}

// spread shortens a time by up to a quarter, so that those who were started together
// do not call together for ever.
func spread(d time.Duration) time.Duration {
	return d - rand.N(d/4+1) //nolint:gosec // nobody gains by guessing it
}
