package edge

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"rollcall/hipache"
)

// memory keeps the last known frontends of the most recently requested hosts, and the backends
// that failed in this process. While Redis is unavailable, the process can neither read nor
// remove the marks of other proxies.
type memory struct {
	size int
	ttl  time.Duration // lifetime of a mark, by this process or another proxy
	now  func() time.Time

	mu    sync.Mutex
	order *list.List // of *entry, most recently used first
	hosts map[string]*list.Element
}

type entry struct {
	frontend hipache.Frontend
	read     time.Time
	failed   map[string]time.Time // URL → time of the failure
}

func newMemory(size int, ttl time.Duration) *memory {
	return &memory{size: size, ttl: ttl, now: time.Now, order: list.New(), hosts: map[string]*list.Element{}}
}

// store keeps a frontend that Redis has just returned.
func (m *memory) store(f hipache.Frontend) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.hosts[f.Requested]; ok {
		known := e.Value.(*entry)
		known.frontend, known.read = f, m.now()
		m.order.MoveToFront(e)
		return
	}
	m.hosts[f.Requested] = m.order.PushFront(&entry{frontend: f, read: m.now()})
	if m.order.Len() > m.size {
		oldest := m.order.Remove(m.order.Back()).(*entry)
		delete(m.hosts, oldest.frontend.Requested)
	}
}

func (m *memory) forget(host string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.hosts[host]; ok {
		m.order.Remove(e)
		delete(m.hosts, host)
	}
}

// recordFailure records that a backend of a host has failed. The key is the URL, because the
// position may change.
func (m *memory) recordFailure(host, url string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.hosts[host]
	if !ok {
		return
	}
	known := e.Value.(*entry)
	if known.failed == nil {
		known.failed = map[string]time.Time{}
	}
	for u, at := range known.failed { // so that the map does not outgrow the lists of one ttl
		if m.now().Sub(at) >= m.ttl {
			delete(known.failed, u)
		}
	}
	known.failed[url] = m.now()
}

// get returns the last known frontend of a host. A backend is dead in it if it was marked at the
// time of the read or has failed in this process since, both for the lifetime of a mark. If that
// leaves no backend, none is dead: another attempt is better than an error.
func (m *memory) get(host string) (hipache.Frontend, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.hosts[host]
	if !ok {
		return hipache.Frontend{}, false
	}
	m.order.MoveToFront(e)
	known, since := e.Value.(*entry), m.now().Add(-m.ttl)
	f := known.frontend
	f.Backends = slices.Clone(f.Backends)
	isDead := func(b hipache.Backend) bool { return known.isDead(b, since) }
	allDead := !slices.ContainsFunc(f.Backends, func(b hipache.Backend) bool { return !isDead(b) })
	for i, b := range f.Backends {
		f.Backends[i].Dead = !allDead && isDead(b)
	}
	return f, true
}

// isDead reports whether a backend was marked in a read since a time, or has failed in this process since then.
func (e *entry) isDead(b hipache.Backend, since time.Time) bool {
	return b.Dead && e.read.After(since) || e.failed[b.URL].After(since)
}
