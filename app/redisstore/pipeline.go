package redisstore

import (
	"context"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// pipeline has calls of the same moment share a round trip: what comes while one is under
// way waits for its answer, and goes together. What comes alone goes at once. (go-redis's
// AutoPipeline keeps a caller waiting beyond its context, and one that is alone for longer.)
type pipeline struct {
	rdb     redis.UniversalClient
	timeout time.Duration // of a round trip

	mu      sync.Mutex
	busy    bool  // one is under way
	waiting *trip // the next one; nil when there is none
}

type trip struct {
	cmds []redis.Cmder
	over chan struct{}
}

// process is what the client's Process is. When it returns with the context's error the
// command may still be carried out, and must not be looked at.
func (p *pipeline) process(ctx context.Context, cmd redis.Cmder) error {
	p.mu.Lock()
	if !p.busy {
		p.busy = true
		p.mu.Unlock()
		defer p.next(ctx)
		return p.rdb.Process(ctx, cmd)
	}
	if p.waiting == nil {
		p.waiting = &trip{over: make(chan struct{})}
	}
	t := p.waiting
	t.cmds = append(t.cmds, cmd)
	p.mu.Unlock()
	select {
	case <-t.over:
		return cmd.Err()
	case <-ctx.Done():
		return ctx.Err()
	}
}

// next sends what waits, on behalf of no caller in particular.
func (p *pipeline) next(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.waiting
	p.busy, p.waiting = t != nil, nil
	if t == nil {
		return
	}
	go func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), p.timeout)
		defer p.next(ctx)
		defer cancel()
		all := p.rdb.Pipeline()
		_ = all.BatchProcess(ctx, t.cmds...)
		_, _ = all.Exec(ctx) // every command has its own error
		close(t.over)
	}()
}
