package edge

import (
	"slices"
	"sync"

	"rollcall/hipache"
)

const (
	batchesUnderWay = 2   // concurrent round trips: more would make the batches smaller
	maxBatch        = 100 // hosts: Redis is blocked while it reads them
)

// reads collects lookups that arrive during a round trip into the next one. A read that began
// before a lookup never answers it, so the next request sees every change. Unlike the store's
// pipeline of commands, it asks once for several lookups of one host, and a lookup has no time limit
// of its own.
type reads struct {
	read  func(hosts []string) []hipache.Found
	turns chan struct{}

	mu   sync.Mutex
	next *batch // accepts more hosts; nil if no lookup waits
}

type batch struct {
	hosts []string // without duplicates
	found []hipache.Found
	done  chan struct{} // closed once found is set
}

func newReads(read func(hosts []string) []hipache.Found) *reads {
	return &reads{read: read, turns: make(chan struct{}, batchesUnderWay)}
}

// lookup waits for the next batch. The call that begins a batch reads for all of it.
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
