package app

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
)

// freshFor is how long a snapshot may go without word from the store before it no
// longer answers.
const freshFor = 2 * time.Second

// Snapshot is one process's copy of the registry, kept up to date from the store's
// events. Reads are answered from it, so they cost the store nothing, and every
// answer names the revision it stands on. A snapshot that has not heard from the
// store for two seconds says so instead of answering.
//
// It holds what events tell: streaks are not in it. It also
// holds the last events themselves, from which any number of readers are served at
// their own pace.
type Snapshot struct {
	mu        sync.RWMutex
	instances map[string]*Held // never written to: a change puts another one there
	services  map[string]*members
	revision  Revision
	heard     time.Time
	loaded    bool
	resets    int
	changed   chan struct{} // closed and replaced with every change

	watchers []*watcher

	recent []Event  // oldest first, little more than keptEvents; never handed out
	before Revision // recent has everything after this
}

// members are the instances of a service.
type members struct {
	revision  Revision
	instances map[*Held]struct{}
	view      atomic.Pointer[Service] // made when somebody reads; nil after a change
}

// Service is a service as of its last change. Readers share it: it is not written to.
type Service struct {
	Revision  Revision
	Instances []Instance // sorted by id
	Routable  []Instance // those that others may use

	encoding sync.Once
	encoded  []byte
}

// Encoded returns what encode makes of the service, which is made once.
func (s *Service) Encoded(encode func() []byte) []byte {
	s.encoding.Do(func() { s.encoded = encode() })
	return s.encoded
}

// keptEvents is how many events a snapshot holds at least, once there were that many.
const keptEvents = 4096

// NewSnapshot returns a snapshot that has not heard anything yet.
func NewSnapshot() *Snapshot {
	return &Snapshot{changed: make(chan struct{})}
}

// watcher hears of changes.
type watcher struct{ changed func(id string, is *Held) }

// Watch has changed called with every instance that changes from now on, in order, until
// stop is called; nil stands for one that is gone. The snapshot is locked meanwhile, and must
// not be asked for anything.
func (s *Snapshot) Watch(changed func(id string, is *Held)) (stop func()) {
	w := &watcher{changed}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.watchers = append(s.watchers, w)
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.watchers = slices.DeleteFunc(s.watchers, func(o *watcher) bool { return o == w })
	}
}

// Reset replaces everything by the instances as they stood at a revision or later, and
// the last events until then, oldest first and without a gap.
func (s *Snapshot) Reset(instances []Instance, at Revision, last ...Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.instances
	s.instances, s.services = make(map[string]*Held, len(instances)), map[string]*members{}
	for _, i := range instances {
		s.put(i, at)
	}
	for _, w := range s.watchers {
		for id := range was {
			if s.instances[id] == nil {
				w.changed(id, nil)
			}
		}
		for id, h := range s.instances {
			w.changed(id, h)
		}
	}
	s.revision, s.loaded = at, true
	s.resets++
	s.recent, s.before = last, at
	if len(last) > 0 {
		s.before = last[0].Revision
	}
	s.wake()
}

// Apply adds what entries tell, oldest first.
func (s *Snapshot) Apply(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.loaded {
		return // nothing to add to: Reset comes first
	}
	for _, e := range entries {
		s.remove(e.Event.Instance, e.Event.Revision)
		if e.Instance.ID != "" {
			s.put(e.Instance, e.Event.Revision)
		}
		for _, w := range s.watchers {
			if e.Event.Instance != "" {
				w.changed(e.Event.Instance, s.instances[e.Event.Instance])
			}
		}
		s.revision = e.Event.Revision
		s.recent = append(s.recent, e.Event)
	}
	if old := len(s.recent) - keptEvents; old > keptEvents/8 { // not with every one
		s.before = s.recent[old-1].Revision
		s.recent = slices.Delete(s.recent, 0, old)
	}
	s.wake()
}

// Heard says that everything the store had to tell until at has been applied.
func (s *Snapshot) Heard(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = at
}

func (s *Snapshot) put(i Instance, at Revision) {
	h := Hold(i)
	s.instances[i.ID] = h
	m := s.services[i.Service]
	if m == nil {
		m = &members{instances: map[*Held]struct{}{}}
		s.services[i.Service] = m
	}
	m.instances[h] = struct{}{}
	m.changed(at)
}

func (s *Snapshot) remove(id string, at Revision) {
	h, ok := s.instances[id]
	if !ok {
		return
	}
	delete(s.instances, id)
	service := h.common.Value().service
	m := s.services[service]
	delete(m.instances, h)
	if m.changed(at); len(m.instances) == 0 {
		delete(s.services, service)
	}
}

func (m *members) changed(at Revision) {
	m.revision = at
	m.view.Store(nil)
}

func (s *Snapshot) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// Age is how long ago the snapshot was known to be up to date; ErrUnavailable when
// that is too long, or never was.
func (s *Snapshot) Age(now time.Time) (time.Duration, error) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	switch age := now.Sub(s.heard); {
	case !s.loaded || s.heard.IsZero():
		return 0, fmt.Errorf("the registry has not been read yet: %w", ErrUnavailable)
	case age > freshFor:
		return age, fmt.Errorf("no word from the registry for %s: %w", age.Round(100*time.Millisecond), ErrUnavailable)
	default:
		return age, nil
	}
}

// Revision is the point in history that answers stand on.
func (s *Snapshot) Revision() Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.revision
}

// Services lists the names of the services that have instances, sorted.
func (s *Snapshot) Services() []string {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return slices.Sorted(maps.Keys(s.services))
}

// Service returns a service; nil when it has no instances.
func (s *Snapshot) Service(name string) *Service {
	s.mu.RLock()
	defer s.mu.RUnlock()
	m := s.services[name]
	if m == nil {
		return nil
	}
	if view := m.view.Load(); view != nil {
		return view
	}
	view := &Service{Revision: m.revision, Instances: sorted(maps.Keys(m.instances), len(m.instances))}
	unroutable := func(i Instance) bool { return !i.Routable() }
	if view.Routable = view.Instances; slices.ContainsFunc(view.Routable, unroutable) {
		view.Routable = slices.DeleteFunc(slices.Clone(view.Instances), unroutable)
	}
	if m.view.CompareAndSwap(nil, view) {
		return view
	}
	return m.view.Load() // nothing changes while we read
}

// Instances lists the instances of a service, sorted by id; all of them when the
// name is empty.
func (s *Snapshot) Instances(service string) []Instance {
	if service != "" {
		view := s.Service(service)
		if view == nil {
			return nil
		}
		return slices.Clone(view.Instances)
	}
	s.mu.RLock()
	defer s.mu.RUnlock()
	return sorted(maps.Values(s.instances), len(s.instances))
}

func sorted(from iter.Seq[*Held], n int) []Instance {
	byID := slices.AppendSeq(make([]*Held, 0, n), from)
	slices.SortFunc(byID, func(a, b *Held) int { return strings.Compare(a.id, b.id) })
	instances := make([]Instance, n)
	for n, h := range byID {
		instances[n] = h.Instance()
	}
	return instances
}

// All goes through the instances of all services, in no order, without a copy of them
// all. The snapshot stands still meanwhile and must not be asked for anything else.
func (s *Snapshot) All() iter.Seq[Instance] {
	return func(yield func(Instance) bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, h := range s.instances {
			if !yield(h.Instance()) {
				return
			}
		}
	}
}

// Held goes through the instances as the snapshot holds them. See All.
func (s *Snapshot) Held() iter.Seq[*Held] {
	return func(yield func(*Held) bool) {
		s.mu.RLock()
		defer s.mu.RUnlock()
		for _, h := range s.instances {
			if !yield(h) {
				return
			}
		}
	}
}

// ServiceRevision is the revision of a service's last change; that of the whole when
// it has no instances, for it may have had some a moment ago.
func (s *Snapshot) ServiceRevision(name string) Revision {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if m := s.services[name]; m != nil {
		return m.revision
	}
	return s.revision
}

// Resets counts how often the snapshot was read anew. After a reset it may stand on an earlier
// revision than before: Redis may have been emptied or restored.
func (s *Snapshot) Resets() int {
	s.mu.RLock()
	defer s.mu.RUnlock()
	return s.resets
}

// EventsAfter returns up to limit events after a revision, oldest first, and whether
// the snapshot holds the event of that revision and all there were since: if not, only the
// store can tell.
func (s *Snapshot) EventsAfter(r Revision, limit int) (events []Event, held bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if !s.loaded || r.Compare(s.before) < 0 {
		return nil, false
	}
	from, found := slices.BinarySearchFunc(s.recent, r, func(e Event, r Revision) int { return e.Revision.Compare(r) })
	if !found && r.Compare(s.before) != 0 {
		return nil, false
	}
	if found {
		from++
	}
	return slices.Clone(s.recent[from:min(from+limit, len(s.recent))]), true
}

// Latest returns up to limit of the held events that are wanted, newest first; when a
// revision is given, only those before it.
func (s *Snapshot) Latest(before Revision, limit int, wanted func(Event) bool) []Event {
	s.mu.RLock()
	defer s.mu.RUnlock()
	var events []Event
	for _, e := range slices.Backward(s.recent) {
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
func (s *Snapshot) Instance(id string) (Instance, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	if h, ok := s.instances[id]; ok {
		return h.Instance(), true
	}
	return Instance{}, false
}

// Wait returns as soon as done says so, which is asked now and after every change;
// or with the context's error.
func (s *Snapshot) Wait(ctx context.Context, done func() bool) error {
	for {
		s.mu.RLock()
		changed := s.changed
		s.mu.RUnlock()
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

// Reached waits until the snapshot stands on a revision or a later one, so that a
// caller reads its own write.
func (s *Snapshot) Reached(ctx context.Context, r Revision) error {
	return s.Wait(ctx, func() bool { return s.Revision().Compare(r) >= 0 })
}
