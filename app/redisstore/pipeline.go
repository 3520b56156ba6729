package redisstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
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

// errWithdrawn means that a call ended before its command was sent.
var errWithdrawn = errors.New("not sent in time")

// process is what the client's Process is. When the context is over first, process takes back a command that still waits
// and returns errWithdrawn: the command is not carried out. If the command has been sent, process returns the context's
// error: the command may still be carried out, and must not be looked at.
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
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if n := slices.Index(t.cmds, cmd); p.waiting == t && n >= 0 {
		t.cmds = slices.Delete(t.cmds, n, n+1)
		return fmt.Errorf("%w: %w", errWithdrawn, ctx.Err())
	}
	return ctx.Err()
}

// next sends what waits, on behalf of no caller in particular.
func (p *pipeline) next(ctx context.Context) {
	p.mu.Lock()
	defer p.mu.Unlock()
	t := p.waiting
	p.waiting = nil
	if p.busy = t != nil && len(t.cmds) > 0; !p.busy {
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
