package chaos

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/anishathalye/porcupine"
	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/tests/redistest"
)

// entry is what the registry keeps of an instance, as far as the model goes.
type entry struct {
	rev   int64 // 0: it does not exist
	value string
	due   float64 // ms; of a claim, its token
}

// call is one operation on one instance. A claim, which is about all of them, is one of
// each.
type call struct {
	verb  string
	id    string
	rev   int64   // that it depends on
	token float64 // that it depends on; 0: none
	value string
	due   float64
	now   float64
}

// result is what a call returned. One whose connection broke returned nothing, and may
// have been carried out, or may yet be.
type result struct {
	known bool
	said  string // ok, conflict, lost, missing
	entry entry  // of get and claim
}

// lease is how long a claim lasts, and ahead how far workers look, both in ms.
const (
	lease = float64(app.ClaimLease / time.Millisecond)
	ahead = 1100
)

// apply is the registry as it should be: what a call makes of an entry, and returns.
func (c call) apply(e entry) (entry, result) {
	ok := func(after entry, seen entry) (entry, result) { return after, result{true, "ok", seen} }
	refuse := func(said string) (entry, result) { return e, result{true, said, entry{}} }
	claimed := c.token > 0 && e.due != c.token || e.rev == 0 && c.token > 0
	switch c.verb {
	case "get":
		if e.rev == 0 {
			return refuse("missing")
		}
		return ok(e, entry{rev: e.rev, value: e.value})
	case "claim":
		held := e.due > c.now && e.due != math.Trunc(e.due)
		if e.rev == 0 || held || e.due > c.now+ahead {
			return refuse("missing")
		}
		return ok(entry{e.rev, e.value, c.now + lease + 0.5}, entry{e.rev, e.value, c.now + lease + 0.5})
	case "renew":
		if claimed {
			return refuse("lost")
		}
		return ok(entry{e.rev, e.value, c.now + lease + 0.5}, entry{due: c.now + lease + 0.5})
	case "settle":
		if claimed {
			return e, result{true, "ok", entry{}}
		}
		return ok(entry{e.rev, e.value, c.due}, entry{})
	}
	switch { // commit and leave
	case e.rev != c.rev:
		return refuse("conflict")
	case claimed:
		return refuse("lost")
	case c.verb == "leave":
		return ok(entry{}, entry{})
	}
	return ok(entry{e.rev + 1, c.value, c.due}, entry{})
}

var registry = porcupine.NondeterministicModel{
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
		after, want := input.(call).apply(state.(entry))
		switch got := output.(result); {
		case !got.known:
			return []any{state, after}
		case got == want:
			return []any{after}
		}
		return nil
	},
	DescribeOperation: func(input, output any) string { return fmt.Sprintf("%+v -> %+v", input, output) },
}

// TestCommitsAndClaimsAreLinearizable has workers read, claim, write and remove the same
// few instances, over connections that break in the middle of calls, and looks for an order
// of all the calls in which each returned what it should.
func TestCommitsAndClaimsAreLinearizable(t *testing.T) {
	t.Parallel()
	const workers, instances = 6, 8
	calls := 400 // of each worker
	if !all {
		calls = 150
	}
	server := redistest.Start(t)
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
	verdict, info := porcupine.CheckOperationsVerbose(registry.ToModel(), h.calls, time.Minute)
	t.Logf("%d calls, %d of them cut off: %s", len(h.calls), h.cut, verdict)
	if verdict != porcupine.Ok {
		path := t.ArtifactDir() + "/history.html"
		t.Errorf("no order of the calls explains what they returned: %s; see %s (go test -artifacts): %v",
			verdict, path, porcupine.VisualizePath(registry.ToModel(), info, path))
	}
	if h.cut < calls/20 || h.cut > len(h.calls)/2 {
		t.Errorf("%d of %d calls were cut off: nothing was tested", h.cut, len(h.calls))
	}
	if n := len(h.done); n < 7 {
		t.Errorf("only these were done: %v", h.done)
	}
}

// history is what all workers did. The clock is theirs: scripts are told the time.
type history struct {
	began time.Time
	clock atomic.Int64 // ms

	mu    sync.Mutex
	calls []porcupine.Operation
	cut   int
	done  map[string]int // what calls returned, by verb
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

	known  map[string]app.Instance // as they were read last
	claims map[string]app.Claim
}

func newWorker(h *history, n int, addr string, dice *rand.Rand) *worker {
	w := &worker{history: h, n: n, dice: dice, known: map[string]app.Instance{}, claims: map[string]app.Claim{}}
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

// brittle is a connection that breaks now and then: before a request has left, in the
// middle of it, or when it is there and the answer is not.
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
		_ = c.CloseWrite() // what was sent arrives
	}
	_ = b.Close()
	return 0, net.ErrClosed
}

// act makes one call at random, as far as possible about one instance.
func (w *worker) act(ctx context.Context, id string, instances int) {
	w.now = time.UnixMilli(w.history.clock.Add(w.dice.Int64N(300)) + int64(5*w.n)) // no two clocks agree
	ms := float64(w.now.UnixMilli())
	due := ms + float64(w.dice.IntN(3000))
	c := call{id: id, now: ms, due: due, value: fmt.Sprintf("%d.%d", w.n, w.written)}
	known, claim := w.known[id], w.claims[id]
	called := int64(time.Since(w.history.began))
	switch verb := w.dice.IntN(10); {
	case verb < 3:
		claims, err := w.store.Probes().Claim(ctx, w.now.Add(ahead*time.Millisecond), 100)
		w.claimed(claims, err, ms, called, instances)
	case verb == 3 && claim.Token != "":
		c.verb, c.token = "renew", number(claim.Token)
		kept, err := w.store.Probes().Renew(ctx, []app.Claim{claim})
		r := outcome(err)
		switch {
		case r.known && len(kept) == 0:
			r.said = "lost"
		case r.known:
			r.entry.due, w.claims[id] = number(kept[0].Token), kept[0]
		}
		w.history.add(w.n, c, called, r)
	case verb == 4 && claim.Token != "":
		c.verb, c.token = "settle", number(claim.Token)
		err := w.store.Probes().Settle(ctx, []app.Settlement{{Claim: claim, Due: time.UnixMilli(int64(due))}})
		w.history.add(w.n, c, called, outcome(err))
		delete(w.claims, id)
	case verb < 7:
		w.write(ctx, c, known, claim, called)
	default:
		c.verb = "get"
		i, err := w.store.Get(ctx, id)
		r := outcome(err)
		if r.said == "ok" {
			r.entry = entry{rev: i.Rev, value: i.Meta["v"]}
		}
		if r.known {
			w.known[id] = i
		}
		w.history.add(w.n, c, called, r)
	}
}

// write commits what follows from what was read last: often it is out of date.
func (w *worker) write(ctx context.Context, c call, known app.Instance, claim app.Claim, called int64) {
	w.written++
	c.verb, c.rev = "commit", known.Rev
	was := app.Instance{Rev: known.Rev, ID: c.id, Service: "s", Address: c.id + ":1", State: app.Starting}
	is := was
	is.Meta, is.Due, is.Check = map[string]string{"v": c.value}, time.UnixMilli(int64(c.due)), app.DefaultCheck(app.TCP)
	if known.Rev > 0 && w.dice.IntN(5) == 0 {
		c.verb, is.State = "leave", app.Gone
	}
	step := app.Step{Was: was, Is: is}
	if claim.Token != "" {
		step.Claim, c.token = &claim, number(claim.Token)
	}
	_, err := w.store.Commit(ctx, app.Change{Steps: []app.Step{step}})
	r := outcome(err)
	w.history.add(w.n, c, called, r)
	delete(w.claims, c.id)
	delete(w.known, c.id)
	if r.said == "ok" && c.verb == "commit" {
		known.Rev++
		w.known[c.id] = known
	}
}

// claimed writes down a claim for every instance there is.
func (w *worker) claimed(claims []app.Claim, err error, now float64, called int64, instances int) {
	got := map[string]result{}
	for _, k := range claims {
		i := k.Instance
		w.known[i.ID], w.claims[i.ID] = i, k
		got[i.ID] = result{true, "ok", entry{i.Rev, i.Meta["v"], number(k.Token)}}
	}
	for n := range instances {
		id := fmt.Sprint("i", n)
		r, there := got[id]
		if !there {
			if r = outcome(err); r.known {
				r.said = "missing"
			}
		}
		w.history.add(w.n, call{verb: "claim", id: id, now: now}, called, r)
	}
}

// outcome is what an error tells of a call.
func outcome(err error) result {
	for said, of := range map[string]error{"conflict": app.ErrConflict, "lost": app.ErrClaimLost, "missing": app.ErrNotFound} {
		if errors.Is(err, of) {
			return result{known: true, said: said}
		}
	}
	if err != nil {
		return result{}
	}
	return result{known: true, said: "ok"}
}

func number(token string) float64 { f, _ := strconv.ParseFloat(token, 64); return f }
