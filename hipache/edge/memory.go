package edge

import (
	"container/list"
	"slices"
	"sync"
	"time"

	"rollcall/hipache"
)

// memory keeps the last known frontends of the hosts most recently asked for, with
// the backends this process has seen fail: nobody else's marks can be read while
// Redis is away, and nobody takes them off again.
type memory struct {
	size int
	ttl  time.Duration // how long a mark counts, whoever made it
	now  func() time.Time

	mu    sync.Mutex
	order *list.List // of *entry, most recently used first
	hosts map[string]*list.Element
}

type entry struct {
	frontend hipache.Frontend
	read     time.Time
	failed   map[string]time.Time // URL → when it failed
}

func newMemory(size int, ttl time.Duration) *memory {
	return &memory{size: size, ttl: ttl, now: time.Now, order: list.New(), hosts: map[string]*list.Element{}}
}

// learn keeps what Redis has just said.
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

// bury notes that a backend of a host has failed. It is remembered by URL: what is
// at its position may have changed when it is asked for.
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
	for u, at := range known.failed { // so that it never outgrows the lists of one ttl
		if m.now().Sub(at) >= m.ttl {
			delete(known.failed, u)
		}
	}
	known.failed[url] = m.now()
}

// recall returns the last known frontend of a host. A slot is dead in it if it was
// marked then or has failed here since, both for as long as a mark lasts; if that
// leaves nobody, all are worth another try.
func (m *memory) get(host string) (hipache.Frontend, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.hosts[host]
	if !ok {
		return hipache.Frontend{}, false
	}
	m.order.MoveToFront(e)
	known, now := e.Value.(*entry), m.now()
	f := known.frontend
	f.Backends = slices.Clone(f.Backends)
	alive := 0
	for i, b := range f.Backends {
		failed, seen := known.failed[b.URL]
		dead := b.Dead && now.Sub(known.read) < m.ttl || seen && now.Sub(failed) < m.ttl
		f.Backends[i].Dead = dead
		if !dead {
			alive++
		}
	}
	if alive == 0 {
		for i := range f.Backends {
			f.Backends[i].Dead = false
		}
	}
	return f, true
}
