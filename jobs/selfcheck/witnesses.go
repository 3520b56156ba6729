package selfcheck

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/registry"
)

const (
	askTimeout  = 2 * time.Second  // the most time that a witness has to answer; a shorter check timeout applies
	sampleEvery = 10 * time.Second // how often the worker reads further witnesses from the replica
	maxRounds   = 6                // of probes of witnesses that one failure waits for
)

// Witnesses shares a SelfCheck among the goroutines of one worker, and probes the witnesses that
// the SelfCheck names. It does not hold the lock during probes.
type Witnesses struct {
	Prober  app.Prober
	Get     func(ctx context.Context, id string) (app.Instance, error) // returns an instance as stored, or ErrNotFound
	Any     func(ctx context.Context, n int) ([]app.Instance, error)   // returns up to n instances that may be witnesses
	Now     func() time.Time
	Changed func(ctx context.Context, kind app.EventKind, reason string) // is called when a suspension begins and ends

	asking sync.WaitGroup

	largest atomic.Uint64 // the last value of Keeps

	mu      sync.Mutex
	self    SelfCheck
	round   chan struct{} // closed when the witnesses of the round have answered; nil: no round is in progress
	sampled time.Time

	events    sync.Mutex
	announced bool // the last event said that the worker is suspended
}

// Keeps reports whether a pass of a healthy instance matters to the self-check: it is a witness, or becomes one. hash is
// ownership.Hash of its id. Keeps takes no lock, because the worker calls it with each result.
func (w *Witnesses) Keeps(hash uint64) bool { return ownership.Mix(hash) <= w.largest.Load() }

// unlock updates largest and releases the lock.
func (w *Witnesses) unlock() {
	w.largest.Store(w.self.Keeps())
	w.mu.Unlock()
}

// Add offers instances to the self-check, as the registry holds them.
func (w *Witnesses) Add(instances ...app.Instance) {
	w.mu.Lock()
	defer w.unlock()
	for _, i := range instances {
		w.self.AddWitness(i, w.Now())
	}
}

// Record records the result of a probe and returns it as the self-check counts it. back means that the
// result does not count, and that the worker must probe the instance again.
func (w *Witnesses) Record(i app.Instance, r app.Result) (counts app.Result, back bool) {
	w.mu.Lock()
	defer w.unlock()
	r = w.self.Record(i, r, w.Now())
	o := registry.Outcome{Was: i, Result: r}
	return r, w.self.Ignores(i, r) && !o.MakesUnhealthy()
}

// IsOwn reports whether an instance is on the worker's own host.
func (w *Witnesses) IsOwn(i app.Instance) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.self.isOwn(hostOf(i))
}

// Suspended reports whether the worker holds back removals.
func (w *Witnesses) Suspended() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	is, _ := w.self.Suspended()
	return is
}

// Remove removes a witness: the instance is gone or not healthy any more.
func (w *Witnesses) Remove(id string) {
	w.mu.Lock()
	defer w.unlock()
	w.self.RemoveWitness(id)
}

// Allow reports whether a failure may remove its instance. It probes the witnesses if the
// self-check needs them.
func (w *Witnesses) Allow(ctx context.Context, o registry.Outcome) bool {
	if !o.Result.Code.ProvesPath() {
		w.sample(ctx)
	}
	asked := false
	for rounds := 0; ; rounds++ {
		w.mu.Lock()
		// A round in progress was started for another instance. It leaves out witnesses with answers that are fresh enough
		// for that instance and too old for this one, so this instance may need a round of its own.
		decision, ask := w.self.Decide(o.Was, o.Result, w.Now(), asked || rounds == maxRounds)
		round := w.round
		if decision == AskWitnesses && round == nil {
			round, asked = w.ask(ctx, ask), true
		}
		w.mu.Unlock()
		if decision != AskWitnesses {
			w.announce(ctx)
			return decision == Remove
		}
		<-round
	}
}

// Recheck probes the witnesses of a suspended worker again. It does not wait for them.
func (w *Witnesses) Recheck(ctx context.Context) {
	w.sample(ctx)
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.round != nil {
		return
	}
	began := w.Now()
	round := w.ask(ctx, w.self.Recheck(began))
	w.asking.Go(func() {
		<-round
		w.mu.Lock()
		w.self.Resume(began, w.Now())
		w.mu.Unlock()
		w.announce(ctx)
	})
}

// ask begins to probe witnesses, and returns the round. The caller holds the lock.
func (w *Witnesses) ask(ctx context.Context, some []app.Instance) chan struct{} {
	round := make(chan struct{})
	w.round = round
	w.asking.Go(func() {
		var probes sync.WaitGroup
		for _, i := range some {
			probes.Go(func() { w.probe(ctx, i) })
		}
		probes.Wait()
		w.mu.Lock()
		w.round = nil
		w.mu.Unlock()
		close(round)
	})
	return round
}

// probe probes one witness. If it fails and the registry does not hold it healthy at that address any more, probe
// removes the witness.
func (w *Witnesses) probe(ctx context.Context, i app.Instance) {
	i.Check.Timeout = min(i.Check.Timeout, askTimeout)
	r := w.Prober.Probe(ctx, i)
	if ctx.Err() != nil {
		return
	}
	if !r.Passed {
		is, err := w.Get(ctx, i.ID)
		if errors.Is(err, app.ErrNotFound) || err == nil && (is.State != app.Healthy || is.Address != i.Address) {
			w.Remove(i.ID)
			return
		}
	}
	w.mu.Lock()
	defer w.unlock()
	w.self.Record(i, r, w.Now())
}

// Wait waits until no witness is being probed.
func (w *Witnesses) Wait() { w.asking.Wait() }

// sample reads some instances as witnesses, and the addresses of the worker's own host, every
// sampleEvery.
func (w *Witnesses) sample(ctx context.Context) {
	w.mu.Lock()
	due := w.Now().Sub(w.sampled).Abs() >= sampleEvery
	if due {
		w.sampled = w.Now()
	}
	w.mu.Unlock()
	if !due {
		return
	}
	own := ownAddresses()
	some, err := w.Any(ctx, SampleSize)
	w.mu.Lock()
	w.self.SetOwn(own)
	w.mu.Unlock()
	if err == nil { // otherwise the present witnesses must be enough
		w.Add(some...)
	}
}

// announce writes an event if the worker has become suspended, or is no longer suspended, since the
// last event.
func (w *Witnesses) announce(ctx context.Context) {
	w.events.Lock()
	defer w.events.Unlock()
	w.mu.Lock()
	is, reason := w.self.Suspended()
	w.mu.Unlock()
	switch {
	case is && !w.announced:
		w.Changed(ctx, app.EventBenched, "suspended, removals are held back: "+reason)
	case !is && w.announced:
		w.Changed(ctx, app.EventBack, "removals are made again: "+reason)
	}
	w.announced = is
}

// ownAddresses returns the addresses of the network interfaces.
func ownAddresses() (own []netip.Addr) {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return nil
	}
	for _, a := range all {
		if p, err := netip.ParsePrefix(a.String()); err == nil {
			own = append(own, p.Addr())
		}
	}
	return own
}
