package selfcheck_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/jobs/selfcheck"
)

// asked records the probed instances. Each of them passes.
type asked struct {
	mu  sync.Mutex
	ids []string
}

func (a *asked) Probe(_ context.Context, i app.Instance) app.Result {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, i.ID)
	return app.Result{At: time.Now(), Passed: true}
}

// A worker leaves out the passes of instances that are no witnesses. If it left out those of witnesses, they would have
// no recent result when a failure needs them.
func TestThePassesOfAllWitnessesCount(t *testing.T) {
	t.Parallel()
	a := &asked{}
	w := &selfcheck.Witnesses{
		Prober: a, Now: time.Now, Changed: func(context.Context, app.EventKind, string) {},
		Any: func(context.Context, int) ([]app.Instance, error) { return nil, nil },
	}
	var kept []string
	for n := range 1000 {
		w.Add(at(fmt.Sprint("i", n), fmt.Sprintf("192.0.2.%d", 1+n%250)))
	}
	for n := range 1000 {
		if id := fmt.Sprint("i", n); w.Keeps(ownership.Hash(id)) {
			kept = append(kept, id)
		}
	}
	for _, id := range kept {
		w.Remove(id)
	}
	w.Recheck(t.Context())
	w.Wait()
	if len(kept) == 0 || len(a.ids) > 0 {
		t.Errorf("Keeps is true for %d ids, and the witnesses %s are not among them", len(kept), a.ids)
	}
}
