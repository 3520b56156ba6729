package app

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
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
// It holds what events tell: streaks, due times and deadlines are not in it.
type Snapshot struct {
	mu        sync.RWMutex
	instances map[string]Instance
	services  map[string]map[string]Instance // by name, then id
	revision  Revision
	heard     time.Time
	loaded    bool
	changed   chan struct{} // closed and replaced with every change
}

// NewSnapshot returns a snapshot that has not heard anything yet.
func NewSnapshot() *Snapshot {
	return &Snapshot{changed: make(chan struct{})}
}

// Reset replaces everything by the instances as they stood at a revision or later.
func (s *Snapshot) Reset(instances []Instance, at Revision) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.instances, s.services = map[string]Instance{}, map[string]map[string]Instance{}
	for _, i := range instances {
		s.put(i)
	}
	s.revision, s.loaded = at, true
	s.wake()
}

// Apply adds what entries tell, oldest first.
func (s *Snapshot) Apply(entries []Entry) {
	if len(entries) == 0 {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range entries {
		s.remove(e.Event.Instance)
		if e.Instance.ID != "" {
			s.put(e.Instance)
		}
		s.revision = e.Event.Revision
	}
	s.wake()
}

// Heard says that everything the store had to tell until at has been applied.
func (s *Snapshot) Heard(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.heard = at
}

func (s *Snapshot) put(i Instance) {
	s.instances[i.ID] = i
	if s.services[i.Service] == nil {
		s.services[i.Service] = map[string]Instance{}
	}
	s.services[i.Service][i.ID] = i
}

func (s *Snapshot) remove(id string) {
	i, ok := s.instances[id]
	if !ok {
		return
	}
	delete(s.instances, id)
	delete(s.services[i.Service], id)
	if len(s.services[i.Service]) == 0 {
		delete(s.services, i.Service)
	}
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

// Instances lists the instances of a service, sorted by id; all of them when the
// name is empty.
func (s *Snapshot) Instances(service string) []Instance {
	s.mu.RLock()
	defer s.mu.RUnlock()
	from := s.instances
	if service != "" {
		from = s.services[service]
	}
	return slices.SortedFunc(maps.Values(from), func(a, b Instance) int { return strings.Compare(a.ID, b.ID) })
}

// Instance returns one instance.
func (s *Snapshot) Instance(id string) (Instance, bool) {
	s.mu.RLock()
	defer s.mu.RUnlock()
	i, ok := s.instances[id]
	return i, ok
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
