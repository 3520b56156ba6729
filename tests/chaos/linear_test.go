package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/tests/harness"
)

// entry is the model's state of an instance and its shard.
type entry struct {
	value string // of the document, unique for each write; empty: no document
	term  string // the owner's term; empty: the shard is free
	flush string // the owner's last flush
}

// call is one operation on one instance. A call of own, about all shards, counts once per instance.
type call struct {
	verb    string
	id      string
	was     string // the value that it requires
	term    string // the term that it requires; empty: none
	value   string
	worker  string
	count   int64
	release bool
}

// result is the result of a call. A call whose connection broke has no result; Redis may have run it,
// or may still run it.
type result struct {
	known bool
	said  string // ok, conflict, lost, missing, refused
	seen  string // of get: the value; of own: the term
}

// way is one possible outcome of a call.
type way struct {
	after entry
	said  result
}

// apply is the specification of the registry: the next entry and the result of a call.
func (c call) apply(e entry) []way {
	one := func(after entry, said, seen string) []way { return []way{{after, result{true, said, seen}}} }
	owner, _, _ := strings.Cut(e.term, " ")
	switch c.verb {
	case "get":
		if e.value == "" {
			return one(e, "missing", "")
		}
		return one(e, "ok", e.value)
	case "own":
		free, mine := e, e
		free.term, mine.term = "", fmt.Sprintf("%s %d", c.worker, c.count)
		switch {
		case owner == c.worker && !c.release:
			return one(e, "ok", e.term)
		case owner == c.worker || e.term == "": // as its share allows
			return append(one(free, "ok", ""), one(mine, "ok", mine.term)...)
		}
		return one(e, "ok", "")
	case "stop":
		if owner == c.worker {
			e.term = ""
		}
		return one(e, "ok", "")
	case "flush":
		if e.term != c.term {
			return one(e, "refused", "")
		}
		e.flush = c.value
		return one(e, "ok", "")
	case "flushed":
		return one(e, "ok", e.flush)
	}
	switch { // commit and leave
	case c.term != "" && e.term != c.term:
		return one(e, "lost", "")
	case e.value != c.was:
		return one(e, "conflict", "")
	case c.verb == "leave":
		e.value = ""
		return one(e, "ok", "")
	}
	e.value = c.value
	return one(e, "ok", "")
}

var specification = porcupine.NondeterministicModel{
	Partition: func(history []porcupine.Operation) (parts [][]porcupine.Operation) {
		of := map[string][]porcupine.Operation{}
		for _, o := range history {
			id := o.Input.(call).id
			of[id] = append(of[id], o)
		}
		for _, part := range of {
			parts = append(parts, part)
		}
		return parts
	},
	Init: func() []any { return []any{entry{}} },
	Step: func(state, input, output any) []any {
		var after []any
		got := output.(result)
		if !got.known {
			after = append(after, state)
		}
		for _, w := range input.(call).apply(state.(entry)) {
			if !got.known || got == w.said {
				after = append(after, w.after)
			}
		}
		return after
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// TestCommitsAndOwnershipAreLinearizable lets workers take and give back shards, and read, write, flush
// and remove the same few instances, over connections that break in the middle of calls. It then searches
// an order of all calls in which each call returns its recorded result.
func TestCommitsAndOwnershipAreLinearizable(t *testing.T) {
	t.Parallel()
	const workers, instances = 6, 8
	calls := 400 // of each worker
	if !all {
		calls = 150
	}
	server := harness.StartRedis(t)
	h := &history{began: time.Now()}
	h.clock.Store(1_900_000_000_000)
	var running sync.WaitGroup
	for n := range workers {
		running.Go(func() {
			dice := rand.New(rand.NewPCG(7, uint64(n)))
			w := newWorker(h, n, server.Addr(), dice)
			defer func() { _ = w.rdb.Close() }()
			for range calls {
				w.act(t.Context(), fmt.Sprint("i", dice.IntN(instances)), instances)
			}
		})
	}
	running.Wait()
	verdict, info := porcupine.CheckOperationsVerbose(specification.ToModel(), h.calls, time.Minute)
	t.Logf("%d calls, %d of them cut off: %s", len(h.calls), h.cut, verdict)
	if verdict != porcupine.Ok {
		path := t.ArtifactDir() + "/history.html"
		t.Errorf("no order of the calls explains what they returned: %s; see %s (go test -artifacts): %v",
			verdict, path, porcupine.VisualizePath(specification.ToModel(), info, path))
	}
	if h.cut < calls/20 || h.cut > len(h.calls)/2 {
		t.Errorf("%d of %d calls were cut off: nothing was tested", h.cut, len(h.calls))
	}
	if n := len(h.done); n < 9 {
		t.Errorf("only these were done: %v", h.done)
	}
}

// history records the calls of all workers. The clock is the test's: scripts get the time as an argument.
type history struct {
	began time.Time
	clock atomic.Int64 // ms

	mu    sync.Mutex
	calls []porcupine.Operation
	cut   int
	done  map[string]int // results, by verb
}

func (h *history) add(worker int, c call, called int64, r result) {
	returned := int64(math.MaxInt64)
	if r.known {
		returned = int64(time.Since(h.began))
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.calls = append(h.calls, porcupine.Operation{ClientId: worker, Input: c, Call: called, Output: r, Return: returned})
	if !r.known {
		h.cut++
	}
	if h.done == nil {
		h.done = map[string]int{}
	}
	h.done[c.verb+" "+r.said]++
}

// worker is one process as Redis sees it.
type worker struct {
	history *history
	n       int
	dice    *rand.Rand
	rdb     *redis.Client
	store   *redisstore.Store
	now     time.Time
	written int

	known  map[string]app.Instance // as last read
	member *ownership.Member
	names  int // number of names so far
}

func newWorker(h *history, n int, addr string, dice *rand.Rand) *worker {
	w := &worker{history: h, n: n, dice: dice, known: map[string]app.Instance{}}
	w.join()
	var tosses atomic.Int64
	w.rdb = redis.NewClient(&redis.Options{
		Addr: addr, ContextTimeoutEnabled: true, MaxRetries: -1, PoolSize: 1,
		Dialer: func(ctx context.Context, network, addr string) (net.Conn, error) {
			c, err := new(net.Dialer).DialContext(ctx, network, addr)
			return &brittle{c, rand.New(rand.NewPCG(uint64(n), uint64(tosses.Add(1))))}, err
		},
	})
	w.store = redisstore.New(w.rdb, redisstore.Options{Now: func() time.Time { return w.now }, Timeout: 5 * time.Second})
	return w
}

// brittle is a connection that breaks at random: before a request, in the middle of it, or between the
// request and the answer.
type brittle struct {
	net.Conn
	dice *rand.Rand
}

func (b *brittle) Write(p []byte) (int, error) {
	n := len(p)
	switch b.dice.IntN(90) {
	case 0:
		n = 0
	case 1:
		n /= 2
	case 2:
	default:
		return b.Conn.Write(p)
	}
	_, _ = b.Conn.Write(p[:n])
	if c, ok := b.Conn.(*net.TCPConn); ok && n > 0 {
		_ = c.CloseWrite() // the request arrives
	}
	_ = b.Close()
	return 0, net.ErrClosed
}

// join gives the worker a new name.
func (w *worker) join() {
	w.names++
	w.member = ownership.NewMember(fmt.Sprintf("w%d.%d", w.n, w.names))
}

// act makes one random call, about one instance if possible.
func (w *worker) act(ctx context.Context, id string, instances int) {
	w.now = time.UnixMilli(w.history.clock.Add(w.dice.Int64N(300)) + int64(5*w.n)) // no two clocks agree
	w.written++
	c := call{id: id, value: fmt.Sprintf("%d.%d", w.n, w.written)}
	shard := ownership.ShardOf(id)
	term := string(w.member.Owned()[shard])
	called := int64(time.Since(w.history.began))
	switch verb := w.dice.IntN(12); {
	case verb < 4:
		w.own(ctx, called, instances)
	case verb < 6 && term != "":
		c.verb, c.term = "flush", term
		refused, err := w.store.Flush(ctx, []ownership.Flush{{Shard: shard, Term: ownership.Term(term), Record: []byte(c.value)}})
		r := outcome(err)
		if len(refused) > 0 {
			r.said = "refused"
		}
		w.history.add(w.n, c, called, r)
	case verb == 6:
		c.verb = "flushed"
		records, err := w.store.Flushed(ctx, []int{shard})
		r := outcome(err)
		if err == nil {
			r.seen = string(records[0])
		}
		w.history.add(w.n, c, called, r)
	case verb < 9:
		w.write(ctx, c, w.known[id], app.Fence{Shard: shard, Term: term}, called)
	default:
		c.verb = "get"
		i, err := w.store.Get(ctx, id)
		r := outcome(err)
		if r.said == "ok" {
			r.seen = i.Meta["v"]
		}
		if r.known {
			w.known[id] = i
		}
		w.history.add(w.n, c, called, r)
	}
}

// write commits a change to the last read document, which is often out of date.
func (w *worker) write(ctx context.Context, c call, known app.Instance, f app.Fence, called int64) {
	c.verb, c.was, c.term = "commit", known.Meta["v"], f.Term
	was := app.Instance{Rev: known.Rev, ID: c.id, Service: "s", Address: c.id + ":1", State: app.Starting}
	is := was
	is.Meta, is.Check = map[string]string{"v": c.value}, app.DefaultCheck(app.TCP)
	if known.Rev > 0 && w.dice.IntN(5) == 0 {
		c.verb, is.State = "leave", app.Gone
	}
	change := app.Change{Steps: []app.Step{{Was: was, Is: is}}, Fence: f}
	_, err := w.store.Commit(ctx, change)
	r := outcome(err)
	w.history.add(w.n, c, called, r)
	delete(w.known, c.id)
	if r.said == "ok" && c.verb == "commit" {
		w.known[c.id] = change.Steps[0].Is
	}
}

// own takes shards, gives some back, or leaves and joins under another name. It records the call for
// every instance.
func (w *worker) own(ctx context.Context, called int64, instances int) {
	var release []int
	for shard := range w.member.Owned() {
		if w.dice.IntN(3) == 0 {
			release = append(release, shard)
		}
	}
	now := time.Now()
	o := w.member.Next(now, release)
	o.Gone, o.Known, o.Stopping = nil, "", w.dice.IntN(8) == 0
	reply, err := w.store.Own(ctx, o)
	r := outcome(err)
	for n := range instances {
		id := fmt.Sprint("i", n)
		shard := ownership.ShardOf(id)
		c := call{verb: "own", id: id, worker: o.Worker, count: o.Count, release: slices.Contains(release, shard)}
		if o.Stopping {
			c.verb = "stop"
		}
		got := r
		if r.known {
			got.seen = string(reply.Owned[shard])
		}
		w.history.add(w.n, c, called, got)
	}
	switch {
	case o.Stopping || reply.Reused:
		w.join()
	case err != nil:
		w.member.Failed()
	default:
		w.member.Apply(now, reply)
	}
}

// outcome translates an error into a result.
func outcome(err error) result {
	for said, of := range map[string]error{"conflict": app.ErrConflict, "lost": app.ErrNotOwner, "missing": app.ErrNotFound} {
		if errors.Is(err, of) {
			return result{known: true, said: said}
		}
	}
	if err != nil {
		return result{}
	}
	return result{known: true, said: "ok"}
}
