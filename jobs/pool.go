package jobs

import (
	"context"
	"sync"
	"time"
)

const (
	maxProbes  = 512                    // probes in progress at once: more than the machine can serve would exceed their timeouts
	maxResting = 128                    // goroutines that wait for a probe: a new one has to grow its stack first
	slowAfter  = 250 * time.Millisecond // a longer probe gives up its place, so that slow targets do not delay others
	maxWrites  = 32                     // writes of changed instances at once
)

// pool runs probes. It shares the worker's lock. The caller holds the lock in every method except run, close
// and idle.
type pool struct {
	mu      *sync.Mutex
	more    *sync.Cond // signalled when a probe is queued or the pool closes
	done    *sync.Cond // signalled when a probe has ended
	queue   []*target
	head    int
	fast    flight // the ring of probes that occupy a place, oldest first
	running int    // probes in the ring
	flying  int    // probes in progress, with the slow ones
	resting int
	waking  bool // a woken goroutine has not looked at the queue yet
	closed  bool
	all     sync.WaitGroup
	work    func(*target, *flight) // runs one probe; called with the lock held, and returns with it held
}

// flight is a probe in progress.
type flight struct {
	next, prev *flight
	began      time.Time
}

func (p *pool) init(mu *sync.Mutex) {
	p.mu, p.more, p.done = mu, sync.NewCond(mu), sync.NewCond(mu)
	p.fast.next, p.fast.prev = &p.fast, &p.fast
}

// backlog returns the number of probes that wait for a place.
func (p *pool) backlog() int { return len(p.queue) - p.head }

// add queues a probe of an instance.
func (p *pool) add(e *target) {
	if p.head > 1024 && p.head > len(p.queue)/2 {
		p.queue = p.queue[:copy(p.queue, p.queue[p.head:])]
		p.head = 0
	}
	p.queue = append(p.queue, e)
	p.wake()
}

// wake starts or wakes one goroutine, unless one is already waking. Each goroutine that finds a probe
// wakes the next.
func (p *pool) wake() {
	if p.waking || p.closed || p.backlog() == 0 || p.running >= maxProbes {
		return
	}
	p.waking = true
	if p.resting > 0 {
		p.more.Signal()
		return
	}
	p.all.Go(p.run)
}

func (p *pool) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var f flight
	for {
		p.waking = false
		for !p.closed && p.backlog() > 0 && p.running < maxProbes {
			e := p.queue[p.head]
			p.queue[p.head] = nil
			if p.head++; p.head == len(p.queue) {
				p.queue, p.head = p.queue[:0], 0
			}
			p.flying++
			p.wake()
			p.work(e, &f)
			p.flying--
			p.done.Broadcast()
		}
		if p.closed || p.resting >= maxResting {
			return
		}
		p.resting++
		p.more.Wait()
		p.resting--
	}
}

// begin takes a place for a probe.
func (p *pool) begin(f *flight, now time.Time) {
	f.began = now
	f.prev, f.next = p.fast.prev, &p.fast
	f.prev.next, p.fast.prev = f, f
	p.running++
}

// end releases the place of a probe. It does nothing if age has released it.
func (p *pool) end(f *flight) {
	if f.next == nil {
		return
	}
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev = nil, nil
	p.running--
}

// age releases the places of slow probes.
func (p *pool) age(now time.Time) {
	for p.running > 0 && now.Sub(p.fast.next.began) > slowAfter {
		p.end(p.fast.next)
	}
	p.wake()
}

// close stops the pool. It starts no queued probe, and returns when all probes in progress have ended.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.more.Broadcast()
	p.mu.Unlock()
	p.all.Wait()
}

// idle waits until the queue is empty and all probes have ended. Meanwhile it releases the places of slow probes.
func (p *pool) idle(ctx context.Context) error {
	stop := context.AfterFunc(ctx, p.done.Broadcast)
	defer stop()
	aging := time.NewTicker(slot)
	defer aging.Stop()
	ended := make(chan struct{})
	var helper sync.WaitGroup
	helper.Go(func() {
		for {
			select {
			case <-aging.C:
				p.mu.Lock()
				p.age(time.Now())
				p.mu.Unlock()
			case <-ended:
				return
			}
		}
	})
	defer helper.Wait()
	defer close(ended)
	p.mu.Lock()
	defer p.mu.Unlock()
	for (p.backlog() > 0 || p.flying > 0) && ctx.Err() == nil {
		p.done.Wait()
	}
	return ctx.Err()
}
