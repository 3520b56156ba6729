// Package pool runs probes, many at once.
package pool

import (
	"context"
	"sync"
	"time"
)

const (
	maxProbes  = 512                    // probes in progress at once: more than the machine can serve would exceed their timeouts
	maxResting = 128                    // goroutines that wait for a probe: a new one has to grow its stack first
	slowAfter  = 250 * time.Millisecond // a longer probe gives up its place, so that slow targets do not delay others
)

// A Pool runs the probes of targets. It shares the lock of its owner. The caller holds the lock in every method except
// Init, Close and Idle.
type Pool[T any] struct {
	mu      *sync.Mutex
	more    *sync.Cond // signalled when a probe is queued or the pool closes
	done    *sync.Cond // signalled when a probe has ended
	queue   []*T
	head    int
	fast    Place // the ring of probes that occupy a place, oldest first
	running int   // probes in the ring
	flying  int   // probes in progress, with the slow ones
	resting int
	waking  bool // a woken goroutine has not looked at the queue yet
	closed  bool
	all     sync.WaitGroup
	work    func(*T, *Place) // runs one probe; called with the lock held, and returns with it held
}

// Place is the place of a probe in progress.
type Place struct {
	next, prev *Place
	began      time.Time
}

// Init sets the lock, and the function that runs one probe. Work is called with the lock held and returns with it held; it
// calls Begin and End.
func (p *Pool[T]) Init(mu *sync.Mutex, work func(*T, *Place)) {
	p.mu, p.more, p.done, p.work = mu, sync.NewCond(mu), sync.NewCond(mu), work
	p.fast.next, p.fast.prev = &p.fast, &p.fast
}

// Backlog returns the number of probes that wait for a place.
func (p *Pool[T]) Backlog() int { return len(p.queue) - p.head }

// Add queues a probe of a target.
func (p *Pool[T]) Add(t *T) {
	if p.head > 1024 && p.head > len(p.queue)/2 {
		p.queue = p.queue[:copy(p.queue, p.queue[p.head:])]
		p.head = 0
	}
	p.queue = append(p.queue, t)
	p.wake()
}

// wake starts or wakes one goroutine, unless one is already waking. Each goroutine that finds a probe
// wakes the next.
func (p *Pool[T]) wake() {
	if p.waking || p.closed || p.Backlog() == 0 || p.running >= maxProbes {
		return
	}
	p.waking = true
	if p.resting > 0 {
		p.more.Signal()
		return
	}
	p.all.Go(p.run)
}

func (p *Pool[T]) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	var place Place
	for {
		p.waking = false
		for !p.closed && p.Backlog() > 0 && p.running < maxProbes {
			t := p.queue[p.head]
			p.queue[p.head] = nil
			if p.head++; p.head == len(p.queue) {
				p.queue, p.head = p.queue[:0], 0
			}
			p.flying++
			p.wake()
			p.work(t, &place)
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

// Begin takes a place for a probe.
func (p *Pool[T]) Begin(f *Place, now time.Time) {
	f.began = now
	f.prev, f.next = p.fast.prev, &p.fast
	f.prev.next, p.fast.prev = f, f
	p.running++
}

// End releases the place of a probe. It does nothing if Age has released it.
func (p *Pool[T]) End(f *Place) {
	if f.next == nil {
		return
	}
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev = nil, nil
	p.running--
}

// Age releases the places of slow probes.
func (p *Pool[T]) Age(now time.Time) {
	for p.running > 0 && now.Sub(p.fast.next.began) > slowAfter {
		p.End(p.fast.next)
	}
	p.wake()
}

// Close stops the pool. It starts no queued probe, and returns when all probes in progress have ended.
func (p *Pool[T]) Close() {
	p.mu.Lock()
	p.closed = true
	p.more.Broadcast()
	p.mu.Unlock()
	p.all.Wait()
}

// Idle waits until the queue is empty and all probes have ended. Every so often it releases the places of slow probes.
func (p *Pool[T]) Idle(ctx context.Context, every time.Duration) error {
	stop := context.AfterFunc(ctx, p.done.Broadcast)
	defer stop()
	aging := time.NewTicker(every)
	defer aging.Stop()
	ended := make(chan struct{})
	var helper sync.WaitGroup
	helper.Go(func() {
		for {
			select {
			case <-aging.C:
				p.mu.Lock()
				p.Age(time.Now())
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
	for (p.Backlog() > 0 || p.flying > 0) && ctx.Err() == nil {
		p.done.Wait()
	}
	return ctx.Err()
}
