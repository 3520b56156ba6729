package jobs

import (
	"context"
	"errors"
	"iter"
	"slices"
	"sync"
	"time"

	"rollcall/app"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/replica"
)

// Statistics keeps the histories of services and vhosts.
type Statistics interface {
	// Contribute adds a batch, unless the store has added it before. It returns the shards that the store refused because
	// another worker owns them. If there is one, Contribute does not add the batch.
	Contribute(ctx context.Context, b history.Batch) (refused []int, err error)
	// Compact moves the contributions to a series into its buckets. It returns app.ErrNotOwner if another worker owns the
	// shard of the fence.
	Compact(ctx context.Context, f app.Fence, series string) error
}

const (
	compactEvery   = 5    // fine buckets between two compactions of a series
	compactAtOnce  = 200  // series that one run compacts
	batchSeries    = 1000 // approximate number in one batch
	pendingBatches = 100  // with more, the worker drops the oldest
)

// counter counts the checks and flips of the instances of a service that are in one shard. The worker's lock guards
// it.
type counter struct {
	record  history.Record
	targets int
}

// statistics holds the worker's contributions to the histories.
type statistics struct {
	confirmed int64     // the worker's clock, ms, when it last confirmed times; guarded by the worker's lock
	at        time.Time // Redis's time at the last run, in the bucket that is open; guarded by the worker's lock
	compact   []string  // series that are due; guarded by the worker's lock

	sending sync.Mutex // held during calls; taken before the worker's lock
	number  int64      // of the last batch
	pending []pendingBatch
}

// pendingBatch is a batch that the store may or may not have added.
type pendingBatch struct {
	worker string
	number int64
	at     time.Time
	shards map[int]contributed
}

// contributed is the contribution of one shard.
type contributed struct {
	term   ownership.Term
	series map[string]*history.Record
}

// counts returns the counter of a service in a shard.
func (s *share) counts(service string) *counter {
	c := s.counters[service]
	if c == nil {
		if s.counters == nil {
			s.counters = map[string]*counter{}
		}
		c = &counter{}
		s.counters[service] = c
	}
	return c
}

// countIn sets the counter of a target's results. A nil counter counts no results.
func (e *target) countIn(c *counter) {
	if e.counter != nil {
		e.counter.targets--
	}
	if e.counter = c; c != nil {
		c.targets++
	}
}

// add adds a result to the history of the instance and to the statistics of its service.
func (e *target) add(r app.Result) {
	e.history.Add(r)
	if r.Conclusive() {
		e.counter.record.Check(r.Passed, r.Latency)
	}
}

// flipped counts a change between healthy and unhealthy.
func (e *target) flipped(was, is app.State) {
	if was == app.Healthy && is == app.Unhealthy || was == app.Unhealthy && is == app.Healthy {
		e.counter.record.Flips++
	}
}

// watch returns the meter of a service or vhost, or nil if the worker does not own the shard.
func (w *Worker) watch(name string, series func(string) string) *history.Meter {
	sh := w.shards[ownership.ShardOf(name)]
	if sh == nil || !sh.counted {
		return nil
	}
	return sh.watch(series(name), w.ms())
}

func (s *share) watch(series string, now int64) *history.Meter {
	x := s.watched[series]
	if x == nil {
		if s.watched == nil {
			s.watched = map[string]*history.Meter{}
		}
		x = history.NewMeter(now)
		s.watched[series] = x
	}
	return x
}

// countChange counts a change of the replica, for services and vhosts that the worker owns.
func (w *Worker) countChange(was, is *replica.Compact) {
	if w.Statistics == nil || sameCounts(was, is) {
		return
	}
	w.countInstance(was, -1)
	w.countInstance(is, 1)
	if is == nil || was != nil && was.Service() == is.Service() {
		return
	}
	if x := w.watch(is.Service(), history.ServiceSeries); x != nil {
		x.Record.Joined++
	}
}

// sameCounts reports whether a change of an instance leaves the counts of its service and its vhosts unchanged.
func sameCounts(was, is *replica.Compact) bool {
	return was != nil && is != nil && was.Service() == is.Service() && was.Routable() == is.Routable() && slices.Equal(was.Hosts(), is.Hosts())
}

// countInstance adds an instance n times to its service and vhosts. It ignores a nil instance.
func (w *Worker) countInstance(h *replica.Compact, n int) {
	if h == nil {
		return
	}
	routable := 0
	if h.Routable() {
		routable = n
	}
	now := w.ms()
	w.watch(h.Service(), history.ServiceSeries).Count(now, n, routable)
	for _, host := range h.Hosts() {
		w.watch(host, history.VhostSeries).Count(now, n, routable)
	}
}

// countAll counts the instances of services and vhosts in shards that the worker has taken.
func (w *Worker) countAll(gained map[int]ownership.Term) {
	if w.Statistics == nil {
		return
	}
	w.Replica.Read(func(all iter.Seq[*replica.Compact]) {
		w.mu.Lock()
		defer w.mu.Unlock()
		fresh := w.uncounted(gained)
		now := w.ms()
		for h := range all {
			routable := 0
			if h.Routable() {
				routable = 1
			}
			if sh := w.shards[ownership.ShardOf(h.Service())]; fresh[sh] {
				sh.watch(history.ServiceSeries(h.Service()), now).Count(now, 1, routable)
			}
			for _, host := range h.Hosts() {
				if sh := w.shards[ownership.ShardOf(host)]; fresh[sh] {
					sh.watch(history.VhostSeries(host), now).Count(now, 1, routable)
				}
			}
		}
	})
}

// uncounted returns the gained shards that are not counted yet, and notes that they are. The caller holds the lock.
func (w *Worker) uncounted(gained map[int]ownership.Term) map[*share]bool {
	fresh := map[*share]bool{}
	for n, term := range gained {
		if sh := w.shards[n]; sh != nil && sh.term == term && !sh.counted {
			fresh[sh], sh.counted = true, true
		}
	}
	return fresh
}

// confirmTimes confirms the availability until now, after a call that renewed the lease. It drops the
// time since the last confirmation if the lease ended in between.
func (w *Worker) confirmTimes() {
	now := w.ms()
	lease := w.statistics.confirmed > 0 && now-w.statistics.confirmed < ownership.Lease.Milliseconds()
	w.statistics.confirmed = now
	for _, sh := range w.shards {
		if sh == nil {
			continue
		}
		for _, x := range sh.watched {
			x.Confirm(now, lease)
		}
	}
}

// gather moves the counts of shards since the last call into pending batches. at is a time in their
// bucket, by Redis's clock. The caller holds sending and the lock.
func (w *Worker) gather(at time.Time, numbers iter.Seq[*share]) {
	s := &w.statistics
	names := map[string]bool{}
	b := pendingBatch{shards: map[int]contributed{}}
	put := func() {
		if len(b.shards) == 0 {
			return
		}
		s.number++
		b.worker, b.number, b.at = w.member.ID(), s.number, at
		s.pending = append(s.pending, b)
		b = pendingBatch{shards: map[int]contributed{}}
		clear(names)
	}
	for sh := range numbers {
		c := contributed{sh.term, map[string]*history.Record{}}
		add := func(series string, r *history.Record) {
			if r.IsZero() {
				return
			}
			if c.series[series] == nil {
				c.series[series] = &history.Record{}
			}
			c.series[series].Merge(r)
			names[series] = true
			*r = history.Record{}
		}
		for service, k := range sh.counters {
			if add(history.ServiceSeries(service), &k.record); k.targets == 0 {
				delete(sh.counters, service)
			}
		}
		for series, x := range sh.watched {
			if add(series, &x.Record); x.Idle() {
				delete(sh.watched, series)
			}
		}
		if len(c.series) > 0 {
			b.shards[sh.number] = c
		}
		if len(names) >= batchSeries {
			put()
		}
	}
	put()
	s.pending = s.pending[max(0, len(s.pending)-pendingBatches):]
}

// batch returns the batch to send. It merges the series of the shards.
func (p *pendingBatch) batch() history.Batch {
	b := history.Batch{Worker: p.worker, Number: p.number, Terms: map[int]string{}, Series: map[string]history.Contribution{}}
	for n, shard := range p.shards {
		b.Terms[n] = string(shard.term)
		for series, r := range shard.series {
			c := b.Series[series]
			c.At = p.at
			c.Record.Merge(r)
			b.Series[series] = c
		}
	}
	return b
}

// send sends the pending batches, oldest first. It repeats a batch without an answer unchanged. The
// caller holds sending.
func (w *Worker) send(ctx context.Context) error {
	for s := &w.statistics; len(s.pending) > 0; {
		p := &s.pending[0]
		if len(p.shards) > 0 {
			refused, err := w.Statistics.Contribute(ctx, p.batch())
			if err != nil {
				return err
			}
			if len(refused) > 0 { // the store has not added the batch: send the other shards again
				for _, n := range refused {
					delete(p.shards, n)
				}
				w.mu.Lock()
				w.member.RequestFull()
				w.mu.Unlock()
				continue
			}
		}
		s.pending = s.pending[1:]
	}
	return nil
}

// Contribute sends the statistics of each minute at its end, and compacts the series that are
// due. It runs once a second.
func (w *Worker) Contribute(ctx context.Context) error {
	if w.Statistics == nil {
		return nil
	}
	w.statistics.sending.Lock()
	defer w.statistics.sending.Unlock()
	w.mu.Lock()
	if w.ready && !w.member.Lost(time.Now()) {
		w.nextBucket()
	}
	w.mu.Unlock()
	if err := w.send(ctx); err != nil {
		return err
	}
	return w.compact(ctx)
}

// nextBucket gathers the open bucket if it has ended.
func (w *Worker) nextBucket() {
	s := &w.statistics
	now := w.storeTime()
	bucket := history.Index(now, w.Scale.Fine)
	if !s.at.IsZero() && bucket != history.Index(s.at, w.Scale.Fine) {
		w.gather(s.at, w.ownShares)
		for sh := range w.ownShares {
			for series := range sh.watched {
				if (uint64(bucket)+ownership.Hash(series))%compactEvery == 0 { //nolint:gosec // a phase
					s.compact = append(s.compact, series)
				}
			}
		}
	}
	s.at = now
}

// storeTime returns Redis's time.
func (w *Worker) storeTime() time.Time { return time.UnixMilli(w.ms()).Add(w.redis) }

func (w *Worker) ownShares(yield func(*share) bool) {
	for _, sh := range w.shards {
		if sh != nil && !yield(sh) {
			return
		}
	}
}

// compact compacts some of the series that are due.
func (w *Worker) compact(ctx context.Context) error {
	w.mu.Lock()
	s := &w.statistics
	n := min(len(s.compact), compactAtOnce)
	due := s.compact[:n:n]
	s.compact = s.compact[n:]
	w.mu.Unlock()
	for _, series := range due {
		f, mine := w.Owns(history.NameOf(series))
		if !mine {
			continue
		}
		err := w.Statistics.Compact(ctx, f, series)
		if err != nil && !errors.Is(err, app.ErrNotOwner) && !errors.Is(err, app.ErrConflict) {
			return err
		}
	}
	return nil
}

// contributeLast gathers the statistics of shards that the worker releases, and drops the
// shards in the same step, so that every result counts once. It sends the statistics while the terms are valid.
func (w *Worker) contributeLast(ctx context.Context, numbers []int) {
	if w.Statistics == nil {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.dropAll(numbers)
		return
	}
	w.statistics.sending.Lock()
	defer w.statistics.sending.Unlock()
	w.mu.Lock()
	if !w.member.Lost(time.Now()) && w.ready {
		w.confirmTimes()
		at := w.storeTime()
		w.gather(at, w.sharesOf(numbers))
	}
	w.dropAll(numbers)
	w.mu.Unlock()
	if err := w.send(ctx); err != nil {
		w.Log.WarnContext(ctx, "releasing shards without the statistics of the last minute", "shards", len(numbers), "err", err)
	}
}

// sharesOf returns the shares that the worker has of some shards. The caller holds the lock.
func (w *Worker) sharesOf(numbers []int) iter.Seq[*share] {
	return func(yield func(*share) bool) {
		for _, n := range numbers {
			if sh := w.shards[n]; sh != nil && !yield(sh) {
				return
			}
		}
	}
}

// dropAll drops shards.
func (w *Worker) dropAll(numbers []int) {
	for _, n := range numbers {
		if sh := w.shards[n]; sh != nil {
			w.drop(sh)
		}
	}
}
