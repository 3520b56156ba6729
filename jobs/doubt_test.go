package jobs_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"rollcall/app"
)

// fleet is healthy instances of services s0, s1, ...: per of each.
func fleet(services, per int) *queue {
	var instances []app.Instance
	for n := range services * per {
		i := instanceAt(fmt.Sprintf("i%d", n), time.Now().Add(time.Duration(n)*17*time.Millisecond))
		i.Service, i.Address = fmt.Sprint("s", n%services), fmt.Sprintf("10.0.0.%d:80", n)
		instances = append(instances, i)
	}
	return newQueue(instances...)
}

func (q *queue) claimed() int {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.claims
}

func (q *queue) happened() []string {
	q.mu.Lock()
	defer q.mu.Unlock()
	return slices.Sorted(slices.Values(q.events))
}

func TestAWorkerThatIsCutOffCondemnsNobody(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]time.Duration{"refused at once": 0, "silent": time.Second} {
		for _, size := range []struct{ services, per int }{{3, 4}, {5, 100}} {
			t.Run(fmt.Sprintf("%s, %d instances", name, size.services*size.per), func(t *testing.T) {
				t.Parallel()
				synctest.Test(t, func(t *testing.T) {
					q, cut, dead := fleet(size.services, size.per), false, false
					p := &prober{}
					p.answer = func(id string, _ int) (bool, time.Duration) {
						if cut {
							return false, max(after, time.Millisecond)
						}
						return !dead || id != "i0", time.Millisecond
					}
					set := func(what *bool, to bool) {
						p.mu.Lock()
						defer p.mu.Unlock()
						*what = to
					}
					stop := work(t, q, p)
					time.Sleep(10 * time.Second)
					set(&cut, true)
					time.Sleep(time.Minute)
					if got := q.happened(); !slices.Equal(got, []string{"worker-benched"}) {
						t.Errorf("cut off for a minute: %v, want one event, and nobody condemned", got)
					}
					claims := q.claimed()
					time.Sleep(10 * time.Second)
					if n := q.claimed() - claims; n > 0 {
						t.Errorf("a benched worker has claimed %d checks", n)
					}
					set(&cut, false)
					set(&dead, true)
					time.Sleep(8 * time.Second)
					stop()
					if got := q.happened(); !slices.Equal(got, []string{"i0 unhealthy", "worker-back", "worker-benched"}) {
						t.Errorf("afterwards: %v, want it back, and the one that is dead condemned", got)
					}
				})
			})
		}
	}
}

// All that the worker knew die at once, without a word, and others come: as when everything
// is replaced. It must not wait for the dead.
func TestNewOnesBringABenchedWorkerBack(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		q, dying := fleet(5, 10), false
		p := &prober{}
		p.answer = func(id string, _ int) (bool, time.Duration) { return !dying || id[0] == 'n', 2 * time.Millisecond }
		stop := work(t, q, p)
		time.Sleep(5 * time.Second)
		p.mu.Lock()
		dying = true
		p.mu.Unlock()
		time.Sleep(10 * time.Second)
		q.mu.Lock()
		for n := range 50 {
			i := instanceAt(fmt.Sprintf("n%d", n), time.Now())
			i.Service, i.State = fmt.Sprint("s", n%5), app.Starting
			q.instances[i.ID], q.due[i.ID] = i, i.Due
		}
		q.mu.Unlock()
		time.Sleep(time.Minute)
		stop()
		for id, i := range q.instances {
			if want := map[bool]app.State{true: app.Healthy, false: app.Unhealthy}[id[0] == 'n']; i.State != want {
				t.Errorf("%s is %s, want %s", id, i.State, want)
			}
		}
	})
}

func TestThoseWhoDieAreFoundOutHoweverMany(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		services, per int
		dies          func(id, service string) bool
	}{
		"one":                          {5, 20, func(id, _ string) bool { return id == "i7" }},
		"one of few":                   {3, 4, func(id, _ string) bool { return id == "i7" }},
		"all, where few are known":     {3, 3, func(string, string) bool { return true }},
		"all, where it is one service": {1, 30, func(string, string) bool { return true }},
		"a whole service of many":      {5, 20, func(_, service string) bool { return service == "s0" }},
		"two services of five":         {5, 20, func(_, service string) bool { return service < "s2" }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				q := fleet(c.services, c.per)
				p, dying, service := &prober{}, false, map[string]string{}
				for id, i := range q.instances {
					service[id] = i.Service
				}
				p.answer = func(id string, _ int) (bool, time.Duration) {
					return !dying || !c.dies(id, service[id]), 2 * time.Millisecond
				}
				stop := work(t, q, p)
				time.Sleep(5 * time.Second)
				p.mu.Lock()
				dying = true
				p.mu.Unlock()
				time.Sleep(10 * time.Second)
				stop()
				for id, i := range q.instances {
					if want := c.dies(id, i.Service); want != (i.State == app.Unhealthy) {
						t.Errorf("%s of %s is %s, and dead is %t", id, i.Service, i.State, want)
					}
				}
				for _, e := range q.happened() {
					if strings.HasPrefix(e, "worker") && c.services < 5 {
						t.Errorf("the worker was %s", e)
					}
				}
			})
		})
	}
}
