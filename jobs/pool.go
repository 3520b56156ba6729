package jobs

import (
	"context"
	"sync"
	"time"
)

const (
	underWay  = 512                    // probes at once; with more than the machine can do, each would take longer than it may
	resting   = 128                    // goroutines that wait for another probe: the stack of a new one has to grow first
	slowAfter = 250 * time.Millisecond // a probe that takes longer does not count: slow targets hold up no others
	judging   = 32                     // writes of changed instances at once
)

// pool runs probes. Its lock is the worker's, and is held in all its methods but work, close
// and idle.
type pool struct {
	mu      *sync.Mutex
	more    *sync.Cond // there is something to do, or nothing ever again
	done    *sync.Cond // a probe has ended
	queue   []*target
	head    int
	fast    flight // ring of those that count, oldest first
	running int    // of fast
	flying  int    // all
	resting int
	waking  bool // a goroutine has been woken, and has not taken anything yet
	closed  bool
	all     sync.WaitGroup
	work    func(*target, *flight) // probes; called and returns with the lock held
}

// flight is a probe under way.
type flight struct {
	next, prev *flight
	began      time.Time
}

func (p *pool) init(mu *sync.Mutex) {
	p.mu, p.more, p.done = mu, sync.NewCond(mu), sync.NewCond(mu)
	p.fast.next, p.fast.prev = &p.fast, &p.fast
}

// backlog is how many probes wait for a place.
func (p *pool) backlog() int { return len(p.queue) - p.head }

// add has an entry probed as soon as there is a place.
func (p *pool) add(e *target) {
	if p.head > 1024 && p.head > len(p.queue)/2 {
		p.queue = p.queue[:copy(p.queue, p.queue[p.head:])]
		p.head = 0
	}
	p.queue = append(p.queue, e)
	p.wake()
}

// wake has one goroutine more look for work, unless one is on its way: each that finds some
// wakes the next.
func (p *pool) wake() {
	if p.waking || p.closed || p.backlog() == 0 || p.running >= underWay {
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
		for !p.closed && p.backlog() > 0 && p.running < underWay {
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
		if p.closed || p.resting >= resting {
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

// end gives the place back, unless the probe was slow and has lost it.
func (p *pool) end(f *flight) {
	if f.next == nil {
		return
	}
	f.prev.next, f.next.prev = f.next, f.prev
	f.next, f.prev = nil, nil
	p.running--
}

// age takes the places of slow probes.
func (p *pool) age(now time.Time) {
	for p.running > 0 && now.Sub(p.fast.next.began) > slowAfter {
		p.end(p.fast.next)
	}
	p.wake()
}

// close ends the pool: what waits is not started. It returns when what is under way has ended.
func (p *pool) close() {
	p.mu.Lock()
	p.closed = true
	p.more.Broadcast()
	p.mu.Unlock()
	p.all.Wait()
}

// idle waits until nothing waits and nothing is under way, and makes slow probes give way.
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
