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

// errRedisUnavailable means that Redis is unavailable and the directory does not remember the host.
var errRedisUnavailable = errors.New("redis is unavailable, and this host was not served before")

// directory returns the frontends of hosts: from Redis or, while Redis is unavailable, as last
// read. After the first failed call no request waits for Redis, and one goroutine retries until
// Redis answers.
type directory struct {
	reader         *hipache.Reader
	marker         *hipache.Marker
	log            *slog.Logger
	timeout, retry time.Duration

	reads       *reads
	known       *memory
	unavailable atomic.Bool

	mu     sync.Mutex // held while awaitRedis starts, so that close waits for it
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

// lookUp returns the frontend of a requested host. It returns hipache.ErrNoFrontend,
// hipache.ErrWrongType or errRedisUnavailable.
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

// read reads frontends from Redis, unless Redis has become unavailable since the batch began.
// It serves all requests of the batch, so it uses the context of none of them.
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

// isAnswer reports whether an error is an answer of Redis. Any other error means that Redis is
// unavailable.
func isAnswer(err error) bool {
	return errors.Is(err, hipache.ErrNoFrontend) || errors.Is(err, hipache.ErrWrongType)
}

// redisLost records that Redis is unavailable and starts awaitRedis, unless it runs.
func (d *directory) redisLost(host string, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil || !d.unavailable.CompareAndSwap(false, true) {
		return
	}
	d.log.Warn("redis is unavailable, serving the last known frontends", "err", err)
	d.wg.Go(func() { d.awaitRedis(host) })
}

// awaitRedis repeats the read of a request until Redis answers it. A PING or a connection would
// not do: Redis accepts both while it loads its data or rejects the password.
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
			d.log.Info("redis is available again", "away", time.Since(since))
			return
		}
	}
}

// mark takes a backend out of traffic for every proxy, unless it is the last unmarked one. While
// Redis is unavailable, only this process avoids it. It does not end with the request, because
// the client may have left.
func (d *directory) mark(ctx context.Context, f hipache.Frontend, b hipache.Backend) (marked bool) {
	d.known.recordFailure(f.Requested, b.URL)
	d.report(ctx, f, b, func(ctx context.Context) (err error) {
		marked, err = d.marker.Mark(ctx, f, b)
		return err
	})
	return marked
}

// announce asks health checkers to probe a backend that may be failing. It does not end with the
// request.
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
		d.log.WarnContext(ctx, "backend not marked", "host", f.Requested, "position", b.Position, "err", err)
	}
}

func (d *directory) close() {
	d.mu.Lock()
	d.cancel()
	d.mu.Unlock()
	d.wg.Wait()
}
