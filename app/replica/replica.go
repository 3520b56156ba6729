// Package replica holds a process's in-memory copy of the registry, which a follower of the event
// stream keeps up to date.
package replica

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/app"
)

// freshFor is how old the last confirmation by the store may be. An older replica does not answer.
const freshFor = 2 * time.Second

// Replica is one process's copy of the registry. A follower keeps it up to date from the store's
// event stream. Reads of the API come from the replica, so they cost the store no call, and each
// answer names the replica's revision. A replica that the store has not confirmed for two seconds
// returns an error instead.
//
// The replica has the fields that events carry, so its streaks are as of the last event. It also
// has the last events themselves, and any number of readers reads them at its own pace.
type Replica struct {
	mu        sync.RWMutex
	instances map[string]*Compact // a change replaces the value, which is never written to
	services  map[string]*members
	revision  app.Revision
	heard     time.Time
	loaded    bool
	resets    int
	changed   chan struct{} // closed and replaced at each change

	watchers []*watcher

	written atomic.Pointer[write] // the newest write of this process; nil: none

	recent []app.Event  // oldest first, a little more than keptEvents; readers get copies
	before app.Revision // recent has all events after this revision
}

// members are the instances of a service.
type members struct {
	revision  app.Revision
	instances map[*Compact]struct{}
	view      atomic.Pointer[Service] // made by the first reader; nil after a change
}

// Service is a service as of its last change. Readers share it and must not write to it.
type Service struct {
	Revision  app.Revision
	Instances []app.Instance // sorted by id
	Routable  []app.Instance // the routable ones among Instances

	encoding sync.Once
	encoded  []byte
}

// Encoded returns the result of encode, which it calls once for all readers.
func (s *Service) Encoded(encode func() []byte) []byte {
	s.encoding.Do(func() { s.encoded = encode() })
	return s.encoded
}

// keptEvents is the number of last events that a replica keeps at least.
const keptEvents = 4096

// New returns an empty replica, which does not answer before Reset and SetCurrent.
func New() *Replica {
	return &Replica{changed: make(chan struct{})}
}

// watcher is a subscription of Watch.
type watcher struct {
	changed func(id string, was, is *Compact)
}

// Watch calls changed for each instance that changes from now on, in order, until the caller calls
// stop. was is nil if the instance is new, and is if it is gone. The replica is locked during the call, so changed must
// not call its methods.
func (r *Replica) Watch(changed func(id string, was, is *Compact)) (stop func()) {
	w := &watcher{changed}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.watchers = append(r.watchers, w)
	return func() {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.watchers = slices.DeleteFunc(r.watchers, func(o *watcher) bool { return o == w })
	}
}

// Reset replaces the content of the replica by the instances at a revision or later, and by the
// last events until that revision, oldest first and without a gap.
func (r *Replica) Reset(instances []app.Instance, at app.Revision, last ...app.Event) {
	all := make([]*Compact, len(instances))
	for n, i := range instances {
		all[n] = NewCompact(i)
	}
	r.Load(all, at, last...)
}

// Load is Reset for instances in their compact form.
func (r *Replica) Load(instances []*Compact, at app.Revision, last ...app.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.instances
	r.instances, r.services = make(map[string]*Compact, len(instances)), map[string]*members{}
	for _, h := range instances {
		r.put(h, at)
	}
	r.notifyAll(was)
	r.revision, r.loaded = at, true
	r.resets++
	r.recent, r.before = last, at
	if len(last) > 0 {
		r.before = last[0].Revision
	}
	r.wake()
}

// notifyAll tells the watchers of every instance that was present before a load or is present now. The caller holds the lock.
func (r *Replica) notifyAll(was map[string]*Compact) {
	for _, w := range r.watchers {
		for id, h := range was {
			if r.instances[id] == nil {
				w.changed(id, h, nil)
			}
		}
		for id, h := range r.instances {
			w.changed(id, was[id], h)
		}
	}
}

// Apply applies entries of the event stream, oldest first.
func (r *Replica) Apply(entries []app.Entry) {
	if len(entries) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return
	}
	for _, e := range entries {
		r.apply(e)
	}
	if old := len(r.recent) - keptEvents; old > keptEvents/8 { // not with every one
		r.before = r.recent[old-1].Revision
		r.recent = slices.Delete(r.recent, 0, old)
	}
	r.wake()
}

// apply applies one entry. The caller holds the lock.
func (r *Replica) apply(e app.Entry) {
	was := r.instances[e.Event.Instance]
	r.remove(e.Event.Instance, e.Event.Revision)
	if e.Instance.ID != "" {
		r.put(NewCompact(e.Instance), e.Event.Revision)
	}
	if e.Event.Instance != "" {
		for _, w := range r.watchers {
			w.changed(e.Event.Instance, was, r.instances[e.Event.Instance])
		}
	}
	r.revision = e.Event.Revision
	r.recent = append(r.recent, e.Event)
}

// SetCurrent records that the replica has all events until at.
func (r *Replica) SetCurrent(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = at
}

func (r *Replica) put(h *Compact, at app.Revision) {
	service := h.common.Value().service
	r.instances[h.id] = h
	m := r.services[service]
	if m == nil {
		m = &members{instances: map[*Compact]struct{}{}}
		r.services[service] = m
	}
	m.instances[h] = struct{}{}
	m.changed(at)
}

func (r *Replica) remove(id string, at app.Revision) {
	h, ok := r.instances[id]
	if !ok {
		return
	}
	delete(r.instances, id)
	service := h.common.Value().service
	m := r.services[service]
	delete(m.instances, h)
	if m.changed(at); len(m.instances) == 0 {
		delete(r.services, service)
	}
}

func (m *members) changed(at app.Revision) {
	m.revision = at
	m.view.Store(nil)
}

func (r *Replica) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// Age returns how long ago the replica was up to date. It returns ErrUnavailable if that is too
// long ago, or if the replica has never been up to date.
func (r *Replica) Age(now time.Time) (time.Duration, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	switch age := now.Sub(r.heard); {
	case !r.loaded || r.heard.IsZero():
		return 0, fmt.Errorf("the registry has not been read yet: %w", app.ErrUnavailable)
	case age > freshFor:
		return age, fmt.Errorf("no word from the registry for %s: %w", age.Round(100*time.Millisecond), app.ErrUnavailable)
	default:
		return age, nil
	}
}

// Revision returns the revision of the replica's content.
func (r *Replica) Revision() app.Revision {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.revision
}

// Len returns the number of instances.
func (r *Replica) Len() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return len(r.instances)
}

// Services returns the names of the services that have instances, sorted.
func (r *Replica) Services() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.services))
}

// Service returns a service, or nil if it has no instances.
func (r *Replica) Service(name string) *Service {
	r.mu.RLock()
	defer r.mu.RUnlock()
	m := r.services[name]
	if m == nil {
		return nil
	}
	if view := m.view.Load(); view != nil {
		return view
	}
	view := &Service{Revision: m.revision, Instances: sorted(maps.Keys(m.instances), len(m.instances))}
	unroutable := func(i app.Instance) bool { return !i.Routable() }
	if view.Routable = view.Instances; slices.ContainsFunc(view.Routable, unroutable) {
		view.Routable = slices.DeleteFunc(slices.Clone(view.Instances), unroutable)
	}
	if m.view.CompareAndSwap(nil, view) {
		return view
	}
	return m.view.Load() // the lock of the reader keeps changes out
}

// Routable returns the routable instances of a service, sorted by id. Callers share the slice
// and must not write to it.
func (r *Replica) Routable(service string) []app.Instance {
	if s := r.Service(service); s != nil {
		return s.Routable
	}
	return nil
}

// Instances returns the instances of a service, sorted by id, or all instances if the name is
// empty.
func (r *Replica) Instances(service string) []app.Instance {
	if service != "" {
		view := r.Service(service)
		if view == nil {
			return nil
		}
		return slices.Clone(view.Instances)
	}
	r.mu.RLock()
	defer r.mu.RUnlock()
	return sorted(maps.Values(r.instances), len(r.instances))
}

func sorted(from iter.Seq[*Compact], n int) []app.Instance {
	byID := slices.AppendSeq(make([]*Compact, 0, n), from)
	slices.SortFunc(byID, func(a, b *Compact) int { return strings.Compare(a.id, b.id) })
	instances := make([]app.Instance, n)
	for n, h := range byID {
		instances[n] = h.Instance()
	}
	return instances
}

// All iterates over the instances of all services, in no order, without copying all of them. The
// replica is locked meanwhile, so the loop must not call its methods.
func (r *Replica) All() iter.Seq[app.Instance] {
	return func(yield func(app.Instance) bool) {
		r.mu.RLock()
		defer r.mu.RUnlock()
		for _, h := range r.instances {
			if !yield(h.Instance()) {
				return
			}
		}
	}
}

// Read calls do with the instances in their compact form. The replica is locked during the call. See All.
func (r *Replica) Read(do func(iter.Seq[*Compact])) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	do(maps.Values(r.instances))
}

// Compacts iterates over the instances in their compact form. See All.
func (r *Replica) Compacts() iter.Seq[*Compact] {
	return func(yield func(*Compact) bool) {
		r.mu.RLock()
		defer r.mu.RUnlock()
		for _, h := range r.instances {
			if !yield(h) {
				return
			}
		}
	}
}

// ServiceRevision returns the revision of a service's last change. For a service without instances
// it returns the revision of the replica: the service may have had instances a moment ago.
func (r *Replica) ServiceRevision(name string) app.Revision {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m := r.services[name]; m != nil {
		return m.revision
	}
	return r.revision
}

// Resets counts the calls of Reset. After a reset, the revision may be lower than before: Redis may
// have been emptied or restored.
func (r *Replica) Resets() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.resets
}

// EventsAfter returns up to limit events after a revision, oldest first. held is false if the
// replica lacks the event of that revision or a later one. Then only the store can answer.
func (r *Replica) EventsAfter(rev app.Revision, limit int) (events []app.Event, held bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if !r.loaded || rev.Compare(r.before) < 0 {
		return nil, false
	}
	from, found := slices.BinarySearchFunc(r.recent, rev, func(e app.Event, rev app.Revision) int { return e.Revision.Compare(rev) })
	if !found && rev.Compare(r.before) != 0 {
		return nil, false
	}
	if found {
		from++
	}
	return slices.Clone(r.recent[from:min(from+limit, len(r.recent))]), true
}

// Latest returns up to limit wanted events, newest first. If before is not empty, it returns only
// earlier ones.
func (r *Replica) Latest(before app.Revision, limit int, wanted func(app.Event) bool) []app.Event {
	r.mu.RLock()
	defer r.mu.RUnlock()
	var events []app.Event
	for _, e := range slices.Backward(r.recent) {
		if len(events) == limit {
			break
		}
		if (before == "" || e.Revision.Compare(before) < 0) && wanted(e) {
			events = append(events, e)
		}
	}
	return events
}

// Instance returns an instance, and whether there is one with that id.
func (r *Replica) Instance(id string) (app.Instance, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if h, ok := r.instances[id]; ok {
		return h.Instance(), true
	}
	return app.Instance{}, false
}

// Wait returns nil once done returns true, or the context's cause. It calls done now and after each
// change.
func (r *Replica) Wait(ctx context.Context, done func() bool) error {
	for {
		r.mu.RLock()
		changed := r.changed
		r.mu.RUnlock()
		if done() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// WaitRevision waits until the replica is at a revision or a later one.
func (r *Replica) WaitRevision(ctx context.Context, rev app.Revision) error {
	return r.Wait(ctx, func() bool { return r.Revision().Compare(rev) >= 0 })
}

// write is a write of this process.
type write struct {
	revision app.Revision
	at       time.Time
}

// maxWriteWait bounds the wait for a write to reach the replica. The write holds in any case.
const maxWriteWait = time.Second

// Written records that this process has written a revision. The writer need not wait for it; WaitWrites does.
func (r *Replica) Written(rev app.Revision) {
	is := &write{rev, time.Now()}
	for {
		was := r.written.Load()
		if was != nil && was.revision.Compare(rev) >= 0 || r.written.CompareAndSwap(was, is) {
			return
		}
	}
}

// WaitWrites waits until the replica has every earlier write of this process, so that a caller reads its own writes. It
// gives up a second after the last write, and when ctx is done. It reports whether a write was missing.
func (r *Replica) WaitWrites(ctx context.Context) (waited bool) {
	w := r.written.Load()
	if w == nil || r.Revision().Compare(w.revision) >= 0 {
		return false
	}
	ctx, cancel := context.WithDeadline(ctx, w.at.Add(maxWriteWait))
	defer cancel()
	_ = r.WaitRevision(ctx, w.revision) // a replica that is too old refuses the read
	return true
}
