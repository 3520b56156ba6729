package jobs

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"time"

	"rollcall/app"
)

const (
	lookahead  = 1100 * time.Millisecond // a tick, and a little for its lateness
	slot       = 100 * time.Millisecond  // probes due within one start together: a third cheaper than one by one
	claimed    = 100                     // checks claimed at once: more would block Redis for others
	inFlight   = 8192                    // checks claimed and not yet settled
	underWay   = 512                     // probes at once; with more than the machine can do, each would take longer than it may
	resting    = 128                     // goroutines that wait for another probe: the stack of a new one has to grow first
	slowAfter  = 250 * time.Millisecond  // a probe that takes longer does not count: slow targets hold up nobody
	gather     = 20 * time.Millisecond   // how long results wait for others to be settled with
	judging    = 32                      // writes of changed instances at once
	renewAfter = time.Second             // a claim that is older is renewed with the next tick
	stepAside  = slot + slot/2           // how long a worker of an older version lets newer ones claim first
	olderFor   = time.Minute             // how long a worker knows that it is one, after the last instance that told it so
	standby    = 500 * time.Millisecond  // how long after the others a suspended worker claims, and what has been due for longer
)

// Probe is a worker that claims what falls due before the next tick, probes each in
// its slot, and settles the results. Any number of workers may share a queue.
//
// Every probe has a deadline and a goroutine of its own, so a slow target holds up
// nobody. A worker that is told to stop puts back what it has not finished.
type Probe struct {
	queue    app.Queue
	prober   app.Prober
	registry *app.Registry
	now      func() time.Time
	log      *slog.Logger

	worker  func(ctx context.Context, kind app.EventKind, reason string)
	lookups Lookups // of settle
	self    *witnesses
	wake    chan struct{}
	next    chan *flight  // to those that rest
	rests   chan struct{} // places for them
	places  chan struct{} // of probes under way
	results chan outcome

	mu    sync.Mutex
	held  map[*flight]struct{}
	newer time.Time // when a claim last had an instance that only a newer version understands
	swept time.Time // when a claim last found nothing more to take
	tick  time.Time // the last one
}

// flight is a claim on its way: waiting for its slot, being probed or being settled.
// Its claim changes when it is renewed, under the worker's lock.
type flight struct {
	claim app.Claim
	since time.Time
}

type outcome struct {
	flight *flight
	result app.Result
}

// NewProbe returns a worker; it does nothing before Work or Once. It calls worker with an
// event about itself: it holds back removals, or its name server fails, and the end of that.
func NewProbe(
	queue app.Queue, prober app.Prober, registry *app.Registry, now func() time.Time, log *slog.Logger,
	worker func(ctx context.Context, kind app.EventKind, reason string),
) *Probe {
	return &Probe{
		queue: queue, prober: prober, registry: registry, now: now, log: log, worker: worker,
		self: &witnesses{prober: prober, get: registry.Get, any: queue.Any, now: now, changed: worker},
		wake: make(chan struct{}, 1), next: make(chan *flight), rests: make(chan struct{}, resting), places: make(chan struct{}, underWay),
		results: make(chan outcome, claimed), held: map[*flight]struct{}{},
	}
}

// Poke has the worker look for due checks at once.
func (p *Probe) Poke() {
	select {
	case p.wake <- struct{}{}:
	default: // it will look anyway
	}
}

// Job returns the tick: it pokes the worker and keeps its claims.
func (p *Probe) Job() Job {
	return Job{Name: "probe", Every: time.Second, Timeout: 5 * time.Second, Run: func(ctx context.Context) error {
		p.mu.Lock()
		p.tick = p.now()
		p.mu.Unlock()
		p.Poke()
		return p.renew(ctx)
	}}
}

// Swept is when the worker last had everything in hand that was due.
func (p *Probe) Swept() time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.swept
}

// Work claims and probes whenever it is poked, until the context is over; then it
// puts back what it holds and returns.
func (p *Probe) Work(ctx context.Context) {
	var starts, probes, settler sync.WaitGroup
	settler.Go(func() { p.settle(context.WithoutCancel(ctx)) })
	failing := false
	for ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-p.wake:
			ahead := lookahead
			if p.self.suspended() {
				p.self.recheck(ctx)
				ahead = p.standBy(ctx)
			}
			p.letNewerFirst(ctx)
			err := p.claim(ctx, ahead, &starts, &probes)
			if err != nil && !failing && ctx.Err() == nil {
				p.log.ErrorContext(ctx, "no checks can be claimed", "err", err)
			}
			failing = err != nil
		}
	}
	p.end(ctx, &starts, &probes, &settler)
}

// standBy leaves what falls due to the workers that are not suspended: they claim ahead of
// time and at once, this one later and what is overdue. Without others it probes everything.
func (p *Probe) standBy(ctx context.Context) (ahead time.Duration) {
	select {
	case <-time.After(standby):
	case <-ctx.Done():
	}
	return -standby - slot
}

// Once probes what is due now and returns when all of it is settled.
func (p *Probe) Once(ctx context.Context) error {
	p = NewProbe(p.queue, p.prober, p.registry, p.now, p.log, p.worker)
	var starts, probes, settler sync.WaitGroup
	settler.Go(func() { p.settle(context.WithoutCancel(ctx)) })
	err := p.claim(ctx, 0, &starts, &probes)
	p.end(ctx, &starts, &probes, &settler)
	return err
}

// end returns when all that was claimed is settled or put back.
func (p *Probe) end(ctx context.Context, starts, probes, settler *sync.WaitGroup) {
	starts.Wait()
	close(p.next)
	probes.Wait()
	close(p.results)
	settler.Wait()
	p.self.asking.Wait()
	p.release(context.WithoutCancel(ctx))
}

// letNewerFirst waits a moment if there are instances that only newer versions understand:
// all workers wake up with the same tick, and the first one claims them.
func (p *Probe) letNewerFirst(ctx context.Context) {
	p.mu.Lock()
	older := p.now().Sub(p.newer) < olderFor
	p.mu.Unlock()
	if older {
		select {
		case <-time.After(stepAside):
		case <-ctx.Done():
		}
	}
}

// noteNewer takes note of how many claimed instances only a newer version understands.
func (p *Probe) noteNewer(ctx context.Context, n int) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	now := p.now()
	first := now.Sub(p.newer) >= olderFor
	p.newer = now
	p.mu.Unlock()
	if first {
		p.log.WarnContext(ctx, "a newer version of Rollcall has written instances with fields that this version does not know; "+
			"it leaves their checks to the newer version's cron", "instances", n)
	}
}

// understood splits claims by whether this version understands the instance.
func understood(claims []app.Claim) (mine []app.Claim, others []app.Outcome) {
	for _, c := range claims {
		if c.Instance.Understood() {
			mine = append(mine, c)
		} else {
			others = append(others, app.Outcome{Claim: c})
		}
	}
	return mine, others
}

// claim takes all that falls due within ahead and starts it.
func (p *Probe) claim(ctx context.Context, ahead time.Duration, starts, probes *sync.WaitGroup) error {
	var newer []app.Outcome // put back at the end: they would be claimed again
	defer func() {
		p.noteNewer(ctx, len(newer))
		for chunk := range slices.Chunk(newer, claimed) {
			p.putBack(context.WithoutCancel(ctx), chunk...)
		}
	}()
	for {
		now := p.now()
		claims, err := p.queue.Claim(ctx, now.Add(ahead), claimed)
		if err != nil {
			return err
		}
		mine, others := understood(claims)
		newer = append(newer, others...)
		for _, c := range mine {
			p.self.meet(c.Instance)
		}
		if len(mine) > 0 {
			flights := p.hold(mine, now)
			starts.Go(func() { p.start(ctx, flights, probes) })
		}
		p.mu.Lock()
		full := len(p.held) >= inFlight
		if len(claims) < claimed && ahead >= 0 { // a suspended worker leaves marking to the proxies
			p.swept = now
		}
		p.mu.Unlock()
		if len(claims) < claimed || full {
			return nil
		}
	}
}

func (p *Probe) hold(claims []app.Claim, now time.Time) []*flight {
	p.mu.Lock()
	defer p.mu.Unlock()
	flights := make([]*flight, len(claims))
	for n, c := range claims {
		flights[n] = &flight{claim: c, since: now}
		p.held[flights[n]] = struct{}{}
	}
	return flights
}

// start begins the probes of a batch, ordered by due time, slot by slot.
func (p *Probe) start(ctx context.Context, flights []*flight, probes *sync.WaitGroup) {
	var until time.Time
	for _, f := range flights {
		if due := f.claim.Due; due.After(until) {
			until = due.Truncate(slot).Add(slot)
			if due.Before(p.now()) {
				until = p.now() // late: all that is late starts now
			}
			select {
			case <-time.After(until.Sub(p.now()) - slot/2):
			case <-ctx.Done():
				return // what has not begun is put back
			}
		}
		select {
		case p.places <- struct{}{}:
		case <-ctx.Done():
			return
		}
		select {
		case p.next <- f:
		default:
			probes.Go(func() {
				for more := true; more; f, more = p.rest() {
					p.probe(ctx, f)
				}
			})
		}
	}
}

// rest waits for another probe, unless enough others do.
func (p *Probe) rest() (f *flight, more bool) {
	select {
	case p.rests <- struct{}{}:
	default:
		return nil, false
	}
	f, more = <-p.next
	<-p.rests
	return f, more
}

// probe checks one instance. Its place is free for another when it is slow.
func (p *Probe) probe(ctx context.Context, f *flight) {
	leave := sync.OnceFunc(func() { <-p.places })
	slow := time.AfterFunc(slowAfter, leave)
	result := p.prober.Probe(ctx, f.claim.Instance)
	slow.Stop()
	leave()
	if ctx.Err() == nil {
		p.results <- outcome{f, result}
	}
}

// settle writes results as they come, a few milliseconds' worth at once, until there
// are no more.
func (p *Probe) settle(ctx context.Context) {
	var judges sync.WaitGroup
	room := make(chan struct{}, judging)
	for first := range p.results {
		outcomes := p.collect(first)
		p.lookedUp(ctx, outcomes)
		outcomes, back := p.self.weigh(outcomes)
		p.putBack(ctx, back...)
		change, same := p.registry.Decide(outcomes)
		for n, f := range p.keep(change) {
			o := change[n]
			judges.Go(func() {
				removes := o.Removes()
				if removes && !p.self.allow(ctx, o) {
					o.Claim = p.take(f)
					p.putBack(ctx, o)
					return
				}
				room <- struct{}{}
				defer func() { <-room }()
				o.Claim = p.take(f)
				i, err := p.registry.Judge(ctx, o)
				if removes && err == nil {
					p.self.forget(i.ID)
				}
				p.report(ctx, err)
				p.pokeIfNear(i.Due)
			})
		}
		p.report(ctx, p.queue.Settle(ctx, same))
		for _, s := range same {
			p.pokeIfNear(s.Due)
		}
	}
	judges.Wait()
}

// lookedUp follows whether the name server answers.
func (p *Probe) lookedUp(ctx context.Context, outcomes []app.Outcome) {
	for _, o := range outcomes {
		if reason, changed := p.lookups.Record(o.Claim.Instance, o.Result, p.now()); changed {
			p.worker(ctx, map[bool]app.EventKind{true: app.EventNamesFail, false: app.EventNamesBack}[p.lookups.Failing()], reason)
		}
	}
}

// putBack ends claims whose results do not count. The checks are due again at once.
func (p *Probe) putBack(ctx context.Context, outcomes ...app.Outcome) {
	back := make([]app.Settlement, len(outcomes))
	for n, o := range outcomes {
		back[n] = app.Settlement{Claim: o.Claim, Due: p.now()}
	}
	p.report(ctx, p.queue.Settle(ctx, back))
}

// collect gathers results for a moment, and lets go of their claims.
func (p *Probe) collect(first outcome) []app.Outcome {
	outcomes := []outcome{first}
	enough := time.After(gather)
	for len(outcomes) < claimed {
		select {
		case o, open := <-p.results:
			if !open {
				return p.letGo(outcomes)
			}
			outcomes = append(outcomes, o)
		case <-enough:
			return p.letGo(outcomes)
		}
	}
	return p.letGo(outcomes)
}

func (p *Probe) letGo(outcomes []outcome) []app.Outcome {
	p.mu.Lock()
	defer p.mu.Unlock()
	out := make([]app.Outcome, len(outcomes))
	for n, o := range outcomes {
		delete(p.held, o.flight)
		out[n] = app.Outcome{Claim: o.flight.claim, Result: o.result}
	}
	return out
}

// keep holds the claims of instances that change until they are written: there may be
// thousands before them. The next tick renews them.
func (p *Probe) keep(change []app.Outcome) []*flight {
	claims := make([]app.Claim, len(change))
	for n, o := range change {
		claims[n] = o.Claim
	}
	return p.hold(claims, time.Time{})
}

// take lets go of a claim and returns it as it is now.
func (p *Probe) take(f *flight) app.Claim {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.held, f)
	return f.claim
}

// report logs what went wrong with a write. A lost claim is not wrong: another
// worker has the check, or its instance is gone.
func (p *Probe) report(ctx context.Context, err error) {
	if err != nil && !errors.Is(err, app.ErrClaimLost) {
		p.log.WarnContext(ctx, "a result could not be written; the check is done again", "err", err)
	}
}

// pokeIfNear looks at once when a check is due before the next tick may see it.
func (p *Probe) pokeIfNear(due time.Time) {
	if p.self.suspended() {
		return
	}
	p.mu.Lock()
	near := due.Before(p.tick.Add(lookahead))
	p.mu.Unlock()
	if near && !due.IsZero() {
		p.Poke()
	}
}

// renew keeps the claims of probes that take longer than a claim lasts.
func (p *Probe) renew(ctx context.Context) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	var old []*flight
	var claims []app.Claim
	for f := range p.held {
		if p.now().Sub(f.since) >= renewAfter {
			old, claims = append(old, f), append(claims, f.claim)
		}
	}
	kept, err := p.queue.Renew(ctx, claims)
	if err != nil {
		return err
	}
	// An instance may be held twice: a claim that was taken away by an announcement, and the
	// one made since. The lost one must not get the other's token.
	type check struct {
		id  string
		due int64
	}
	of := func(c app.Claim) check { return check{c.Instance.ID, c.Due.UnixMilli()} }
	tokens := make(map[check]string, len(kept))
	for _, c := range kept {
		tokens[of(c)] = c.Token
	}
	for _, f := range old {
		if token, ok := tokens[of(f.claim)]; ok {
			f.claim.Token, f.since = token, p.now()
		}
	}
	return nil
}

// release puts back what is still held, due when it was due.
func (p *Probe) release(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var back []app.Settlement
	for f := range p.held {
		back = append(back, app.Settlement{Claim: f.claim, Due: f.claim.Due})
	}
	p.report(ctx, p.queue.Settle(ctx, back))
	clear(p.held)
}
