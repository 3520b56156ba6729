package jobs

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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
// results count for nothing until most of a new few answer.
type doubt struct { // its lock is never held while it waits
	prober  app.Prober
	get     func(ctx context.Context, id string) (app.Instance, error)
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
		of[i.ID] = acquaintance{i, d.now()}
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
	d.mu.Lock()
	if !d.benched {
		d.mu.Unlock()
		return true
	}
	q := d.inquiry
	if q == nil {
		q = d.ask(ctx, d.choose(""))
	}
	d.mu.Unlock()
	<-q.done
	return q.fit
}

// choose picks instances of as many services as there are. It returns nil when too few
// are known to doubt anything; a worker that is benched has nobody else to ask.
func (d *doubt) choose(without string) (few []app.Instance) {
	var services [][]app.Instance
	n := 0
	for name, of := range d.known {
		var some []app.Instance
		for id, a := range of {
			switch {
			case !d.benched && d.now().Sub(a.seen) > forgetAfter:
				delete(of, id)
			case id != without:
				some = append(some, a.instance)
			}
		}
		if len(of) == 0 {
			delete(d.known, name)
		}
		if len(some) > 0 {
			services, n = append(services, some), n+len(some)
		}
	}
	if !d.benched && (n < doubtInstances || len(services) < doubtServices) {
		return nil
	}
	rand.Shuffle(len(services), func(a, b int) { services[a], services[b] = services[b], services[a] }) //nolint:gosec // as above
	for round := 0; len(few) < min(canaries, n); round++ {
		for _, of := range services {
			if round < len(of) && len(few) < canaries {
				few = append(few, of[round])
			}
		}
	}
	return few
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
	said := fmt.Sprintf("%d of %d other healthy instances, of %d services, answer", passed, passed+failed, len(services))
	mayBegin := passed+failed == 0 && !d.isBenched() // nobody could be asked: no reason to doubt
	return passed > failed || mayBegin || len(few) == 0, said
}

// isAsItWas reports whether the registry still holds an instance for healthy, and where
// it was. A registry that cannot be asked takes no verdict either.
func (d *doubt) isAsItWas(ctx context.Context, i app.Instance) bool {
	is, err := d.get(ctx, i.ID)
	if err == nil && is.State == app.Healthy && is.Address == i.Address {
		return true
	}
	if err == nil || errors.Is(err, app.ErrNotFound) {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.known[i.Service], i.ID)
	}
	return false
}
