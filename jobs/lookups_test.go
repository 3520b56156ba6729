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

// The worker keeps the state of instances with a host name while the name server fails. It writes
// one event when lookups begin to fail, and one when they work again.
func TestAFailingNameServerChangesNoInstance(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var instances []app.Instance
		for n, state := range []app.State{app.Healthy, app.Healthy, app.Healthy, app.Unhealthy} {
			i := healthy(fmt.Sprint("i", n))
			i.Address, i.State = fmt.Sprintf("i%d.internal:80", n), state
			instances = append(instances, i)
		}
		q, fails := newMemoryStore(instances...), atomic.Bool{}
		p := proberFunc(func(context.Context, app.Instance) app.Result {
			if fails.Load() {
				return app.Result{At: time.Now(), Code: app.NameServerFailed}
			}
			return app.Result{At: time.Now(), Passed: true}
		})
		w := q.start(t, p)
		fails.Store(true)
		time.Sleep(time.Minute)
		if got, want := q.happened(), []string{"name-server-failed"}; !slices.Equal(got, want) {
			t.Errorf("after a minute without a name server: %q, want %q", got, want)
		}
		fails.Store(false)
		time.Sleep(5 * time.Second)
		w.stop()
		if got, want := q.happened(), []string{"i3 healthy", "name-server-back", "name-server-failed"}; !slices.Equal(got, want) {
			t.Errorf("once it answers again: %q, want %q", got, want)
		}
	})
}

type proberFunc func(context.Context, app.Instance) app.Result

func (f proberFunc) Probe(ctx context.Context, i app.Instance) app.Result { return f(ctx, i) }
