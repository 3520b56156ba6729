package ownership_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"rollcall/app/ownership"
	"rollcall/app/redisstore/storetest"
)

// The model is the protocol without Redis: workers that join, stop, die, freeze and run
// once; calls that fail, and calls that are carried out although they failed; writes that
// arrive late; a replica that lags; web processes that change documents meanwhile; a
// failover that loses writes; a lost hash; a flushed Redis. After each step it checks the
// invariants.
type model struct {
	r      *rand.Rand
	mutant string
	now    time.Time
	redis  *registry
	past   []*registry // one for each tick
	flying []write
	live   []*worker
	ids    int
	named  int // the number of the last ownership
	docs   int // the identity of the last document that was written
	quiet  int // ticks since the last disturbance
}

// registry is the content of Redis: the tables, and the documents in the order of their writes.
type registry struct {
	*storetest.Table
	docs   map[string]document
	stream []string // ids of the documents that changed, oldest first
	named  [ownership.Shards]held
}

// document is an instance. Redis compares the revision; identity is the true identity behind it.
type document struct{ counter, nonce, identity int }

func (g *registry) clone() *registry {
	return &registry{Table: g.Clone(), docs: maps.Clone(g.docs), stream: slices.Clone(g.stream), named: g.named}
}

type worker struct {
	*ownership.Member
	offset  time.Duration // of its calls within a tick
	frozen  int
	once    int // ticks until it leaves; 0: it stays
	stops   bool
	doubts  bool // suspended
	replica map[string]document
	at      int // how much of the stream its replica has read
	after   map[int]int
	held    map[int]held
	cut     int // ticks without Redis
}

// write is on its way to Redis.
type write struct {
	at      int // tick of its arrival
	shard   int
	id      string
	term    ownership.Term
	holding int // the identity of the ownership that it was decided under
	doc     document
	flush   bool
}

func (m *model) join(once int) {
	m.ids++
	id := fmt.Sprintf("w%d", m.ids)
	if m.mutant == "same id" {
		id = fmt.Sprintf("w%d", m.ids%3)
	}
	w := &worker{
		Member: ownership.NewMember(id), offset: time.Duration(m.r.IntN(1000)) * time.Millisecond, once: once,
		replica: map[string]document{}, after: map[int]int{}, held: map[int]held{},
	}
	maps.Copy(w.replica, m.redis.docs)
	w.at = len(m.redis.stream)
	m.live = append(m.live, w)
}

// change has a web process register or change an instance.
func (m *model) change(id string) {
	d := m.redis.docs[id]
	m.docs++
	nonce := m.docs
	if m.mutant == "revision" {
		nonce = 0
	}
	m.redis.docs[id] = document{d.counter + 1, nonce, m.docs}
	m.redis.stream = append(m.redis.stream, id)
}

var ids = func() (ids []string) {
	for n := range 12 {
		ids = append(ids, fmt.Sprintf("instance-%d", n))
	}
	return ids
}()

// look numbers the ownerships in Redis: a shard with another owner has a new number, even under an
// equal term.
func (m *model) look() {
	for shard := range ownership.Shards {
		if h := &m.redis.named[shard]; h.term != m.redis.Shards[shard] {
			m.named++
			*h = held{m.redis.Shards[shard], m.named}
		}
	}
}

type held struct {
	term ownership.Term
	n    int
}

// run plays one history and returns the first violation, or nil.
func run(seed uint64, mutant string, workers int) error {
	m := &model{
		r: rand.New(rand.NewPCG(seed, 1)), mutant: mutant, now: time.Unix(1_000_000, 0),
		redis: &registry{Table: storetest.NewTable(), docs: map[string]document{}},
	}
	m.redis.Mutant = mutant
	for _, id := range ids {
		m.change(id)
	}
	for range workers {
		m.join(0)
	}
	const disturbed = 40
	for tick := range disturbed + 24 {
		m.past = append(m.past, m.redis.clone())
		if tick < disturbed {
			for range m.r.IntN(3) {
				m.change(ids[m.r.IntN(len(ids))])
			}
			m.disturb()
			m.look()
		}
		for _, w := range slices.Clone(m.live) {
			if err := m.step(w, tick, tick < disturbed); err != nil {
				return err
			}
		}
		if err := m.arrive(tick); err != nil {
			return err
		}
		m.now = m.now.Add(time.Second)
		m.quiet++
		if tick < disturbed || slices.ContainsFunc(m.live, func(w *worker) bool { return w.frozen+w.cut > 0 }) {
			m.quiet = 0
		}
		if m.quiet > 3+2 { // a lease and two ticks
			for shard := range ownership.Shards {
				owner := m.redis.Shards[shard].Worker()
				if !slices.ContainsFunc(m.live, func(w *worker) bool { return w.ID() == owner }) && len(m.live) > 0 {
					return fmt.Errorf("tick %d: shard %d has no living owner, but %q", tick, shard, owner)
				}
			}
		}
	}
	return m.fair()
}

func (m *model) fair() error {
	fit := 0
	for _, w := range m.live {
		if !w.doubts {
			fit++
		}
	}
	for _, w := range m.live {
		n := 0
		for _, term := range m.redis.Shards {
			if term.Worker() == w.ID() {
				n++
			}
		}
		share := ownership.Share(len(m.live))
		if fit > 0 {
			share = ownership.Share(fit)
		}
		if w.doubts && fit > 0 {
			share = 0
		}
		if n > share {
			return fmt.Errorf("%s owns %d shards with %d workers", w.ID(), n, len(m.live))
		}
	}
	return nil
}

// disturb has something go wrong, now and then.
func (m *model) disturb() {
	any := func() *worker { return m.live[m.r.IntN(len(m.live))] }
	drop := func(w *worker) { m.live = slices.DeleteFunc(m.live, func(o *worker) bool { return o == w }) }
	switch x := m.r.IntN(100); {
	case len(m.live) == 0, x < 6 && len(m.live) < 8:
		m.join(0)
	case x < 9:
		m.join(1 + m.r.IntN(3))
	case x < 12 && len(m.live) > 1:
		drop(any()) // kill -9
	case x < 15 && len(m.live) > 1:
		any().stops = true
	case x < 21:
		any().frozen = 1 + m.r.IntN(12)
	case x < 26:
		any().cut = 1 + m.r.IntN(6)
	case x < 29:
		for _, w := range m.live {
			w.cut = 3 // Redis hangs for all
		}
	case x < 32 && len(m.past) > 3:
		m.redis = m.past[len(m.past)-1-m.r.IntN(3)].clone()
	case x < 33:
		m.redis.Workers, m.redis.Doubts = map[string]int64{}, map[string]bool{}
	case x < 34:
		docs, stream := m.redis.docs, m.redis.stream
		m.redis = &registry{Table: storetest.NewTable(), docs: docs, stream: stream}
		m.redis.Mutant = m.mutant
	case x < 39:
		w := any()
		w.doubts = !w.doubts
	case x < 41:
		m.redis.Shards[m.r.IntN(ownership.Shards)] = "edited by hand"
	}
}

// step is one tick of a worker: its call, then its work.
func (m *model) step(w *worker, tick int, rough bool) error {
	if w.frozen > 0 {
		w.frozen--
		return nil
	}
	now := m.now.Add(w.offset)
	switch {
	case w.cut > 0:
		w.cut--
		c := w.Next(now, nil)
		if m.r.IntN(3) == 0 { // carried out, and the answer is lost
			m.redis.Call(c)
			m.look()
		}
		w.Failed()
	case rough && m.r.IntN(20) == 0:
		w.Next(now, nil)
		w.Failed()
	default:
		c := w.Next(now, w.Surplus(w.doubts))
		c.Suspended = w.doubts
		c.Stopping = w.stops || w.once == 1
		if rough {
			c.Give = m.gifts(w)
		}
		r, _ := m.redis.Call(c)
		m.look()
		if r.Reused {
			return m.again(w)
		}
		w.Apply(now, r)
		for shard := range w.Owned() {
			if h := m.redis.named[shard]; w.held[shard] != h {
				w.held[shard], w.after[shard] = h, len(m.redis.stream)
			}
		}
		if c.Stopping {
			m.live = slices.DeleteFunc(m.live, func(o *worker) bool { return o == w })
			return nil
		}
		if w.once > 1 {
			w.once--
		}
	}
	if w.at > len(m.redis.stream) || m.r.IntN(3) > 0 { // else it lags
		for _, id := range m.redis.stream[min(w.at, len(m.redis.stream)):] {
			w.replica[id] = m.redis.docs[id]
		}
		if w.at > len(m.redis.stream) { // lost in a failover: read anew
			maps.Copy(w.replica, m.redis.docs)
		}
		w.at = len(m.redis.stream)
	}
	return m.work(w, now, tick)
}

// gifts gives the shard of one of a few instances to another worker, now and then: so few that a late write
// meets the shard after several gifts.
func (m *model) gifts(w *worker) []ownership.Gift {
	shard := ownership.ShardOf(ids[m.r.IntN(3)])
	if m.r.IntN(2) == 0 || w.Owned()[shard] == "" {
		return nil
	}
	return []ownership.Gift{{Shard: shard, Worker: m.live[m.r.IntN(len(m.live))].ID()}}
}

// again is a worker that finds its id in use: it joins under another one.
func (m *model) again(w *worker) error {
	m.live = slices.DeleteFunc(m.live, func(o *worker) bool { return o == w })
	m.join(0)
	return nil
}

// work decides writes from the replica and sends them.
func (m *model) work(w *worker, now time.Time, tick int) error {
	if w.Lost(now) {
		return nil
	}
	for _, id := range ids {
		shard := ownership.ShardOf(id)
		term, owned := w.Owned()[shard]
		if !owned {
			continue
		}
		if w.at < w.after[shard] && m.mutant != "early" {
			continue
		}
		if w.at < min(w.after[shard], len(m.redis.stream)) {
			return fmt.Errorf("tick %d: %s probes %s before its replica has the changes from before it took over", tick, w.ID(), id)
		}
		if m.r.IntN(4) > 0 {
			continue
		}
		f := write{at: tick + m.r.IntN(7), shard: shard, id: id, term: term, doc: w.replica[id], flush: m.r.IntN(2) == 0}
		f.holding = w.held[shard].n
		m.flying = append(m.flying, f)
	}
	return nil
}

// arrive has Redis accept or refuse the writes that are due.
func (m *model) arrive(tick int) error {
	var later []write
	for _, f := range m.flying {
		if f.at > tick {
			later = append(later, f)
			continue
		}
		term := m.redis.Shards[f.shard]
		fits := term == f.term
		if m.mutant == "worker" {
			fits = term != "" && countIn(term) == countIn(f.term)
		}
		if m.mutant == "fence" {
			fits = true
		}
		doc := m.redis.docs[f.id]
		if !fits || !f.flush && (doc.counter != f.doc.counter || doc.nonce != f.doc.nonce) {
			continue
		}
		if n := m.redis.named[f.shard].n; n != f.holding {
			return fmt.Errorf("tick %d: a write for %s that was decided under ownership %d (%s) is accepted under %d (%s)", tick, f.id, f.holding, f.term, n, term)
		}
		if !f.flush {
			if doc.identity != f.doc.identity {
				return fmt.Errorf("tick %d: a commit for %s is accepted on document %d, and was decided on document %d", tick, f.id, doc.identity, f.doc.identity)
			}
			m.change(f.id)
		}
	}
	m.flying = later
	return nil
}

func countIn(t ownership.Term) string { return string(t)[len(t.Worker()):] }

func TestNoWriteIsAcceptedUnderAnotherOwnership(t *testing.T) {
	t.Parallel()
	for seed := range uint64(200) {
		if err := run(seed, "", 1+int(seed%4)); err != nil {
			t.Fatalf("history %d: %v", seed, err)
		}
	}
}

func TestThreeHundredWorkersShareTheShards(t *testing.T) {
	t.Parallel()
	if err := run(1, "", 300); err != nil {
		t.Fatal(err)
	}
}

// Each rule of the protocol is there for a reason: without it the model finds a violation.
func TestEveryRuleIsNeeded(t *testing.T) {
	t.Parallel()
	for mutant, rule := range map[string]string{
		"term":          "a term has the worker's counter",
		"redis counter": "the counter of a term is the worker's own, not Redis's",
		"worker":        "a write names the worker",
		"fence":         "a write names the term",
		"same id":       "a worker's id is new at each start",
		"steal":         "only free shards are taken",
		"release":       "a worker gives back what is above its share",
		"revision":      "a revision has a nonce",
		"early":         "a new owner waits for its replica",
		"gift":          "a shard that is given away has a term with the receiver's counter",
	} {
		t.Run(rule, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(400) {
				if run(seed, mutant, 1+int(seed%4)) != nil {
					return
				}
			}
			t.Errorf("400 histories without the rule, and no violation")
		})
	}
}
