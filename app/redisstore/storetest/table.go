package storetest

import (
	"fmt"
	"maps"
	"slices"

	"rollcall/app/ownership"
)

// Table implements own.lua in Go: the hashes of workers and shards. The property tests of the protocol
// run on it, and a test of redisstore compares it with the script, call by call.
type Table struct {
	Workers map[string]int64
	Doubts  map[string]bool // suspended workers
	Shards  map[int]ownership.Term
	Version string
	Last    string
	Web     int64

	Mutant string // name of a rule that is broken on purpose
}

// NewTable returns the table of a registry that has never had a worker.
func NewTable() *Table {
	return &Table{Workers: map[string]int64{}, Doubts: map[string]bool{}, Shards: map[int]ownership.Term{}}
}

// Clone returns a copy, like a replica of Redis.
func (t *Table) Clone() *Table {
	c := *t
	c.Workers, c.Doubts, c.Shards = maps.Clone(t.Workers), maps.Clone(t.Doubts), maps.Clone(t.Shards)
	return &c
}

// Call makes one call, and reports whether shards became free or a worker joined.
func (t *Table) Call(c ownership.Call) (r ownership.Reply, notify bool) {
	stored, member := t.Workers[c.Worker]
	if member && stored >= c.Count && t.Mutant != "reused" {
		return ownership.Reply{Reused: true}, false
	}
	changed := (!member || t.Doubts[c.Worker] != c.Suspended) && !c.Stopping
	notify = changed
	for _, g := range c.Gone {
		if count, there := t.Workers[g.Worker]; there && (count == g.Count || t.Mutant == "counter") && g.Worker != c.Worker {
			delete(t.Workers, g.Worker)
			delete(t.Doubts, g.Worker)
			changed, notify = true, true
		}
	}
	t.Workers[c.Worker], t.Doubts[c.Worker] = c.Count, c.Suspended
	if c.Stopping {
		delete(t.Workers, c.Worker)
		delete(t.Doubts, c.Worker)
		changed, notify = changed || member, notify || member
	}
	for _, n := range c.Release {
		if t.Shards[n].Worker() == c.Worker && t.Mutant != "release" {
			delete(t.Shards, n)
			changed, notify = true, true
		}
	}
	for _, g := range c.Give {
		if count, lives := t.Workers[g.Worker]; lives && t.Shards[g.Shard].Worker() == c.Worker {
			if t.Mutant == "gift" {
				count = 0
			}
			t.Shards[g.Shard] = termOf(g.Worker, count)
			changed, notify = true, true
		}
	}
	r = ownership.Reply{Last: t.Last, Web: t.Web}
	if changed || c.Known != t.Version || c.Known == "" {
		r.Full, r.Owned = true, map[int]ownership.Term{}
		if t.take(c) || changed {
			t.Version = string(termOf(c.Worker, c.Count))
		}
		for n, term := range t.Shards {
			if term.Worker() == c.Worker {
				r.Owned[n] = term
			}
		}
	}
	r.Version = t.Version
	for _, worker := range slices.Sorted(maps.Keys(t.Workers)) {
		r.Workers = append(r.Workers, ownership.Peer{Worker: worker, Count: t.Workers[worker], Suspended: t.Doubts[worker]})
	}
	return r, notify
}

// take gives the caller free shards up to its share. Shards of missing workers are free.
func (t *Table) take(c ownership.Call) (changed bool) {
	fit := 0
	for worker := range t.Workers {
		if !t.Doubts[worker] {
			fit++
		}
	}
	share := ownership.Share(fit)
	if fit == 0 {
		share = ownership.Share(len(t.Workers))
	}
	if c.Limit > 0 {
		share = min(share, c.Limit)
	}
	if c.Stopping || c.Suspended && fit > 0 {
		share = 0
	}
	mine := 0
	for _, term := range t.Shards {
		if term.Worker() == c.Worker {
			mine++
		}
	}
	for n := range ownership.Shards {
		owner := t.Shards[n].Worker()
		_, lives := t.Workers[owner]
		if lives && (t.Mutant != "steal" || owner == c.Worker) {
			continue
		}
		if owner != "" && !lives {
			delete(t.Shards, n)
			changed = true
		}
		if mine < share {
			count := c.Count
			switch t.Mutant {
			case "term":
				count = 0
			case "redis counter":
				count = 1
				for _, other := range t.Shards {
					count = max(count, countOf(other)+1)
				}
			}
			t.Shards[n] = termOf(c.Worker, count)
			mine++
			changed = true
		}
	}
	return changed
}

func countOf(t ownership.Term) (n int64) {
	for _, c := range string(t)[len(t.Worker())+1:] {
		n = 10*n + int64(c-'0')
	}
	return n
}

// termOf returns the term under which a worker takes shards with its call number count.
func termOf(worker string, count int64) ownership.Term {
	return ownership.Term(fmt.Sprintf("%s %d", worker, count))
}
