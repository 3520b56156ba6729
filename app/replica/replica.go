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

// freshFor is how long a replica may go without word from the store before it no
// longer answers.
const freshFor = 2 * time.Second

// Replica is one process's copy of the registry, kept up to date from the store's
// events. Reads are answered from it, so they cost the store nothing, and every
// answer names the revision it stands on. A replica that has not heard from the
// store for two seconds says so instead of answering.
//
// It holds what events tell: streaks are not in it. It also
// holds the last events themselves, from which any number of readers are served at
// their own pace.
type Replica struct {
	mu        sync.RWMutex
	instances map[string]*Compact // never written to: a change puts another one there
	services  map[string]*members
	revision  app.Revision
	heard     time.Time
	loaded    bool
	resets    int
	changed   chan struct{} // closed and replaced with every change

	watchers []*watcher

	recent []app.Event  // oldest first, little more than keptEvents; never handed out
	before app.Revision // recent has everything after this
}

// members are the instances of a service.
type members struct {
	revision  app.Revision
	instances map[*Compact]struct{}
	view      atomic.Pointer[Service] // made when somebody reads; nil after a change
}

// Service is a service as of its last change. Readers share it: it is not written to.
type Service struct {
	Revision  app.Revision
	Instances []app.Instance // sorted by id
	Routable  []app.Instance // those that others may use

	encoding sync.Once
	encoded  []byte
}

// Encoded returns what encode makes of the service, which is made once.
func (s *Service) Encoded(encode func() []byte) []byte {
	s.encoding.Do(func() { s.encoded = encode() })
	return s.encoded
}

// keptEvents is how many events a replica holds at least, once there were that many.
const keptEvents = 4096

// New returns a replica that has not heard anything yet.
func New() *Replica {
	return &Replica{changed: make(chan struct{})}
}

// watcher hears of changes.
type watcher struct{ changed func(id string, is *Compact) }

// Watch has changed called with every instance that changes from now on, in order, until
// stop is called; nil stands for one that is gone. The replica is locked meanwhile, and must
// not be asked for anything.
func (r *Replica) Watch(changed func(id string, is *Compact)) (stop func()) {
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

// Reset replaces everything by the instances as they stood at a revision or later, and
// the last events until then, oldest first and without a gap.
func (r *Replica) Reset(instances []app.Instance, at app.Revision, last ...app.Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	was := r.instances
	r.instances, r.services = make(map[string]*Compact, len(instances)), map[string]*members{}
	for _, i := range instances {
		r.put(i, at)
	}
	for _, w := range r.watchers {
		for id := range was {
			if r.instances[id] == nil {
				w.changed(id, nil)
			}
		}
		for id, h := range r.instances {
			w.changed(id, h)
		}
	}
	r.revision, r.loaded = at, true
	r.resets++
	r.recent, r.before = last, at
	if len(last) > 0 {
		r.before = last[0].Revision
	}
	r.wake()
}

// Apply adds what entries tell, oldest first.
func (r *Replica) Apply(entries []app.Entry) {
	if len(entries) == 0 {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.loaded {
		return // nothing to add to: Reset comes first
	}
	for _, e := range entries {
		r.remove(e.Event.Instance, e.Event.Revision)
		if e.Instance.ID != "" {
			r.put(e.Instance, e.Event.Revision)
		}
		for _, w := range r.watchers {
			if e.Event.Instance != "" {
				w.changed(e.Event.Instance, r.instances[e.Event.Instance])
			}
		}
		r.revision = e.Event.Revision
		r.recent = append(r.recent, e.Event)
	}
	if old := len(r.recent) - keptEvents; old > keptEvents/8 { // not with every one
		r.before = r.recent[old-1].Revision
		r.recent = slices.Delete(r.recent, 0, old)
	}
	r.wake()
}

// SetCurrent says that everything the store had to tell until at has been applied.
func (r *Replica) SetCurrent(at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.heard = at
}

func (r *Replica) put(i app.Instance, at app.Revision) {
	h := NewCompact(i)
	r.instances[i.ID] = h
	m := r.services[i.Service]
	if m == nil {
		m = &members{instances: map[*Compact]struct{}{}}
		r.services[i.Service] = m
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

// Age is how long ago the replica was known to be up to date; ErrUnavailable when
// that is too long, or never was.
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

// Revision is the point in history that answers stand on.
func (r *Replica) Revision() app.Revision {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.revision
}

// Services lists the names of the services that have instances, sorted.
func (r *Replica) Services() []string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return slices.Sorted(maps.Keys(r.services))
}

// Service returns a service; nil when it has no instances.
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
	return m.view.Load() // nothing changes while we read
}

// Routable returns the routable instances of a service, sorted by id. Callers share the slice
// and must not write to it.
func (r *Replica) Routable(service string) []app.Instance {
	if s := r.Service(service); s != nil {
		return s.Routable
	}
	return nil
}

// Instances lists the instances of a service, sorted by id; all of them when the
// name is empty.
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

// All goes through the instances of all services, in no order, without a copy of them
// all. The replica stands still meanwhile and must not be asked for anything else.
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

// Compacts goes through the instances as the replica holds them. See All.
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

// ServiceRevision is the revision of a service's last change; that of the whole when
// it has no instances, for it may have had some a moment ago.
func (r *Replica) ServiceRevision(name string) app.Revision {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if m := r.services[name]; m != nil {
		return m.revision
	}
	return r.revision
}

// Resets counts how often the replica was read anew. After a reset it may stand on an earlier
// revision than before: Redis may have been emptied or restored.
func (r *Replica) Resets() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.resets
}

// EventsAfter returns up to limit events after a revision, oldest first, and whether
// the replica holds the event of that revision and all there were since: if not, only the
// store can tell.
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

// Latest returns up to limit of the held events that are wanted, newest first; when a
// revision is given, only those before it.
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

// Instance returns one instance.
func (r *Replica) Instance(id string) (app.Instance, bool) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if h, ok := r.instances[id]; ok {
		return h.Instance(), true
	}
	return app.Instance{}, false
}

// Wait returns as soon as done says so, which is asked now and after every change;
// or with the context's error.
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

// WaitRevision waits until the replica stands on a revision or a later one, so that a
// caller reads its own write.
func (r *Replica) WaitRevision(ctx context.Context, rev app.Revision) error {
	return r.Wait(ctx, func() bool { return r.Revision().Compare(rev) >= 0 })
}
