package redisstore_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strconv"
	"sync"
	"testing"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/tests/harness"
)

// gate blocks all calls until it is open, and counts the calls that pass together.
type gate struct {
	reached, open chan struct{}
	together      []int
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook {
	return func(ctx context.Context, network, addr string) (net.Conn, error) { return next(ctx, network, addr) }
}

func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook {
	return func(ctx context.Context, cmd redis.Cmder) error {
		g.reached <- struct{}{}
		<-g.open
		return next(ctx, cmd)
	}
}

func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() == "evalsha" { // skips the commands with which a new connection begins
			g.together = append(g.together, len(cmds))
		}
		return next(ctx, cmds)
	}
}

func TestChangesOfTheSameMomentShareARoundTrip(t *testing.T) {
	t.Parallel()
	c := harness.SharedRedis(t)
	s := prefixedSite(c, harness.Prefix(t))
	commit := func(ctx context.Context, n int) error {
		i := app.Instance{ID: "i" + strconv.Itoa(n), Service: "web", Address: "10.0.0." + strconv.Itoa(n) + ":80"}
		_, err := s.Commit(ctx, app.Change{Steps: []app.Step{{Is: i}}})
		return err
	}
	if err := commit(t.Context(), 1); err != nil { // Redis has the script
		t.Fatal(err)
	}

	g := &gate{reached: make(chan struct{}, 1), open: make(chan struct{})}
	c.AddHook(g)
	var calls sync.WaitGroup
	made := func(n int, want error) {
		calls.Go(func() {
			if err := commit(t.Context(), n); !errors.Is(err, want) {
				t.Errorf("commit of i%d: got %v, want %v", n, err, want)
			}
		})
	}
	made(2, nil)
	<-g.reached
	made(3, nil)
	made(1, app.ErrConflict) // each call has its own answer
	made(4, nil)
	harness.Await(t, "three wait", func() bool { return s.Waiting() == 3 })
	impatient, cancel := context.WithCancel(t.Context())
	cancel()
	if err := commit(impatient, 5); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that is gone: got %v, want that it does not wait", err)
	}
	close(g.open)
	calls.Wait()
	if want := []int{3}; !slices.Equal(g.together, want) {
		t.Errorf("%d went together, want %d", g.together, want)
	}
	if _, err := s.Get(t.Context(), "i5"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("the change of the caller that is gone: got %v, want that it is not made", err)
	}
}
