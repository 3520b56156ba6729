package edge

import (
	"slices"
	"sync"

	"rollcall/hipache"
)

const (
	batchesUnderWay = 2   // round trips at once: more would make the batches smaller
	maxBatch        = 100 // hosts: Redis does nothing else while it reads them
)

// reads makes one round trip of the lookups that come while others are under way.
// A lookup is never answered by a read that began before it, so that a change is
// seen by the very next request.
type reads struct {
	read  func(hosts []string) []hipache.Found
	turns chan struct{}

	mu   sync.Mutex
	next *batch // still takes hosts; nil if nobody waits
}

type batch struct {
	hosts []string // each once
	found []hipache.Found
	done  chan struct{} // closed when found is there
}

func newReads(read func(hosts []string) []hipache.Found) *reads {
	return &reads{read: read, turns: make(chan struct{}, batchesUnderWay)}
}

// lookup waits for the next batch. Whoever begins a batch reads for all of it.
func (r *reads) lookup(host string) (hipache.Frontend, error) {
	r.mu.Lock()
	b, begins := r.next, r.next == nil
	if begins {
		b = &batch{done: make(chan struct{})}
		r.next = b
	}
	i := slices.Index(b.hosts, host)
	if i < 0 {
		i = len(b.hosts)
		b.hosts = append(b.hosts, host)
	}
	if len(b.hosts) == maxBatch {
		r.next = nil
	}
	r.mu.Unlock()

	if begins {
		r.turns <- struct{}{}
		r.mu.Lock()
		if r.next == b {
			r.next = nil
		}
		r.mu.Unlock()
		b.found = r.read(b.hosts)
		<-r.turns
		close(b.done)
	} else {
		<-b.done
	}
	return b.found[i].Frontend, b.found[i].Err
}
