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

// A pipeline batches concurrent calls. A call made while no round trip is in flight is sent at once. Calls made while
// a round trip is in flight are batched into the next one. (go-redis's AutoPipeline blocks a caller beyond its context,
// and delays a single call for longer.)
type pipeline struct {
	rdb     redis.UniversalClient
	timeout time.Duration // of a round trip

	mu      sync.Mutex
	busy    bool  // a round trip is in flight
	waiting *trip // the next round trip, or nil
}

type trip struct {
	cmds []redis.Cmder
	over chan struct{}
}

// errWithdrawn means that a call ended before its command was sent.
var errWithdrawn = errors.New("not sent in time")

// process replaces the client's Process. If ctx ends while the command still waits, process withdraws it and returns
// errWithdrawn; the command is not carried out. If ctx ends after the command was sent, process returns the context's
// error. The command may then still be carried out, and the caller must not read it.
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

// next sends the waiting commands. It keeps the values of ctx but not its deadline, because they have several callers.
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
