package jobs_test

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
)

// fleet returns n healthy instances, i0, i1, ..., each on a host of its own.
func fleet(n int) *memoryStore {
	var instances []app.Instance
	for n := range n {
		i := healthy(fmt.Sprintf("i%d", n))
		i.Service, i.Address = fmt.Sprint("s", n%4), fmt.Sprintf("198.18.%d.%d:80", n/250, 1+n%250)
		instances = append(instances, i)
	}
	return newMemoryStore(instances...)
}

// network holds the answers of instances, by id. An instance without an entry passes.
type network struct {
	fails atomic.Pointer[func(id string) app.Code]
}

func (n *network) is(fails func(id string) app.Code) { n.fails.Store(&fails) }

func (n *network) Probe(ctx context.Context, i app.Instance) app.Result {
	r := app.Result{At: time.Now(), Latency: time.Millisecond}
	if f := n.fails.Load(); f != nil {
		r.Code = (*f)(i.ID)
	}
	if r.Code == app.TimedOut {
		r.Latency = i.Check.Timeout
	}
	r.Passed = r.Code == app.OK
	select {
	case <-time.After(r.Latency):
	case <-ctx.Done():
		return app.Result{Code: app.Inconclusive}
	}
	return r
}

func everybody(code app.Code) func(string) app.Code { return func(string) app.Code { return code } }

func allBut(code app.Code, prefix byte) func(string) app.Code {
	return func(id string) app.Code {
		if id[0] == prefix {
			return app.OK
		}
		return code
	}
}

func TestAWorkerRemovesNoInstanceWhileCutOff(t *testing.T) {
	t.Parallel()
	for _, code := range []app.Code{app.TimedOut, app.Unreachable, app.Unresolvable} {
		for _, size := range []int{3, 12, 100} {
			t.Run(fmt.Sprintf("%s, %d instances", code, size), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					q, n := fleet(size), &network{}
					stop := q.start(t, n).stop
					time.Sleep(10 * time.Second)
					n.is(everybody(code))
					time.Sleep(time.Minute)
					if got, want := q.happened(), []string{"worker-benched"}; !slices.Equal(got, want) {
						t.Errorf("cut off for a minute: %v, want %v", got, want)
					}
					n.is(func(id string) app.Code { return map[bool]app.Code{true: code}[id == "i0"] })
					time.Sleep(8 * time.Second)
					stop()
					if got, want := q.happened(), []string{"i0 unhealthy", "worker-back", "worker-benched"}; !slices.Equal(got, want) {
						t.Errorf("afterwards: %v, want %v", got, want)
					}
				})
			})
		}
	}
}

// A worker that is cut off must not keep shards that another worker could probe.
func TestASuspendedWorkerLeavesChecksToTheOthers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, cut, fit := fleet(40), &network{}, &network{}
		stopCut, stopFit := q.start(t, cut).stop, q.start(t, fit).stop
		time.Sleep(10 * time.Second)
		cut.is(everybody(app.TimedOut))
		time.Sleep(20 * time.Second)
		fit.is(func(id string) app.Code { return map[bool]app.Code{true: app.TimedOut}[id == "i7"] })
		time.Sleep(2*time.Second + 200*time.Millisecond + 2*time.Second + time.Second) // interval, the second probe, two timeouts, a tick
		got := q.happened()
		stopCut()
		stopFit()
		if want := []string{"i7 unhealthy", "worker-benched"}; !slices.Equal(got, want) {
			t.Errorf("%v, want %v", got, want)
		}
	})
}

// Twelve instances die and stay dead. Ten seconds later two others register.
func TestNewInstancesBecomeHealthyAndDeadOnesAreRemoved(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		code   app.Code
		within time.Duration // of their death
	}{
		"refused":     {app.Refused, 5 * time.Second},
		"silent":      {app.TimedOut, 20 * time.Second},
		"unreachable": {app.Unreachable, 20 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, n := fleet(12), &network{}
				stop := q.start(t, n).stop
				defer stop()
				time.Sleep(5 * time.Second)
				n.is(allBut(c.code, 'n'))
				died := time.Now()
				time.Sleep(10*time.Second + 300*time.Millisecond)
				for k := range 2 {
					i := healthy(fmt.Sprint("n", k))
					i.Rev, i.State, i.Address = 0, app.Starting, fmt.Sprintf("198.19.0.%d:80", k+1)
					q.change(t, i.ID, func(app.Instance) app.Instance { return i }, app.EventRegistered)
				}
				time.Sleep(5 * time.Second)
				for _, id := range []string{"n0", "n1"} {
					if got := q.state(id); got != app.Healthy {
						t.Errorf("%s is %s 5 s after its registration, want healthy", id, got)
					}
				}
				time.Sleep(c.within - time.Since(died))
				for k := range 12 {
					if got := q.state(fmt.Sprint("i", k)); got != app.Unhealthy {
						t.Errorf("i%d is %s %s after its death, want unhealthy", k, got, time.Since(died))
					}
				}
			})
		})
	}
}

func TestAnyNumberOfDeathsIsFound(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		instances int
		dead      func(n int) bool
		onOneHost string // the host of all instances; empty: each has its own
		code      app.Code
		within    time.Duration
	}{
		"one of many":                      {100, func(n int) bool { return n == 7 }, "", app.TimedOut, 6 * time.Second},
		"one of three":                     {3, func(n int) bool { return n == 1 }, "", app.TimedOut, 6 * time.Second},
		"one of two":                       {2, func(n int) bool { return n == 1 }, "", app.TimedOut, 6 * time.Second},
		"the only one":                     {1, func(int) bool { return true }, "", app.TimedOut, 6 * time.Second},
		"a quarter":                        {100, func(n int) bool { return n%4 == 0 }, "", app.TimedOut, 20 * time.Second},
		"all but two of many":              {100, func(n int) bool { return n > 1 }, "", app.TimedOut, 25 * time.Second},
		"all, refused":                     {100, func(int) bool { return true }, "", app.Refused, 5 * time.Second},
		"all, with a status":               {100, func(int) bool { return true }, "", 503, 5 * time.Second},
		"all of one machine, silent":       {50, func(int) bool { return true }, "127.0.0.1", app.TimedOut, 6 * time.Second},
		"all of one other machine, silent": {50, func(int) bool { return true }, "198.18.9.9", app.TimedOut, 6 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q, n := fleet(c.instances), &network{}
				dead := map[string]bool{}
				for k := range c.instances {
					id := fmt.Sprint("i", k)
					dead[id] = c.dead(k)
					if i := q.instances[id]; c.onOneHost != "" {
						i.Address = fmt.Sprintf("%s:%d", c.onOneHost, 1000+k)
						q.instances[id] = i
					}
				}
				stop := q.start(t, n).stop
				defer stop()
				time.Sleep(5 * time.Second)
				n.is(func(id string) app.Code { return map[bool]app.Code{true: c.code}[dead[id]] })
				time.Sleep(c.within)
				for id, is := range dead {
					if got := q.state(id); (got == app.Unhealthy) != is {
						t.Errorf("%s is %s after %s, and dead is %t", id, got, c.within, is)
					}
				}
			})
		})
	}
}

// A worker pauses for longer than the probes' timeout. The missing answers are no evidence about the
// instances.
func TestALateWorkerCountsNoTimeout(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q := fleet(2)
		stop := q.start(t, proberFunc(func(_ context.Context, i app.Instance) app.Result {
			began := time.Now()
			time.Sleep(3 * i.Check.Timeout)
			return app.Result{At: began, Code: app.TimedOut, Latency: time.Since(began)}
		})).stop
		time.Sleep(30 * time.Second)
		stop()
		if got := q.happened(); len(got) > 0 {
			t.Errorf("%v, want no event", got)
		}
	})
}
