package jobs

import (
	"context"
	"time"

	"rollcall/app/ownership"
)

const (
	flushEvery = 5 * time.Second
	flushRate  = 2000 // instances a second, if flushEvery would need more
	flushBytes = 1 << 20
)

// Flush writes the records of some of the worker's shards, in turn. It reaches each shard once in
// flushEvery, or less often if flushRate limits it.
func (w *Worker) Flush(ctx context.Context) error {
	w.mu.Lock()
	every := max(flushEvery.Seconds(), float64(w.entries)/flushRate)
	n := int(float64(w.owned)/every + 1)
	var some []int
	for k := range ownership.Shards {
		if len(some) == n {
			break
		}
		number := (w.flushed + 1 + k) % ownership.Shards
		if sh := w.shards[number]; sh != nil && (len(sh.entries)+len(sh.departures) > 0 || sh.stored) {
			some = append(some, number)
		}
	}
	if len(some) > 0 {
		w.flushed = some[len(some)-1]
	}
	w.mu.Unlock()
	return w.flush(ctx, some)
}

// flush writes the records of shards that the worker owns. If the store refuses one, the worker's
// next call asks for all of its shards and terms.
func (w *Worker) flush(ctx context.Context, numbers []int) error {
	began := time.Now()
	var flushes []ownership.Flush
	size := 0
	write := func() error {
		refused, err := w.Shares.Flush(ctx, flushes)
		if len(refused) > 0 {
			w.mu.Lock()
			w.member.RequestFull()
			w.mu.Unlock()
		}
		flushes, size = nil, 0
		return err
	}
	for _, n := range numbers {
		f, owned := w.record(n)
		if !owned {
			continue
		}
		flushes, size = append(flushes, f), size+len(f.Record)
		if size > flushBytes {
			if err := write(); err != nil {
				return err
			}
		}
	}
	if len(flushes) > 0 {
		if err := write(); err != nil {
			return err
		}
	}
	w.mu.Lock()
	w.stats.Flush = time.Since(began)
	w.mu.Unlock()
	return nil
}

// record returns the worker's record of a shard. The record is empty for a shard without instances and departures.
func (w *Worker) record(number int) (f ownership.Flush, owned bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	sh := w.shards[number]
	if sh == nil || w.member.Lost(time.Now()) {
		return f, false
	}
	f = ownership.Flush{Shard: number, Term: sh.term}
	if sh.stored = len(sh.entries)+len(sh.departures) > 0; !sh.stored {
		return f, true
	}
	f.Record = ownership.AppendRecord(make([]byte, 0, 256*len(sh.entries)), w.Now().UnixMilli())
	for id, e := range sh.entries {
		p := w.progress(id, e)
		f.Record = p.Append(f.Record)
	}
	for of, is := range sh.departures {
		p := ownership.Progress{ID: progressOf(of), Changed: is.number, Elapsed: w.ms() - is.began}
		f.Record = p.Append(f.Record)
	}
	return f, true
}

// progress returns the progress of an instance. The caller holds the lock.
func (w *Worker) progress(id string, e *target) ownership.Progress {
	p := ownership.Progress{ID: id, Changed: e.compact.ChangedAt().UnixMilli(), History: e.history.Packed(), Dispute: w.opinions.isDisputed(id)}
	if e.probe.Set() {
		p.Due = e.probe.At()
	}
	if e.stateEnd != nil {
		p.Elapsed = w.runs() - e.stateEnd.began
	}
	if e.overrideEnd != nil {
		p.Left = max(1, e.overrideEnd.at-w.runs())
	}
	return p
}

// Asked flushes a shard because a client reads one of its instances. It reports whether
// the worker owns the shard.
func (w *Worker) Asked(ctx context.Context, shard int) (bool, error) {
	w.mu.Lock()
	owned := shard >= 0 && shard < ownership.Shards && w.shards[shard] != nil
	w.mu.Unlock()
	if !owned {
		return false, nil
	}
	return true, w.flush(ctx, []int{shard})
}
