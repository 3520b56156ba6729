package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// container re-registers until the test ends: it sends a heartbeat twice a second, and registers
// again when its id is unknown.
type container struct {
	reports, refused, again atomic.Int64
}

func newContainer(a api, id string, f url.Values) *container {
	c := &container{}
	stopped := make(chan struct{})
	var running sync.WaitGroup
	running.Go(func() {
		for tick := time.Tick(500 * time.Millisecond); ; {
			c.assert(a, id, f)
			select {
			case <-tick:
			case <-stopped:
				return
			}
		}
	})
	a.t.Cleanup(func() {
		close(stopped)
		running.Wait()
	})
	return c
}

func (c *container) assert(a api, id string, f url.Values) {
	got, err := a.try(http.MethodPost, "/v1/instances/"+id+"/heartbeat", nil)
	switch {
	case err != nil:
	case got.status == http.StatusNotFound:
		if _, err := a.try(http.MethodPost, "/v1/register", f); err == nil {
			c.again.Add(1)
		}
	case got.status == http.StatusNoContent:
		c.reports.Add(1)
	default:
		c.refused.Add(1)
	}
}

func TestRedisAwayChangesNothing(t *testing.T) {
	t.Parallel()
	const away = 10 * time.Second // enough for each call to wait for Redis, one after the other
	for name, outage := range map[string]func(*testing.T, *harness.Server){
		"frozen": func(_ *testing.T, s *harness.Server) {
			s.Freeze()
			time.Sleep(away)
			s.Thaw()
		},
		"killed and restarted": func(t *testing.T, s *harness.Server) {
			t.Helper()
			s.Kill()
			time.Sleep(away)
			s.Restart(t, "--appendonly", "yes")
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := harness.StartRedis(t)
			server.Restart(t, "--appendonly", "yes", "--appendfsync", "always")
			k := stackOn(t, server)
			k.Process("cron")
			_, a := k.web()
			edge := k.edge()
			through := newVisitor(edge)
			one, two := harness.NewBackend(t), harness.NewBackend(t)
			const host = "away.localhost"
			known := harness.Registration(one, "one", host)
			a.register(known)
			a.register(harness.Registration(two, "two", host))
			// Its lease of 3 s is shorter than the outage.
			beats := harness.Registration(harness.NewBackend(t), "beats", "beats.localhost", "service", "beats", "health", "heartbeat", "interval", "1s")
			a.register(beats)
			asserts := newContainer(a, "beats", beats)
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			defer running.Wait()
			defer cancel()
			for _, id := range []string{"one", "two", "beats"} {
				a.awaitState(id, "healthy")
			}
			through.awaitVisit(t, host, one)
			events := k.Redis.XLen(t.Context(), "rollcall:events").Val()

			var visits, failed atomic.Int64
			running.Go(func() {
				for ctx.Err() == nil {
					status, body, err := through.visit(ctx, host, "")
					if visits.Add(1); ctx.Err() == nil && (err != nil || status != http.StatusOK) {
						failed.Add(1)
						t.Errorf("a visitor gets %d %.100s, %v", status, body, err)
					}
					time.Sleep(20 * time.Millisecond)
				}
			})
			over := make(chan struct{})
			running.Go(func() {
				defer close(over)
				outage(t, server)
			})
			callsAreRefused(t, a, known, over)
			<-over
			a.ready()
			reports := asserts.reports.Load()
			harness.Eventually(t, func() error {
				if now := asserts.reports.Load(); now < reports+2 {
					return fmt.Errorf("%d reports were taken since it is back", now-reports)
				}
				return nil
			})
			// Without an extension the leases would be over by now.
			throughout(t, 5*time.Second, func() error {
				for _, id := range []string{"one", "two", "beats"} {
					if got := a.once(http.MethodGet, "/v1/instances/"+id, nil); got.status == http.StatusOK && got.instance(t).State != "healthy" {
						return fmt.Errorf("%s: %s", id, got)
					}
				}
				return nil
			})
			awaitPick(t, k.Redis, host, one.URL(), two.URL())
			if now, err := k.Redis.XLen(t.Context(), "rollcall:events").Result(); err != nil || now != events {
				told, _ := k.Redis.XRevRangeN(t.Context(), "rollcall:events", "+", "-", now-events).Result()
				t.Errorf("the outage made %d events, %v, want none: %v", now-events, err, told)
			}
			if asserts.again.Load() > 0 || asserts.refused.Load() == 0 {
				t.Errorf("the container registered again %d times, and %d reports were refused", asserts.again.Load(), asserts.refused.Load())
			}
			if failed.Load() > 0 || visits.Load() < 50 {
				t.Errorf("%d of %d visits failed", failed.Load(), visits.Load())
			}

			two.Is(harness.Refuses) // and it works again
			awaitPick(t, k.Redis, host, one.URL())
		})
	}
}

// callsAreRefused checks that calls get a quick 503 with Retry-After while Redis is away: calls that
// read Redis do so at once, and calls answered from the replica once the replica is stale. known is a
// registration that changes no field.
func callsAreRefused(t *testing.T, a api, known url.Values, over <-chan struct{}) {
	t.Helper()
	const quick = 3 * time.Second
	refused := func(method, path string, f url.Values) error {
		got := a.once(method, path, f)
		switch {
		case got.took > quick:
			t.Errorf("%s %s was answered after %s", method, path, got.took)
		case got.status != http.StatusServiceUnavailable:
			return fmt.Errorf("%s %s: %s, want 503", method, path, got)
		case got.header.Get("Retry-After") == "" || !strings.Contains(got.problem(t).Type, "unavailable"):
			t.Errorf("%s %s: %s, want a problem and a Retry-After", method, path, got)
		}
		return nil
	}
	harness.Eventually(t, func() error {
		select {
		case <-over:
			t.Fatal("Redis was away and back, and calls were not refused")
		default:
		}
		return errors.Join(
			refused(http.MethodPost, "/v1/register", known),
			refused(http.MethodPost, "/v1/instances/one/heartbeat", nil),
			refused(http.MethodGet, "/v1/instances/one", nil),
			refused(http.MethodGet, "/readyz", nil),
			refused(http.MethodGet, "/v1/services", nil),
			refused(http.MethodGet, "/v1/services/web", nil),
		)
	})
	if got := a.once(http.MethodGet, "/livez", nil); got.status != http.StatusOK {
		t.Errorf("livez: %s", got)
	}
}

func TestEmptiedRedisIsFilledAgainByThoseWhoAssertThemselves(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	edge := k.edge()
	through := newVisitor(edge)
	probed, silent := harness.NewBackend(t), harness.NewBackend(t)
	const host, lost = "emptied.localhost", "lost.localhost"
	f := harness.Registration(probed, "asserts", host)
	a.register(f)
	a.register(harness.Registration(silent, "silent", lost, "service", "other"))
	asserts := newContainer(a, "asserts", f)
	a.awaitState("asserts", "healthy")
	a.awaitState("silent", "healthy")
	through.awaitVisit(t, host, probed)
	through.awaitVisit(t, lost, silent)

	if err := k.Redis.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, func() error {
		if asserts.again.Load() == 0 {
			return errors.New("the container has not been told to register again")
		}
		return nil
	})
	a.awaitState("asserts", "healthy")
	awaitPick(t, k.Redis, host, probed.URL())
	through.awaitVisit(t, host, probed)
	a.awaitGone("silent")
	if status, _, err := through.visit(t.Context(), lost, ""); err != nil || status != http.StatusBadRequest {
		t.Errorf("the vhost of the one that has not registered again: %d, %v, want 400", status, err)
	}
	harness.Eventually(t, func() error {
		got := a.call(http.MethodGet, "/v1/services", nil)
		if !strings.Contains(got.body, `"web"`) || strings.Contains(got.body, `"other"`) {
			return fmt.Errorf("%s, want the service that is there, and no other", got)
		}
		return nil
	})
}
