package jobs

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
)

const (
	opinionMargin   = 200 * time.Millisecond // an opinion is late when it takes longer than the check's timeout and this
	questionRate    = 100                    // questions of a worker in a second; further failures go by the answers of the last seconds
	questionsAtOnce = 64                     // questions of others that a worker works on at once; it does not answer further ones
	pollMemory      = 3 * time.Second        // how long an answer stands for failures that were not asked about
	giveAfter       = 30 * time.Second       // a dispute that lasts so long moves the shard of the instance to the other worker
	maxGifts        = 8                      // a worker with more disputed shards gives up all of its shards
	keepFor         = 10 * time.Minute       // a shard that another worker gave is not given away again for so long
	reviewEvery     = 5 * time.Second        // how often a worker without shards probes what it disputed
	disputeFor      = 10 * time.Second       // a dispute outlives missing answers for so long
	disputesOver    = time.Minute            // after so long without a dispute the next one has an event
)

// Peers carries questions to other workers, and their answers back to the methods Question and Opinion of a Worker.
type Peers interface {
	SendQuestion(ctx context.Context, q ownership.Question) error
	SendOpinion(ctx context.Context, o ownership.Opinion) error
}

// opinions are the second opinions of one worker: whether another worker reaches the instances whose probes got no
// answer here. Its lock is its own and is held for moments only.
type opinions struct {
	mu       sync.Mutex
	number   int64
	pending  map[int64]*opinion
	last     map[string]*opinion // by instance: about its last failure
	second   time.Time           // the second that asked counts
	asked    int
	polled   []answered // of the last pollMemory, oldest first
	disputes map[string]*dispute
	ended    time.Time // of the last dispute
	told     bool      // the present disputes have their event
	unfit    bool      // too many shards are disputed: other workers own them
	reviewed time.Time
	working  int // on questions of others
}

// opinion is the other worker's answer about one failure.
type opinion struct {
	peer   string
	until  time.Time
	got    chan struct{} // closed when the answer arrives
	known  bool          // the answer arrived in time
	passed bool
}

type answered struct {
	at     time.Time
	passed bool
}

// dispute is an instance that another worker reaches and this one does not.
type dispute struct {
	since time.Time
	last  time.Time // of the last opinion that contradicted
	peer  string
}

func newOpinions() *opinions {
	return &opinions{pending: map[int64]*opinion{}, last: map[string]*opinion{}, disputes: map[string]*dispute{}}
}

// inDoubt reports whether a failure of a healthy instance may be the worker's own: no answer came from its host.
func (w *Worker) inDoubt(i app.Instance, r app.Result) bool {
	return i.State == app.Healthy && !r.Passed && r.Conclusive() && !r.Code.ProvesPath() && !w.self.isOwn(i)
}

// ask asks another worker about a failure, and returns the opinion about the failure before it, or nil. The answer
// arrives while the next probe is under way, so it delays no removal with fall=2.
func (w *Worker) ask(i app.Instance) (before, now *opinion) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	before = o.last[i.ID]
	delete(o.last, i.ID) // it counts for that failure only
	peers := w.peers()
	if len(peers) == 0 || !o.mayAsk(time.Now()) {
		return before, nil
	}
	o.number++
	now = &opinion{peer: peers[int(o.number)%len(peers)], until: time.Now().Add(i.Check.Timeout + opinionMargin), got: make(chan struct{})}
	q := ownership.Question{Number: o.number, From: w.member.ID(), To: now.peer, Instance: i.ID, Address: i.Address}
	o.pending[q.Number], o.last[i.ID] = now, now
	w.writes.Go(func() {
		if err := w.Peers.SendQuestion(w.ctx, q); err != nil {
			w.Log.DebugContext(w.ctx, "another worker could not be asked", "instance", i.ID, "worker", q.To, "err", err)
		}
	})
	return before, now
}

// peers are the workers that may be asked: all others that trust their own network. The worker's lock is held.
func (w *Worker) peers() (ids []string) {
	for _, p := range w.member.Peers() {
		if p.Worker != w.member.ID() && !p.Suspended {
			ids = append(ids, p.Worker)
		}
	}
	return ids
}

// mayAsk counts a question of this second.
func (o *opinions) mayAsk(now time.Time) bool {
	if now.Sub(o.second) >= time.Second {
		o.second, o.asked = now, 0
	}
	o.asked++
	return o.asked <= questionRate
}

// Opinion takes another worker's answer. It may come late, twice, or be for another worker.
func (w *Worker) Opinion(a ownership.Opinion) {
	w.mu.Lock()
	mine := a.To == w.member.ID()
	w.mu.Unlock()
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	is := o.pending[a.Number]
	if !mine || is == nil || is.peer != a.From {
		return
	}
	delete(o.pending, a.Number)
	if now := time.Now(); now.Before(is.until) {
		is.known, is.passed = true, a.Passed
		o.polled = append(o.polled, answered{now, a.Passed})
		close(is.got)
	}
}

// isDisputed reports whether another worker reaches an instance that this one would remove. about is the opinion to
// wait for; nil means that no worker was asked, and the answers about other instances stand for it.
func (w *Worker) isDisputed(ctx context.Context, i app.Instance, about *opinion) bool {
	o := w.opinions
	peer := ""
	if about != nil {
		select {
		case <-about.got:
		case <-time.After(time.Until(about.until)):
		case <-ctx.Done():
		}
		peer = about.peer
	}
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	passed, known := false, about != nil && about.known
	if about != nil {
		passed = about.passed
	} else {
		passed, peer = o.poll(now), "others"
	}
	d := o.disputes[i.ID]
	if !passed && !known && d != nil && now.Sub(d.last) < disputeFor { // a lost answer does not end a dispute
		return true
	}
	if !passed {
		delete(o.disputes, i.ID)
		return false
	}
	if d == nil {
		d = &dispute{since: now}
		o.disputes[i.ID] = d
	}
	d.last, d.peer = now, peer
	if now.Sub(o.ended) > disputesOver {
		o.told = false
	}
	if o.ended = now; !o.told {
		o.told = true
		reason := fmt.Sprintf("worker %s reaches instances that do not answer this worker, such as %s at %s: they are not removed", peer, i.ID, i.Address)
		w.writes.Go(func() { w.Changed(context.WithoutCancel(ctx), app.EventDisputed, reason) })
	}
	return true
}

// poll reports whether most of the last answers were passes.
func (o *opinions) poll(now time.Time) bool {
	o.polled = slices.DeleteFunc(o.polled, func(a answered) bool { return now.Sub(a.at) > pollMemory })
	passed := 0
	for _, a := range o.polled {
		if a.passed {
			passed++
		}
	}
	return passed > len(o.polled)-passed
}

// answers ends a dispute: the instance answers this worker, or is not its to judge any more.
func (o *opinions) answers(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.last, id)
	delete(o.disputes, id)
}

// forget drops the opinion about an instance that the worker no longer owns.
func (o *opinions) forget(id string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.last, id)
	if !o.unfit {
		delete(o.disputes, id)
	}
}

// disputed counts the instances that other workers reach and this one does not.
func (o *opinions) disputed() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.disputes)
}

// isDisputed reports whether another worker reaches an instance and this one does not.
func (o *opinions) isDisputed(id string) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.disputes[id] != nil
}

// Question probes an instance for another worker, and answers if it knows better: that the instance passes, or that
// it fails although this worker reaches its witnesses.
func (w *Worker) Question(q ownership.Question) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if q.To != w.member.ID() || w.ctx.Err() != nil {
		return
	}
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.working >= questionsAtOnce {
		return
	}
	o.working++
	w.writes.Go(func() {
		w.consider(w.ctx, q)
		o.mu.Lock()
		o.working--
		o.mu.Unlock()
	})
}

func (w *Worker) consider(ctx context.Context, q ownership.Question) {
	i, known := w.Replica.Instance(q.Instance)
	if !known || i.Address != q.Address || i.State != app.Healthy || !i.Understood() {
		return
	}
	r := w.Prober.Probe(ctx, i)
	if ctx.Err() != nil || !r.Conclusive() {
		return
	}
	if !r.Passed && !w.self.allow(ctx, app.Outcome{Was: i, Result: r}) {
		return
	}
	if err := w.Peers.SendOpinion(ctx, ownership.Opinion{Number: q.Number, From: q.To, To: q.From, Passed: r.Passed}); err != nil {
		w.Log.DebugContext(ctx, "another worker could not be answered", "instance", i.ID, "worker", q.From, "err", err)
	}
}

// gifts returns the shards to give to the workers that reach their instances: those of disputes that last. With too
// many of them the worker is unfit, and gives up all its shards. The worker's lock is held.
func (w *Worker) gifts(now time.Time) (gifts []ownership.Gift) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	for number, is := range o.pending {
		if now.After(is.until) {
			delete(o.pending, number)
		}
	}
	given := map[int]bool{}
	for id, d := range o.disputes {
		shard := ownership.ShardOf(id)
		sh := w.shards[shard]
		if sh == nil || given[shard] || now.Sub(d.since) < giveAfter || now.Sub(sh.received) < keepFor {
			continue
		}
		given[shard] = true
		gifts = append(gifts, ownership.Gift{Shard: shard, Worker: d.peer})
	}
	if len(gifts) > maxGifts && !o.unfit {
		o.unfit = true
		for id := range o.disputes { // a sample is enough to find out that the network is back
			if len(o.disputes) > sampleSize {
				delete(o.disputes, id)
			}
		}
	}
	if o.unfit {
		return nil
	}
	return slices.DeleteFunc(gifts, func(g ownership.Gift) bool { return !slices.Contains(w.peers(), g.Worker) })
}

// review has an unfit worker probe the sample of instances that it disputed. The worker is fit again when it reaches
// each of them that is still healthy.
func (w *Worker) review(ctx context.Context) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.unfit || time.Since(o.reviewed) < reviewEvery {
		return
	}
	o.reviewed = time.Now()
	ids := slices.Collect(maps.Keys(o.disputes))
	w.self.asking.Go(func() {
		var probes sync.WaitGroup
		for _, id := range ids {
			probes.Go(func() {
				i, known := w.Replica.Instance(id)
				if !known || i.State != app.Healthy || !w.inDoubt(i, w.Prober.Probe(ctx, i)) {
					o.answers(id)
				}
			})
		}
		probes.Wait()
		o.mu.Lock()
		defer o.mu.Unlock()
		o.unfit = len(o.disputes) > 0
	})
}

func (o *opinions) isUnfit() bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.unfit
}
