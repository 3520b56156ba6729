// Package jobs has the worker, and the jobs of the processes: probes, the ends of states, the reconciliation of
// frontends, and the histories.
package jobs

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/app"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/registry"
	"rollcall/app/replica"
	"rollcall/jobs/pool"
	"rollcall/jobs/schedule"
	"rollcall/jobs/selfcheck"
)

// Shares stores the shards of the workers and the records that the workers flush.
type Shares interface {
	// Own makes one call of a worker. The store may have carried out a call that returned an error.
	Own(ctx context.Context, c ownership.Call) (ownership.Reply, error)
	// Flush writes the records of shards. It returns the shards that the store refused because
	// another worker owns them.
	Flush(ctx context.Context, flushes []ownership.Flush) (refused []int, err error)
	// Flushed reads the records of shards, in the order of shards. A shard without a record has an empty one.
	Flushed(ctx context.Context, shards []int) ([][]byte, error)
	// Beats reads the time of the last heartbeat of each instance, and the present time, both by the
	// store's clock in ms. The time is 0 for an instance without a heartbeat.
	Beats(ctx context.Context, ids []string) (now int64, beats []int64, err error)
}

// WorkerOptions are the parts of a worker. All but Vhosts and Late are required.
type WorkerOptions struct {
	ID       string // new at each start
	Shares   Shares
	Peers    Peers
	Prober   app.Prober
	Registry *registry.Registry
	Vhosts   Vhosts           // nil: the worker does nothing for vhosts
	Replica  *replica.Replica // the caller keeps it up to date
	Now      func() time.Time
	Log      *slog.Logger

	Statistics Statistics    // nil: the worker keeps no statistics
	Scale      history.Scale // of the statistics

	SettleTime time.Duration // how long a marked backend stays in its frontend

	Changed func(ctx context.Context, kind app.EventKind, reason string) // is called with the kind and the reason of an event about the worker itself
	Late    func(time.Duration)                                          // is called when a probe begins, with its delay since it was due
}

// Worker owns shards of the registry and probes their instances from memory. It asks the
// store for its shards once a second, and writes only changes.
//
// Each probe has a deadline and a goroutine of its own, so a slow target does not delay the
// others.
type Worker struct {
	WorkerOptions
	self     *selfcheck.Witnesses
	asking   sync.WaitGroup // probes for second opinions
	opinions *opinions
	start    time.Time // the origin of the worker's monotonic clock
	epoch    int64     // start in ms since 1970

	calling sync.Mutex // held during a call of Own
	left    bool       // the worker has released all shards and takes none again; guarded by calling
	unwatch func()

	mu      sync.Mutex
	member  *ownership.Member
	once    bool // Once runs, not Work
	yields  bool // the worker leaves all instances to a worker of a newer version
	foreign int  // instances with fields that this version does not know
	shards  [ownership.Shards]*share
	owned   int // shards that are not nil
	entries int
	wheel   *ownership.Wheel[target]
	endings *ownership.Wheel[ending]
	running int64 // the running clock: ms during which the worker had a lease and a web process was alive
	ticked  time.Time
	swept   time.Time
	redis   time.Duration // the store's clock minus the worker's, at the last call
	stepped int64         // running when the worker last noticed a step of the store's clock
	ready   bool          // redis is known
	flushed int           // the last shard that Flush wrote
	pool    pool.Pool[target]
	ctx     context.Context //nolint:containedctx // of Work: probes begin in calls that have none
	writes  sync.WaitGroup
	room    chan struct{}
	lookups selfcheck.Lookups
	stats   WorkerStats

	statistics statistics

	reported time.Time // when an error was last logged
	failures int       // errors since then

	settledAt int64       // stepped when the worker last read the departures
	search    atomic.Bool // the store may have marks whose announcement the worker has missed
}

// WorkerStats describes the state of a worker.
type WorkerStats struct {
	Shards    int
	Instances int
	Workers   int // at the last call
	HandOvers int64
	Disputed  int           // instances that another worker reaches and this one does not
	Flush     time.Duration // the duration of the last flush
}

// share is a shard that the worker owns.
type share struct {
	number   int
	term     ownership.Term
	entries  map[string]*target
	stored   bool      // the store may have a record of it
	received time.Time // when another worker gave it; zero: the shard was free

	counters map[string]*counter       // of the services of its instances
	watched  map[string]*history.Meter // services and vhosts of the shard, by series
	counted  bool                      // watched has counted all instances of the replica

	departures map[departing]departure // of its vhosts
	looked     int64                   // when the worker last read them, on its own clock, ms; 0: never
}

// NewWorker returns a worker and begins to watch the replica. The worker takes no shard before
// Work or Once runs.
func NewWorker(o WorkerOptions) *Worker {
	w := &Worker{
		WorkerOptions: o, member: ownership.NewMember(o.ID), start: time.Now(), room: make(chan struct{}, maxWrites),
		self: &selfcheck.Witnesses{Prober: o.Prober, Get: o.Registry.Get, Now: o.Now, Changed: o.Changed}, opinions: newOpinions(), ctx: context.Background(),
	}
	w.self.Any = w.sample
	w.epoch = w.start.UnixMilli()
	w.wheel = ownership.NewWheel[target](slot.Milliseconds(), wheelSlots, w.epoch)
	w.endings = ownership.NewWheel[ending](time.Second.Milliseconds(), wheelSlots, 0)
	w.pool.Init(&w.mu, w.run)
	w.unwatch = o.Replica.Watch(w.applyChange)
	return w
}

// ms returns the worker's clock, in ms since 1970. It starts with the machine's clock and
// continues with the monotonic one, so a step of the machine's clock does not affect it.
func (w *Worker) ms() int64 { return w.epoch + time.Since(w.start).Milliseconds() }

// at converts a time with a monotonic reading to the worker's clock.
func (w *Worker) at(t time.Time) int64 { return w.epoch + t.Sub(w.start).Milliseconds() }

// Stats returns the present state of the worker.
func (w *Worker) Stats() WorkerStats {
	w.mu.Lock()
	defer w.mu.Unlock()
	s := w.stats
	s.Shards, s.Instances, s.Workers, s.Disputed = w.owned, w.entries, w.member.Workers(), w.opinions.disputed()
	return s
}

// Owns returns the fence of the shard that name belongs to, if the worker owns that shard.
func (w *Worker) Owns(name string) (app.Fence, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sh := w.shards[ownership.ShardOf(name)]; sh != nil && !w.member.Lost(time.Now()) {
		return sh.fence(), true
	}
	return app.Fence{}, false
}

func (s *share) fence() app.Fence { return app.Fence{Shard: s.number, Term: string(s.term)} }

// Jobs returns the worker's jobs.
func (w *Worker) Jobs() []schedule.Job {
	return append([]schedule.Job{
		{Name: "own", Every: ownership.Every, Timeout: 5 * time.Second, Run: w.Tick},
		{Name: "expire", Every: time.Second, Timeout: 10 * time.Second, Run: w.End},
		{Name: "flush", Every: time.Second, Timeout: 5 * time.Second, Run: w.Flush},
		{Name: "history", Every: time.Second, Timeout: 10 * time.Second, Run: w.Contribute},
	}, w.vhostJobs()...)
}

// Swept returns when the worker last finished a sweep with no due probe waiting.
func (w *Worker) Swept() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.swept
}

// Tick renews the worker's lease, and takes and releases shards. It runs once a second, and
// at once when another worker announces that it starts or stops.
func (w *Worker) Tick(ctx context.Context) error {
	w.calling.Lock()
	defer w.calling.Unlock()
	if w.left || ctx.Err() != nil {
		return ctx.Err()
	}
	if err := w.waitReplica(ctx); err != nil {
		return err // without a fresh replica the worker does not renew its lease
	}
	if w.self.Suspended() {
		w.self.Recheck(context.WithoutCancel(ctx)) // does not wait for the witnesses
	}
	w.review(context.WithoutCancel(ctx)) // does not wait for the probes
	w.mu.Lock()
	gifts := w.gifts(time.Now())
	surplus := w.member.Surplus(w.cutOff())
	w.mu.Unlock()
	given := slices.Clone(surplus)
	for _, g := range gifts {
		given = append(given, g.Shard)
	}
	if len(given) > 0 {
		w.handOver(ctx, given)
	}
	return w.own(ctx, surplus, gifts, false)
}

// cutOff reports whether the worker distrusts its own network. It wants no shards then.
func (w *Worker) cutOff() bool { return w.self.Suspended() || w.opinions.isUnfit() }

// waitReplica returns the replica's error. It waits up to ownership.Every for the first read of the replica.
func (w *Worker) waitReplica(ctx context.Context) error {
	for until := time.Now().Add(ownership.Every); ; {
		_, err := w.Replica.Age(time.Now())
		if err == nil || w.Replica.Revision() != "" || time.Now().After(until) {
			return err
		}
		if err := app.Sleep(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// own makes one call and acts on the reply.
func (w *Worker) own(ctx context.Context, release []int, gifts []ownership.Gift, stopping bool) error {
	suspended := w.cutOff()
	sent := time.Now()
	w.mu.Lock()
	c := w.member.Next(sent, release)
	c.Suspended, c.Give = suspended, gifts
	w.yields = w.newerThere() && (w.yields || w.foreign > 0)
	stopping = stopping || w.yields
	c.Stopping = stopping
	w.mu.Unlock()
	r, err := w.Shares.Own(ctx, c)
	if err != nil {
		w.mu.Lock()
		w.member.Failed()
		w.mu.Unlock()
		return err
	}
	if r.Reused {
		w.Log.WarnContext(ctx, "another worker uses this worker's id: joining under a new one", "worker", c.Worker)
		w.mu.Lock()
		w.member = ownership.NewMember(WorkerID())
		w.mu.Unlock()
		return nil
	}
	w.mu.Lock()
	w.advance(sent, r)
	w.member.Apply(sent, r)
	w.confirmTimes()
	gained := w.adopt(stopping)
	w.mu.Unlock()
	if len(gained) == 0 {
		return nil
	}
	return w.take(ctx, gained, app.Revision(r.Last))
}

// format numbers the documents that this version writes and understands. A version that adds
// a field raises it. The id of a worker begins with its format.
const format = 1

// WorkerID returns a new id for a worker of this version.
func WorkerID() string { return fmt.Sprintf("%d-%s", format, rand.Text()[:12]) }

// newerThere reports whether a worker of a newer version is alive.
func (w *Worker) newerThere() bool {
	for _, p := range w.member.Peers() {
		if version, _, _ := strings.Cut(p.Worker, "-"); len(version) < len(p.Worker) {
			if n, err := strconv.Atoi(version); err == nil && n > format {
				return true
			}
		}
	}
	return false
}

// advance moves the running clock, which times the end of states. The clock stands still while
// the worker has no lease, and while no web process is alive to accept heartbeats.
func (w *Worker) advance(sent time.Time, r ownership.Reply) {
	if !w.ticked.IsZero() && sent.Sub(w.ticked) < ownership.Lease && w.member.WebAlive() {
		w.running += sent.Sub(w.ticked).Milliseconds()
	}
	w.ticked = sent
	w.setClock(r.Now)
}

// runs returns the present time of the running clock, in ms.
func (w *Worker) runs() int64 {
	since := time.Since(w.ticked)
	if w.ticked.IsZero() || since >= ownership.Lease || !w.member.WebAlive() {
		return w.running
	}
	return w.running + since.Milliseconds()
}

// setClock compares the store's clock with the worker's and notes a step.
func (w *Worker) setClock(now int64) {
	ahead := time.Duration(now-w.ms()) * time.Millisecond
	if w.ready && (ahead-w.redis).Abs() > clockStep {
		w.stepped = w.runs() + 1
	}
	w.redis, w.ready = ahead, true
}

// adopt drops the shards that the worker no longer owns, and returns the terms of the shards that it has gained.
func (w *Worker) adopt(stopping bool) (gained map[int]ownership.Term) {
	owned := w.member.Owned()
	for n, sh := range w.shards {
		term, is := owned[n]
		if sh != nil && (!is || term != sh.term || stopping) {
			w.drop(sh)
		}
		if is && w.shards[n] == nil && !stopping {
			if gained == nil {
				gained = map[int]ownership.Term{}
			}
			gained[n] = term
		}
	}
	return gained
}

// drop stops the work on a shard that the worker does not own any more.
func (w *Worker) drop(sh *share) {
	for _, e := range sh.entries {
		w.remove(e)
	}
	w.shards[sh.number] = nil
	w.owned--
	w.stats.HandOvers++
}

// handOver flushes and drops shards, before the worker releases them.
func (w *Worker) handOver(ctx context.Context, shards []int) {
	err := w.flush(ctx, shards)
	if err != nil {
		w.Log.WarnContext(ctx, "releasing shards without their last results", "err", err)
	}
	w.contributeLast(ctx, shards)
}

// takeAtOnce is the number of shards that take reads together. A larger number needs more memory, a smaller one more passes over the replica.
const takeAtOnce = 32

// take begins to work on shards. It first waits until the replica has the event that the store
// had written last when the worker took the shards, and reads the records of the last owners.
func (w *Worker) take(ctx context.Context, gained map[int]ownership.Term, after app.Revision) error {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, ownership.Lease)
	defer cancel()
	if after != "" {
		if err := w.Replica.WaitRevision(ctx, after); err != nil {
			return err // the next call tries again
		}
	}
	for numbers := range slices.Chunk(slices.Sorted(maps.Keys(gained)), takeAtOnce) {
		if err := w.takeSome(ctx, gained, numbers); err != nil {
			return err
		}
		if time.Since(began) > ownership.Every {
			break // the worker has to renew its lease; the next call takes the remaining shards
		}
	}
	return nil
}

// takeSome begins to work on some of the shards. The records of all shards together need as much memory as the registry.
func (w *Worker) takeSome(ctx context.Context, gained map[int]ownership.Term, numbers []int) error {
	records, err := w.Shares.Flushed(ctx, numbers)
	if err != nil {
		return err
	}
	known, departures := w.readRecords(ctx, numbers, records)
	w.mu.Lock()
	for k, n := range numbers {
		w.addShare(n, gained[n], len(records[k]) > 0, departures[n])
	}
	w.mu.Unlock()
	w.search.Store(true)
	w.countAll(gained)
	// From here on the replica reports each change. The loop adds the instances from before.
	for h := range w.Replica.Compacts() {
		if n := ownership.ShardOf(h.ID()); n >= numbers[0] && n <= numbers[len(numbers)-1] && gained[n] != "" {
			p, flushed := known[h.ID()]
			w.addTaken(n, gained[n], h, &p, flushed)
		}
	}
	return nil
}

// readRecords returns the progress of the instances in the records of shards, by id, and the departures of each shard.
func (w *Worker) readRecords(ctx context.Context, numbers []int, records [][]byte) (
	known map[string]ownership.Progress, departures map[int]map[departing]departure,
) {
	known, departures = map[string]ownership.Progress{}, map[int]map[departing]departure{}
	for k, record := range records {
		at, entries, err := ownership.ReadRecord(record)
		if err != nil {
			w.Log.WarnContext(ctx, "ignoring the unreadable record of a shard", "shard", numbers[k], "err", err)
		}
		credit := int64(0)
		if w.once { // the time since the last run, bounded because a clock may have been set
			credit = min(max(w.Now().UnixMilli()-at, 0), mostCredit.Milliseconds())
		}
		for p := range entries {
			p.Elapsed += credit
			if p.Left > 0 {
				p.Left = max(1, p.Left-credit)
			}
			of, is, found := departureOf(p, w.ms())
			if !found {
				known[p.ID] = p
				continue
			}
			if departures[numbers[k]] == nil {
				departures[numbers[k]] = map[departing]departure{}
			}
			departures[numbers[k]][of] = is
		}
	}
	return known, departures
}

// addShare begins to work on a shard, unless the worker has begun already. stored reports whether the store has a
// record of the shard. The caller holds the lock.
func (w *Worker) addShare(number int, term ownership.Term, stored bool, departures map[departing]departure) {
	if w.shards[number] != nil {
		return
	}
	sh := &share{number: number, term: term, entries: map[string]*target{}, stored: stored, departures: departures}
	if w.member.Received(number) {
		sh.received = time.Now()
	}
	w.shards[number] = sh
	w.owned++
}

// addTaken adds an instance of a shard that the worker has taken, unless the replica has reported the instance since,
// or the worker has lost that term of the shard.
func (w *Worker) addTaken(shard int, term ownership.Term, h *replica.Compact, p *ownership.Progress, flushed bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if sh := w.shards[shard]; sh != nil && sh.term == term && sh.entries[h.ID()] == nil {
		w.add(sh, h, p, flushed)
	}
}

// Work probes instances as they fall due, until ctx ends. Then it flushes and releases all shards.
func (w *Worker) Work(ctx context.Context) {
	probing, stop := context.WithCancel(ctx)
	w.mu.Lock()
	w.ctx = probing
	w.mu.Unlock()
	for ctx.Err() == nil {
		w.sweep(time.Now())
		// It wakes in the middle of a slot: no probe of the slot is early or late by more than half a slot.
		_ = app.Sleep(ctx, slot-(time.Duration(w.ms())*time.Millisecond+slot/2)%slot)
	}
	stop()
	w.leave(context.WithoutCancel(ctx))
}

// sweep starts the probes that are due.
func (w *Worker) sweep(now time.Time) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pool.Age(now)
	if w.member.Lost(now) {
		return // another worker may own the shards by now
	}
	at := w.at(now)
	w.wheel.Advance(at, func(e *target) { w.fire(e, at) })
	if w.pool.Backlog() == 0 {
		w.swept = w.Now()
	}
}

// fire starts the probe of an instance that is due. If the probe is late by more than an interval
// and catchUp, it waits for its phase. Otherwise all probes would start at once after an outage.
func (w *Worker) fire(e *target, now int64) {
	if late := now - e.probe.At(); late > catchUp.Milliseconds() && time.Duration(late)*time.Millisecond > e.compact.Interval() {
		w.wheel.Put(&e.probe, ownership.Due(e.hash, e.compact.Interval(), ownership.Steady, now))
		return
	}
	if !e.queued {
		w.enqueue(e, e.probe.At())
	}
}

// leave waits for the probes and writes in progress, flushes all shards and releases them.
func (w *Worker) leave(ctx context.Context) {
	w.pool.Close()
	w.self.Wait()
	w.asking.Wait()
	w.writes.Wait()
	w.calling.Lock()
	defer w.calling.Unlock()
	ctx, cancel := context.WithTimeout(ctx, leaveWithin)
	defer cancel()
	if err := w.flush(ctx, w.allShards()); err != nil {
		w.Log.WarnContext(ctx, "cannot flush the last results", "err", err)
	}
	w.contributeLast(ctx, w.allShards())
	w.unwatch()
	w.left = true
	if err := w.own(ctx, nil, nil, true); err != nil {
		w.Log.WarnContext(ctx, "cannot release the shards; another worker takes them after a lease", "err", err)
	}
}

func (w *Worker) allShards() (all []int) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for n, sh := range w.shards {
		if sh != nil {
			all = append(all, n)
		}
	}
	return all
}

// Once probes the instances that have fallen due since their last flush, flushes and leaves. If another
// worker is alive, Once returns without a probe. It replaces a worker that makes no calls.
func (w *Worker) Once(ctx context.Context) error {
	w.mu.Lock()
	w.ctx, w.once = ctx, true
	w.mu.Unlock()
	defer w.unwatch()
	if alone, err := w.awaitAlone(ctx); err != nil || !alone {
		return err
	}
	defer w.leave(context.WithoutCancel(ctx))
	if err := w.Tick(ctx); err != nil {
		return err
	}
	if err := w.Settle(ctx); err != nil {
		return err
	}
	w.mu.Lock()
	now := w.ms()
	w.wheel.Advance(now, func(e *target) { w.fire(e, now) })
	w.mu.Unlock()
	if err := w.pool.Idle(ctx, slot); err != nil {
		return err
	}
	w.writes.Wait()
	return w.End(ctx)
}

// awaitAlone waits until the worker is the only one. It reports false if another worker is alive.
func (w *Worker) awaitAlone(ctx context.Context) (alone bool, err error) {
	for {
		if err := w.callWithoutShards(ctx); err != nil {
			return false, err
		}
		w.mu.Lock()
		others, live := w.member.Workers(), w.member.OthersAlive()
		w.mu.Unlock()
		if others == 0 || live {
			return others == 0, nil
		}
		if err := app.Sleep(ctx, ownership.Every); err != nil {
			return false, err
		}
	}
}

// callWithoutShards makes a call that takes no shards.
func (w *Worker) callWithoutShards(ctx context.Context) error {
	w.calling.Lock()
	defer w.calling.Unlock()
	return w.own(ctx, nil, nil, true)
}

// pace returns how soon to probe an instance again, given the state after its last result. A
// first failure, and a pass of an instance that is not healthy, are confirmed at once.
func pace(i app.Instance) ownership.Pace {
	switch {
	case i.Waits():
		return ownership.Soon
	case i.State == app.Healthy && i.Streak == 1, i.State != app.Healthy && i.Streak > 0:
		return ownership.Now
	case i.State == app.Starting || i.Streak > 0:
		return ownership.Soon
	}
	return ownership.Steady
}

// sample returns up to n instances of the replica.
func (w *Worker) sample(_ context.Context, n int) ([]app.Instance, error) {
	var some []app.Instance
	for h := range w.Replica.Compacts() {
		if some = append(some, h.Instance()); len(some) == n {
			break
		}
	}
	return some, nil
}

// report logs the error of a write. It ignores ErrNotOwner and ErrConflict: another worker owns the
// instance, or the instance is gone or has changed. report logs at most one error a second, with
// the number of errors since the last line.
func (w *Worker) report(ctx context.Context, err error) {
	if err == nil || errors.Is(err, app.ErrNotOwner) || errors.Is(err, app.ErrConflict) {
		return
	}
	w.mu.Lock()
	w.failures++
	failures := w.failures
	if time.Since(w.reported) < time.Second {
		w.mu.Unlock()
		return
	}
	w.reported, w.failures = time.Now(), 0
	w.mu.Unlock()
	w.Log.WarnContext(ctx, "cannot write results; probing the instances again", "errors", failures, "err", err)
}
