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
	"rollcall/app/registry"
	"rollcall/jobs/selfcheck"
)

const (
	opinionMargin   = 200 * time.Millisecond // added to the check's timeout: an opinion that takes longer is late
	questionRate    = 100                    // questions of a worker in a second; further failures go by the recent answers
	questionsAtOnce = 64                     // questions of other workers in progress at once; the worker drops further ones
	pollMemory      = 3 * time.Second        // how long an answer decides failures without a question of their own
	giveAfter       = 30 * time.Second       // a longer dispute moves the instance's shard to the other worker
	maxGifts        = 8                      // a worker with more disputed shards releases all of its shards
	keepFor         = 10 * time.Minute       // how long a worker keeps a shard that another worker gave
	reviewEvery     = 5 * time.Second        // how often an unfit worker probes the instances in dispute
	disputeFor      = 10 * time.Second       // a dispute without answers lasts this long
	disputesOver    = time.Minute            // after this time without a dispute the next one writes an event
)

// Peers carries questions to other workers, and their answers back to the methods Question and Opinion of a Worker.
type Peers interface {
	SendQuestion(ctx context.Context, q ownership.Question) error
	SendOpinion(ctx context.Context, o ownership.Opinion) error
}

// opinions are the second opinions of one worker: whether another worker reaches the instances whose probes got no
// answer here. The lock is separate from the worker's and never held during I/O.
type opinions struct {
	mu       sync.Mutex
	number   int64
	pending  map[int64]*opinion
	last     map[string]*opinion // by instance id: about its last failure
	second   time.Time           // the start of the second that asked counts
	asked    int
	polled   []answered // of the last pollMemory, oldest first
	disputes map[string]*dispute
	ended    time.Time // when the last dispute was last confirmed
	unfit    bool      // too many shards are disputed: the worker wants no shards
	reviewed time.Time
	working  int // questions of other workers in progress
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
	last  time.Time // when the last opinion contradicted this worker
	peer  string
}

func newOpinions() *opinions {
	return &opinions{pending: map[int64]*opinion{}, last: map[string]*opinion{}, disputes: map[string]*dispute{}}
}

// needsOpinion reports whether the worker's own network may have caused a failure of a healthy instance: the instance's
// host did not answer.
func (w *Worker) needsOpinion(i app.Instance, r app.Result) bool {
	return i.State == app.Healthy && !r.Passed && r.Conclusive() && !r.Code.ProvesPath() && !w.self.IsOwn(i)
}

// ask asks another worker about a failure, and returns the opinion about the failure before it, or nil. The answer
// arrives during the next probe, so it does not delay a removal with fall=2.
func (w *Worker) ask(i app.Instance) (before, now *opinion) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	before = o.last[i.ID]
	delete(o.last, i.ID) // an opinion counts for one failure only
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
			w.Log.DebugContext(w.ctx, "cannot ask another worker for its opinion", "instance", i.ID, "worker", q.To, "err", err)
		}
	})
	return before, now
}

// peers returns the other workers that trust their own network. The caller holds the worker's lock.
func (w *Worker) peers() (ids []string) {
	for _, p := range w.member.Peers() {
		if p.Worker != w.member.ID() && !p.Suspended {
			ids = append(ids, p.Worker)
		}
	}
	return ids
}

// mayAsk counts a question and reports whether the rate allows it.
func (o *opinions) mayAsk(now time.Time) bool {
	if now.Sub(o.second) >= time.Second {
		o.second, o.asked = now, 0
	}
	o.asked++
	return o.asked <= questionRate
}

// Opinion accepts another worker's answer. It ignores an answer that is late, repeated or for another worker.
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

// isDisputed reports whether another worker reaches an instance that this one would remove. It waits for the opinion
// about. A nil about means that no worker was asked; the recent answers about other instances then decide.
func (w *Worker) isDisputed(ctx context.Context, i app.Instance, about *opinion) bool {
	if about != nil {
		about.wait(ctx)
	}
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	now := time.Now()
	passed, known, peer := o.answer(about, now)
	d := o.disputes[i.ID]
	switch {
	case passed:
		if about == nil {
			w.confirm(ctx, i, peer, "other workers reach", now)
		} else {
			w.confirm(ctx, i, peer, "worker "+peer+" reaches", now)
		}
		return true
	case !known && d != nil && now.Sub(d.last) < disputeFor: // a lost answer does not end a dispute
		return true
	}
	delete(o.disputes, i.ID)
	return false
}

// confirm begins or extends a dispute, with an event if it needs one. The caller holds the lock of the opinions.
func (w *Worker) confirm(ctx context.Context, i app.Instance, peer, reaches string, now time.Time) {
	if !w.opinions.confirm(i.ID, peer, now) {
		return
	}
	reason := fmt.Sprintf("%s instances that do not answer this worker, such as %s at %s: they are not removed", reaches, i.ID, i.Address)
	w.writes.Go(func() { w.Changed(context.WithoutCancel(ctx), app.EventDisputed, reason) })
}

// wait waits until the answer arrives, or is late.
func (p *opinion) wait(ctx context.Context) {
	select {
	case <-p.got:
	case <-time.After(time.Until(p.until)):
	case <-ctx.Done():
	}
}

// answer returns the answer of the opinion about. known is false without an answer. A nil about means that no worker was
// asked; passed is then the majority of the recent answers.
func (o *opinions) answer(about *opinion, now time.Time) (passed, known bool, peer string) {
	if about == nil {
		return o.poll(now), false, "others"
	}
	return about.passed, about.known, about.peer
}

// confirm begins a dispute or extends it. It reports whether the dispute needs an event: no other dispute was confirmed
// within disputesOver.
func (o *opinions) confirm(id, peer string, now time.Time) (needsEvent bool) {
	d := o.disputes[id]
	if d == nil {
		d = &dispute{since: now}
		o.disputes[id] = d
	}
	d.last, d.peer = now, peer
	needsEvent = now.Sub(o.ended) > disputesOver
	o.ended = now
	return needsEvent
}

// poll reports whether more than half of the recent answers were passes.
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

// endDispute ends a dispute: the instance answers this worker, or the worker does not own it any more.
func (o *opinions) endDispute(id string) {
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

// disputed counts the instances that another worker reaches and this one does not.
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

// Question probes an instance for another worker. It answers if the instance passes, or if the instance fails
// and this worker reaches its own witnesses.
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
		w.answerQuestion(w.ctx, q)
		o.mu.Lock()
		o.working--
		o.mu.Unlock()
	})
}

func (w *Worker) answerQuestion(ctx context.Context, q ownership.Question) {
	i, known := w.Replica.Instance(q.Instance)
	if !known || i.Address != q.Address {
		return
	}
	passed, certain := w.opinionOf(ctx, i)
	if !certain {
		return
	}
	if err := w.Peers.SendOpinion(ctx, ownership.Opinion{Number: q.Number, From: q.To, To: q.From, Passed: passed}); err != nil {
		w.Log.DebugContext(ctx, "cannot send an opinion to another worker", "instance", i.ID, "worker", q.From, "err", err)
	}
}

// opinionOf probes a healthy instance. The opinion is certain unless the failure may be this worker's.
func (w *Worker) opinionOf(ctx context.Context, i app.Instance) (passed, certain bool) {
	if i.State != app.Healthy || !i.Understood() {
		return false, false
	}
	r := w.Prober.Probe(ctx, i)
	if ctx.Err() != nil || !r.Conclusive() {
		return false, false
	}
	return r.Passed, r.Passed || w.self.Allow(ctx, registry.Outcome{Was: i, Result: r})
}

// gifts returns the shards of lasting disputes, each with the worker that reaches its instance. With more than
// maxGifts the worker becomes unfit and releases all its shards. The caller holds the worker's lock.
func (w *Worker) gifts(now time.Time) (gifts []ownership.Gift) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	o.dropOverdue(now)
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
	if len(gifts) > maxGifts {
		o.becomeUnfit()
	}
	if o.unfit {
		return nil
	}
	return slices.DeleteFunc(gifts, func(g ownership.Gift) bool { return !slices.Contains(w.peers(), g.Worker) })
}

// dropOverdue drops questions after the time for their answers. The caller holds the lock of o.
func (o *opinions) dropOverdue(now time.Time) {
	for number, is := range o.pending {
		if now.After(is.until) {
			delete(o.pending, number)
		}
	}
}

// becomeUnfit makes the worker unfit, with a sample of its disputes: a sample shows as well that the network is back. The
// caller holds the lock of o.
func (o *opinions) becomeUnfit() {
	if o.unfit {
		return
	}
	o.unfit = true
	for id := range o.disputes {
		if len(o.disputes) > selfcheck.SampleSize {
			delete(o.disputes, id)
		}
	}
}

// review probes the sample of disputed instances of an unfit worker. The worker is fit again once it reaches
// every instance of the sample that is still healthy. review does not wait for the probes.
func (w *Worker) review(ctx context.Context) {
	o := w.opinions
	o.mu.Lock()
	defer o.mu.Unlock()
	if !o.unfit || time.Since(o.reviewed) < reviewEvery {
		return
	}
	o.reviewed = time.Now()
	ids := slices.Collect(maps.Keys(o.disputes))
	w.asking.Go(func() {
		var probes sync.WaitGroup
		for _, id := range ids {
			probes.Go(func() {
				i, known := w.Replica.Instance(id)
				if !known || i.State != app.Healthy || !w.needsOpinion(i, w.Prober.Probe(ctx, i)) {
					o.endDispute(id)
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
