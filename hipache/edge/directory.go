package edge

import (
	"context"
	"errors"
	"log/slog"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"rollcall/hipache"
)

// errRedisUnavailable means that nobody can say who answers for a host.
var errRedisUnavailable = errors.New("redis is away, and this host was not served before")

// directory knows who answers for a host: what Redis says, or what it said last
// while it is away. The first call that fails tells that it is; from then on no
// request waits for Redis, and one goroutine looks until it is back.
type directory struct {
	reader         *hipache.Reader
	marker         *hipache.Marker
	log            *slog.Logger
	timeout, retry time.Duration

	reads       *reads
	known       *memory
	unavailable atomic.Bool

	mu     sync.Mutex // held to start a lookout, so that close misses none
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup
}

func newDirectory(o Options) *directory {
	ctx, cancel := context.WithCancel(context.Background())
	d := &directory{
		reader:  hipache.NewReader(o.Redis, o.Keys),
		marker:  hipache.NewMarker(o.Redis, o.Keys, hipache.PassiveTTL),
		log:     o.Log,
		timeout: o.RedisTimeout,
		retry:   o.redisRetry,
		known:   newMemory(rememberMax, hipache.PassiveTTL),
		ctx:     ctx,
		cancel:  cancel,
	}
	d.reads = newReads(d.read)
	return d
}

// find returns the frontend of a requested host. Errors are those of hipache.Reader
// that are answers, and errRedisUnavailable.
func (d *directory) lookUp(host string) (hipache.Frontend, error) {
	if !d.unavailable.Load() {
		f, err := d.reads.lookup(host)
		switch {
		case err == nil:
			d.known.store(f)
			return f, nil
		case isAnswer(err):
			d.known.forget(host)
			return hipache.Frontend{}, err
		}
	}
	if f, ok := d.known.get(host); ok {
		return f, nil
	}
	return hipache.Frontend{}, errRedisUnavailable
}

// read asks Redis, unless it has turned out to be away since the hosts came
// together. It does so for all who wait for one of them, so for no one's context.
func (d *directory) read(hosts []string) []hipache.Found {
	if d.unavailable.Load() {
		return slices.Repeat([]hipache.Found{{Err: errRedisUnavailable}}, len(hosts))
	}
	found := d.readRedis(hosts...)
	for i, f := range found {
		if f.Err != nil && !isAnswer(f.Err) {
			d.redisLost(hosts[i], f.Err)
		}
	}
	return found
}

func (d *directory) readRedis(hosts ...string) []hipache.Found {
	ctx, cancel := context.WithTimeout(d.ctx, d.timeout)
	defer cancel()
	return d.reader.LookupAll(ctx, hosts...)
}

// isAnswer tells an error that is Redis's answer from one that means it is away.
func isAnswer(err error) bool {
	return errors.Is(err, hipache.ErrNoFrontend) || errors.Is(err, hipache.ErrWrongType)
}

// lost notes that Redis is away and starts the lookout, if it has not.
func (d *directory) redisLost(host string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil || !d.unavailable.CompareAndSwap(false, true) {
		return
	}
	d.log.Warn("redis is away, serving the last known lists", "err", err)
	d.wg.Go(func() { d.awaitRedis(host) })
}

// awaitRedis reads like a request does until it gets an answer: a Redis that still
// loads its data, or has lost its password, says PONG or takes connections too.
func (d *directory) awaitRedis(host string) {
	since := time.Now()
	tick := time.NewTicker(d.retry)
	defer tick.Stop()
	for {
		select {
		case <-d.ctx.Done():
			return
		case <-tick.C:
		}
		if err := d.readRedis(host)[0].Err; err == nil || isAnswer(err) {
			d.unavailable.Store(false)
			d.log.Info("redis is back", "away", time.Since(since))
			return
		}
	}
}

// mark takes a backend out of traffic for every proxy, unless it is the last open one,
// or for this process only while Redis is away. It outlives the request: its client
// may be gone.
func (d *directory) mark(ctx context.Context, f hipache.Frontend, b hipache.Backend) (marked bool) {
	d.known.recordFailure(f.Requested, b.URL)
	d.report(ctx, f, b, func(ctx context.Context) (err error) {
		marked, err = d.marker.Mark(ctx, f, b)
		return err
	})
	return marked
}

// announce has a backend that may be failing probed. It outlives the request, too.
func (d *directory) announce(ctx context.Context, f hipache.Frontend, b hipache.Backend) {
	d.report(ctx, f, b, func(ctx context.Context) error { return d.marker.Announce(ctx, f, b) })
}

func (d *directory) report(ctx context.Context, f hipache.Frontend, b hipache.Backend, write func(context.Context) error) {
	if d.unavailable.Load() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), d.timeout)
	defer cancel()
	if err := write(ctx); err != nil {
		d.log.WarnContext(ctx, "backend not marked", "host", f.Requested, "slot", b.Position, "err", err)
	}
}

func (d *directory) close() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.wg.Wait()
}
