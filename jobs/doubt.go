package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"rollcall/app"
)

// Of how many healthy instances of how many services a worker has to know to doubt
// itself. With fewer, their failing together means little.
const (
	doubtInstances = 10
	doubtServices  = 3
)

const (
	canaries    = 5               // asked at once
	canaryWait  = 2 * time.Second // for an answer, whatever the instances' own timeouts are
	perService  = 16              // instances remembered
	forgetAfter = time.Minute     // one that was not seen for so long
)

// doubt keeps a worker that is cut off from condemning those it cannot reach. Before an
// instance is declared unhealthy, a few other ones that the registry holds for healthy
// are asked, of as many services as there are. When most of them do not answer either,
// the worker trusts them more than itself: it is benched. It claims nothing and its
// results count for nothing until most of a few others answer: any that are registered,
// for those that it knew may be gone by then, and new ones there.
type doubt struct { // its lock is never held while it waits
	prober  app.Prober
	get     func(ctx context.Context, id string) (app.Instance, error)
	sample  func(ctx context.Context, n int) ([]app.Instance, error)
	now     func() time.Time
	changed func(ctx context.Context, benched bool, reason string) // hears of every change

	mu      sync.Mutex
	known   map[string]map[string]acquaintance // by service and id
	proved  time.Time                          // when those were asked of whom most last answered
	benched bool
	inquiry *inquiry // under way
}

type acquaintance struct {
	instance app.Instance
	seen     time.Time
	passed   time.Time // when it answered last; zero when that is not known
}

// inquiry is one round of questions. Its fields but done are valid when done is closed.
type inquiry struct {
	began  time.Time
	done   chan struct{}
	fit    bool
	reason string
}

// meet remembers some of the healthy instances that the worker has claimed.
func (d *doubt) meet(claims []app.Claim) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, c := range claims {
		i := c.Instance
		of := d.known[i.Service]
		_, there := of[i.ID]
		switch {
		case i.State != app.Healthy:
			delete(of, i.ID)
			continue
		case of == nil:
			of = map[string]acquaintance{}
			d.known[i.Service] = of
		case !there && len(of) >= perService && rand.N(perService) > 0: //nolint:gosec // nobody gains by guessing it
			continue
		case !there && len(of) >= perService:
			for id := range of {
				delete(of, id)
				break
			}
		}
		of[i.ID] = acquaintance{instance: i, seen: d.now(), passed: of[i.ID].passed}
	}
}

// heard notes who of those that are remembered has answered.
func (d *doubt) heard(outcomes []app.Outcome) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, o := range outcomes {
		of := d.known[o.Claim.Instance.Service]
		if a, there := of[o.Claim.Instance.ID]; there && o.Result.Passed {
			a.passed = o.Result.At
			of[o.Claim.Instance.ID] = a
		}
	}
}

// isBenched reports whether the worker's results count for nothing.
func (d *doubt) isBenched() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.benched
}

// credible reports whether the worker may be believed that an instance has failed. It
// asks others if nobody has answered since.
func (d *doubt) credible(ctx context.Context, o app.Outcome) bool {
	since := o.Result.At.Add(o.Result.Latency)
	for {
		d.mu.Lock()
		if d.benched {
			d.mu.Unlock()
			return false
		}
		if !d.proved.Before(since) {
			d.mu.Unlock()
			return true
		}
		q := d.inquiry
		if q == nil {
			few := d.choose(o.Claim.Instance.ID)
			if few == nil {
				d.mu.Unlock()
				return true
			}
			q = d.ask(ctx, few)
		}
		d.mu.Unlock()
		<-q.done
		if !q.fit {
			return false
		}
	}
}

// recovered asks again whether the worker is fit, if it is benched.
func (d *doubt) recovered(ctx context.Context) bool {
	if !d.isBenched() {
		return true
	}
	few, err := d.sample(ctx, canaries)
	if err != nil {
		return false
	}
	d.mu.Lock()
	q := d.inquiry
	if q == nil {
		q = d.ask(ctx, few)
	}
	d.mu.Unlock()
	<-q.done
	return q.fit
}

// choose picks those that have answered last, of as many services as there are. It
// returns nil when too few are known to doubt anything.
func (d *doubt) choose(without string) []app.Instance {
	var all []acquaintance
	services := map[string]bool{}
	for name, of := range d.known {
		for id, a := range of {
			switch {
			case d.now().Sub(a.seen) > forgetAfter:
				delete(of, id)
			case id != without:
				all, services[name] = append(all, a), true
			}
		}
		if len(of) == 0 {
			delete(d.known, name)
		}
	}
	if len(all) < doubtInstances || len(services) < doubtServices {
		return nil
	}
	slices.SortFunc(all, func(a, b acquaintance) int { return b.passed.Compare(a.passed) })
	var few, more []app.Instance
	for _, a := range all {
		if services[a.instance.Service] {
			few = append(few, a.instance)
			services[a.instance.Service] = false
		} else {
			more = append(more, a.instance)
		}
	}
	return append(few, more...)[:canaries]
}

// ask begins an inquiry; the lock is held.
func (d *doubt) ask(ctx context.Context, few []app.Instance) *inquiry {
	q := &inquiry{began: d.now(), done: make(chan struct{})}
	d.inquiry = q
	go func() {
		defer close(q.done)
		q.fit, q.reason = d.most(ctx, few)
		d.mu.Lock()
		d.inquiry = nil
		was := d.benched
		switch {
		case q.fit:
			d.proved, d.benched = q.began, false
		case ctx.Err() == nil:
			d.benched = true
		}
		is := d.benched
		d.mu.Unlock()
		if was != is {
			d.changed(ctx, is, q.reason)
		}
	}()
	return q
}

// most reports whether most of a few instances answer. One that is not what it was any
// more has no vote.
func (d *doubt) most(ctx context.Context, few []app.Instance) (bool, string) {
	ctx, cancel := context.WithTimeout(ctx, canaryWait)
	defer cancel()
	type vote struct{ counts, passed bool }
	votes := make(chan vote, len(few))
	for _, i := range few {
		go func() {
			passed := d.prober.Probe(ctx, i).Passed
			votes <- vote{passed || d.isAsItWas(context.WithoutCancel(ctx), i), passed}
		}()
	}
	passed, failed := 0, 0
	for range few {
		switch v := <-votes; {
		case v.passed:
			passed++
		case v.counts:
			failed++
		}
		if 2*passed > len(few) {
			break // the others will not change it
		}
	}
	services := map[string]bool{}
	for _, i := range few {
		services[i.Service] = true
	}
	said := fmt.Sprintf("%d of %d other instances, of %d services, answer", passed, passed+failed, len(services))
	nobody := passed+failed == 0 && (!d.isBenched() || len(few) == 0) // to ask: no reason to doubt
	return passed > failed || nobody, said
}

// isAsItWas reports whether the registry still holds an instance for what it was, where it
// was. A registry that cannot be asked takes no verdict either.
func (d *doubt) isAsItWas(ctx context.Context, i app.Instance) bool {
	is, err := d.get(ctx, i.ID)
	if err == nil && is.State == i.State && is.Address == i.Address {
		return true
	}
	if err == nil || errors.Is(err, app.ErrNotFound) {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.known[i.Service], i.ID)
	}
	return false
}
