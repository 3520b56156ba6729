package ownership

import (
	"cmp"
	"maps"
	"slices"
	"strings"
	"time"
)

const (
	// Lease is how long a worker owns its shards after it sent its last successful call,
	// and how long a worker has to be silent before another one drops it.
	Lease = 3 * time.Second
	// Every is how often a worker calls.
	Every = time.Second

	// patience is the longest gap between two successful calls of an observer during which another
	// worker's silence counts. During a longer gap the observer may have been frozen, and the other
	// worker too.
	patience = 2 * time.Second
	// inFull is the number of calls per full answer.
	inFull = 3
)

// Peer is a worker with its counter.
type Peer struct {
	Worker string
	Count  int64

	Suspended bool // its self-check failed: it owns shards only if all workers are suspended
}

// Call is one call of a worker to own.lua.
type Call struct {
	Worker    string
	Count     int64  // the worker's own counter: higher with every call
	Stopping  bool   // the worker gives all shards back, or only reads the table
	Suspended bool   // the worker's self-check failed
	Gone      []Peer // workers to drop, each if its counter is still this one
	Release   []int  // shards to give back
	Give      []Gift // shards to give to another worker
	Limit     int    // the largest number of shards that the worker wants; 0 means its fair share
	Known     string // the version of the table that the worker has; the reply omits that table
}

// Gift is a shard that its owner gives to another live worker. The receiver owns it at once, under a term with
// the receiver's counter at that moment.
type Gift struct {
	Shard  int
	Worker string
}

// Reply is the answer to a Call.
type Reply struct {
	Reused  bool         // another worker has called with this id: the call did nothing
	Last    string       // id of the last event of the stream; empty: no event
	Now     int64        // the time by Redis's clock, ms since 1970
	Web     int64        // a counter that web processes raise once a second
	Workers []Peer       // all workers, except a stopping one
	Version string       // of the table: another one after every change
	Full    bool         // Owned is set; false if the caller has this version
	Owned   map[int]Term // of the caller
}

// Member is one worker's knowledge about the group of workers. Times are monotonic readings of this
// process's clock.
type Member struct {
	id    string
	count int64

	seen    map[string]sighting
	sent    time.Time // the last successful call; zero before it
	workers int
	peers   []Peer
	version string
	owned   map[int]Term

	web      int64
	webAlive time.Time // when web last changed, or when a gap in the calls ended
	webSeen  bool
}

type sighting struct {
	count int64
	since time.Time // when the first call that was answered with count was sent
	alive bool      // count has changed since the first sighting
}

// NewMember returns a worker that has not called yet. Each start needs a new id.
func NewMember(id string) *Member {
	return &Member{id: id, seen: map[string]sighting{}, owned: map[int]Term{}}
}

// ID returns the worker's id.
func (m *Member) ID() string { return m.id }

// Next returns the next call, which the caller sends now. Release lists the shards that the worker
// has flushed and gives back.
func (m *Member) Next(now time.Time, release []int) Call {
	m.count++
	c := Call{Worker: m.id, Count: m.count, Release: release, Known: m.version}
	if now.Sub(m.sent) <= patience {
		for worker, s := range m.seen {
			if now.Sub(s.since) >= Lease {
				c.Gone = append(c.Gone, Peer{Worker: worker, Count: s.count})
			}
		}
		slices.SortFunc(c.Gone, func(a, b Peer) int { return strings.Compare(a.Worker, b.Worker) })
	}
	if m.count%inFull == 0 { // an operator may have edited the table
		c.Known = ""
	}
	return c
}

// Apply applies the reply to a call that was sent at a time.
func (m *Member) Apply(sent time.Time, r Reply) {
	gap := sent.Sub(m.sent) > patience // at the first call, too
	m.sent, m.workers, m.peers = sent, len(r.Workers), r.Workers
	seen := make(map[string]sighting, len(r.Workers))
	for _, p := range r.Workers {
		if p.Worker == m.id {
			continue
		}
		s, known := m.seen[p.Worker]
		if gap || !known || s.count != p.Count {
			s = sighting{p.Count, sent, s.alive || known && s.count != p.Count}
		}
		seen[p.Worker] = s
	}
	m.seen = seen
	if gap || r.Web != m.web {
		m.webAlive = sent
	}
	m.web, m.webSeen = r.Web, r.Web != 0
	if r.Full {
		m.owned, m.version = r.Owned, r.Version
	}
}

// Failed records that a call had no answer. The silence of other workers during the call proves
// nothing.
func (m *Member) Failed() {
	m.seen = map[string]sighting{}
	m.version = "" // Redis may have executed the call
}

// RequestFull makes the next reply a full one: Redis has refused a write that it should have
// accepted.
func (m *Member) RequestFull() { m.version = "" }

// Lost reports whether the worker's lease is over.
func (m *Member) Lost(now time.Time) bool { return m.sent.IsZero() || now.Sub(m.sent) >= Lease }

// Owned returns the shards and terms of the last reply. The caller must not write to the map.
func (m *Member) Owned() map[int]Term { return m.owned }

// Workers returns the number of workers at the last reply.
func (m *Member) Workers() int { return m.workers }

// Peers returns the workers of the last reply.
func (m *Member) Peers() []Peer { return m.peers }

// OthersAlive reports whether there are other workers, and the counter of each has changed.
func (m *Member) OthersAlive() bool {
	for _, s := range m.seen {
		if !s.alive {
			return false
		}
	}
	return len(m.seen) > 0
}

// WebAlive reports whether a web process has raised its counter within a lease, or none ever has.
func (m *Member) WebAlive() bool { return !m.webSeen || m.sent.Sub(m.webAlive) < Lease }

// Surplus returns the shards above the worker's fair share, which it flushes and gives back. The
// fair share of a suspended worker is zero while another worker is not suspended.
func (m *Member) Surplus(suspended bool) []int {
	fit := 0
	for _, p := range m.peers {
		if p.Worker != m.id && !p.Suspended {
			fit++
		}
	}
	share := 0
	switch {
	case suspended && fit == 0:
		share = Share(m.workers)
	case !suspended:
		share = Share(fit + 1)
	}
	if len(m.owned) <= share {
		return nil
	}
	// The worker keeps the newest shards: another worker may just have given it one.
	return slices.SortedFunc(maps.Keys(m.owned), func(a, b int) int {
		return cmp.Or(cmp.Compare(m.owned[b].Count(), m.owned[a].Count()), cmp.Compare(a, b))
	})[share:]
}

// Received reports whether another worker gave the worker this shard: its term has a counter of a call in which
// the worker did not take it.
func (m *Member) Received(shard int) bool { return m.owned[shard].Count() != m.count }
