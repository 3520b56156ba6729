package e2e

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

const (
	halfPeriod = 3 * time.Second
	visitors   = 3 // in parallel, on each vhost
	// noticed exceeds the time until a recovered backend is routed again: a late mark by a request in
	// progress, two probes, and a busy machine.
	noticed = 2500 * time.Millisecond
)

// flapper is a vhost of two backends: the first in the list flaps, the other is always up.
type flapper struct {
	host         string
	bad          harness.Mode
	sick, steady *harness.Backend

	mu       sync.Mutex
	requests int
	own      []string // requests that failed with the flapping backend's own answer
	astray   []string // requests that failed for any other reason
}

// TestFlappingBackendCostsOnlyTheRequestsItFailedItself puts steady load on vhosts whose first backend
// flaps. It compares each visitor's answer with the backends' own record of that request, and the dead
// marks with the true state of the backends.
func TestFlappingBackendCostsOnlyTheRequestsItFailedItself(t *testing.T) {
	t.Parallel()
	const allowed = 0.005 // share of requests that may fail with the flapping backend's own answer
	const run = 15 * time.Second
	// With a settle time below the half-period, lists shrink and grow during the load. It must exceed
	// the lateness of the slow answers.
	k := newStack(t, "ROLLCALL_SETTLE=1700ms")
	k.Process("cron")
	_, a := k.web()
	edge := k.edge()

	var vhosts []*flapper
	for n, bad := range []harness.Mode{harness.Refuses, harness.Slow502, harness.Resets, harness.Hangs} {
		f := &flapper{host: fmt.Sprintf("flap%d.localhost", n), bad: bad, sick: harness.NewBackend(t), steady: harness.NewBackend(t)}
		id := fmt.Sprint("flap", n)
		a.register(harness.Registration(f.sick, id, f.host, "service", id, "interval", "300ms", "timeout", "400ms"))
		a.awaitState(id, "healthy")
		a.register(harness.Registration(f.steady, id+"-steady", f.host, "service", id, "interval", "1s", "timeout", "5s"))
		a.awaitState(id+"-steady", "healthy")
		if _, list, err := harness.Routed(t.Context(), k.Redis, f.host); err != nil || !slices.Equal(list, []string{f.sick.URL(), f.steady.URL()}) {
			t.Fatalf("the list is %q, %v; want the one that is to flap first", list, err)
		}
		vhosts = append(vhosts, f)
	}

	ctx, cancel := context.WithTimeout(t.Context(), run)
	defer cancel()
	var load sync.WaitGroup
	for _, f := range vhosts {
		load.Go(func() { f.flap(ctx) })
		for n := range visitors {
			load.Go(func() {
				f.visit(ctx, visitor{edge, &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{}}}, n)
			})
		}
	}
	samples, wrong, shrunk := sampleDead(ctx, t, k.Redis, vhosts)
	load.Wait()

	for _, f := range vhosts {
		share := float64(len(f.own)) / float64(f.requests)
		t.Logf("%-8s %5d requests, %d failed with its own answer (%.2f %%), %d for other reasons; it left the list %d times",
			f.bad, f.requests, len(f.own), 100*share, len(f.astray), shrunk[f.host])
		if len(f.astray) > 0 {
			t.Errorf("%s: %d requests failed that the flapping backend did not fail, such as %s", f.bad, len(f.astray), f.astray[0])
		}
		// On a busy machine there are fewer requests, so the one or two failures by which each visitor
		// notices each flap weigh more.
		phases := int((run + 2*halfPeriod - 1) / (2 * halfPeriod))
		if share > allowed && len(f.own) > 2*phases*visitors {
			t.Errorf("%s: %.2f %% of the requests failed with the backend's own answer, want at most %.2f %%", f.bad, 100*share, 100*allowed)
		}
	}
	if len(wrong) > 0 {
		t.Errorf("in %d of %d samples a healthy backend was marked dead, such as %s", len(wrong), samples, wrong[0])
	}
	if samples < 20 {
		t.Errorf("only %d samples were taken", samples)
	}
}

// flap lets the backend fail and answer in turns; it begins and ends with a failure.
func (f *flapper) flap(ctx context.Context) {
	for n := 0; ; n++ {
		m := f.bad
		if n%2 == 1 {
			m = harness.Answers
		}
		f.sick.Is(m)
		select {
		case <-time.After(halfPeriod):
		case <-ctx.Done():
			return
		}
	}
}

// visit makes one request after the other and records the outcomes.
func (f *flapper) visit(ctx context.Context, v visitor, visitor int) {
	for n := 0; ctx.Err() == nil; n++ {
		id := fmt.Sprintf("%d-%d", visitor, n)
		// Do not interrupt a visitor: its last answer would be an error of the test.
		status, body, err := v.visit(context.WithoutCancel(ctx), f.host, id)
		f.mu.Lock()
		f.requests++
		if err != nil || status != http.StatusOK {
			what := fmt.Sprintf("request %s: %d %.100s, %v", id, status, body, err)
			if did, got := f.sick.Answered(id); got && did.Mode != harness.Answers {
				f.own = append(f.own, what)
			} else {
				f.astray = append(f.astray, what)
			}
		}
		f.mu.Unlock()
		time.Sleep(5 * time.Millisecond)
	}
}

var listAndDead = redis.NewScript(`
local out = {}
for i, host in ipairs(ARGV) do
  out[i] = {redis.call('LRANGE', 'frontend:' .. host, 1, -1), redis.call('SMEMBERS', 'dead:' .. host)}
end
return out`)

// sampleDead checks every 10 ms whether a backend that is up is marked dead. It also counts how
// often a list became shorter.
func sampleDead(ctx context.Context, t *testing.T, rdb *redis.Client, vhosts []*flapper) (samples int, wrong []string, shrunk map[string]int) {
	hosts := make([]any, len(vhosts))
	for n, f := range vhosts {
		hosts[n] = f.host
	}
	shrunk = map[string]int{}
	length := map[string]int{}
	for tick := time.NewTicker(10 * time.Millisecond); ; {
		select {
		case <-tick.C:
		case <-ctx.Done():
			tick.Stop()
			return samples, wrong, shrunk
		}
		asked := time.Now()
		reply, err := listAndDead.Run(ctx, rdb, nil, hosts...).Slice()
		if ctx.Err() != nil {
			continue
		}
		if err != nil {
			t.Errorf("sample: %v", err)
			continue
		}
		samples++
		for n, f := range vhosts {
			pair := reply[n].([]any)
			list, dead := texts(pair[0]), texts(pair[1])
			if len(list) < length[f.host] {
				shrunk[f.host]++
			}
			length[f.host] = len(list)
			if len(list) == 0 {
				wrong = append(wrong, f.host+": the list is empty")
			}
			for _, position := range dead {
				if p, err := strconv.Atoi(position); err != nil || p >= len(list) {
					wrong = append(wrong, fmt.Sprintf("%s: the mark %q is none of %q", f.host, position, list))
				} else if list[p] == f.steady.URL() {
					wrong = append(wrong, fmt.Sprintf("%s: the steady one is marked at %s of %q", f.host, position, list))
				} else if m, since := f.sick.Now(); m == harness.Answers && since-time.Since(asked) > noticed {
					wrong = append(wrong, fmt.Sprintf("%s: the flapping one is still marked, up for %s", f.host, since))
				}
			}
		}
	}
}

func texts(reply any) []string {
	var s []string
	for _, v := range reply.([]any) {
		s = append(s, v.(string))
	}
	return s
}
