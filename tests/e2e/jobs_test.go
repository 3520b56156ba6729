package e2e

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// TestJobsRunByAnOutsideSchedulerAreEnough runs without a cron process: an outside scheduler runs one
// job at a time, by the command and by the API.
func TestJobsRunByAnOutsideSchedulerAreEnough(t *testing.T) {
	t.Parallel()
	for name, runs := range map[string]func(*testing.T, *stack, api, string){
		"by command": func(t *testing.T, k *stack, _ api, job string) {
			t.Helper()
			if code, _, log := harness.Run(t, k.Env, "jobs", "run", job); code != 0 {
				t.Fatalf("rollcall jobs run %s ends with %d and says %s", job, code, log)
			}
		},
		"by call": func(t *testing.T, _ *stack, a api, job string) {
			t.Helper()
			if got := a.call(http.MethodPost, "/v1/jobs/"+job+"/run", nil); got.status != http.StatusOK {
				t.Fatalf("run %s: %s", job, got)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newStack(t, "ROLLCALL_SETTLE=500ms")
			_, a := k.web()
			one, two := harness.NewBackend(t), harness.NewBackend(t)
			const host = "jobs.localhost"
			for n, b := range []*harness.Backend{one, two} {
				a.register(harness.Registration(b, fmt.Sprint("j", n), host, "interval", "200ms", "forget", "1s"))
			}
			if i := a.instance("j0"); i.State != "starting" {
				t.Errorf("before any job has run j0 is %s", i.State)
			}
			until := func(job, want string, check func() bool) {
				t.Helper()
				harness.Eventually(t, func() error {
					runs(t, k, a, job)
					if !check() {
						_, list, _ := harness.Routed(t.Context(), k.Redis, host)
						return fmt.Errorf("want %s; the list is %q", want, list)
					}
					return nil
				})
			}
			picks := func(want ...string) func() bool {
				return func() bool {
					pick, _, err := harness.Routed(t.Context(), k.Redis, host)
					return err == nil && harness.SameSet(pick, want)
				}
			}
			until("probe", "both to be healthy", picks(one.URL(), two.URL()))
			one.Is(harness.Refuses)
			until("probe", "the dead one to be marked", picks(two.URL()))
			until("expire", "the dead one to be forgotten", func() bool {
				return a.call(http.MethodGet, "/v1/instances/j0", nil).status == http.StatusNotFound
			})
			until("compact", "the dead one to have left the list", func() bool {
				_, list, err := harness.Routed(t.Context(), k.Redis, host)
				return err == nil && harness.SameSet(list, []string{two.URL()})
			})
			runs(t, k, a, "reconcile")
			if i := a.instance("j1"); i.State != "healthy" {
				t.Errorf("the other one is %s", i.State)
			}
		})
	}
}

// TestJobsRunNowAndThenAfterACronProcessIsGone replaces a cron process by an outside scheduler whose
// runs are further apart than a lease.
func TestJobsRunNowAndThenAfterACronProcessIsGone(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	cron := k.Process("cron")
	_, a := k.web()
	b := harness.NewBackend(t)
	a.register(harness.Registration(b, "left", "left.localhost", "forget", "3s"))
	a.awaitState("left", "healthy")
	cron.Stop()
	b.Is(harness.Refuses)
	for began := time.Now(); ; time.Sleep(4 * time.Second) {
		for _, job := range []string{"probe", "expire", "compact"} {
			if got := a.call(http.MethodPost, "/v1/jobs/"+job+"/run", nil); got.status != http.StatusOK {
				t.Fatalf("run %s: %s", job, got)
			}
		}
		if a.call(http.MethodGet, "/v1/instances/left", nil).status == http.StatusNotFound {
			return
		}
		if time.Since(began) > harness.Patience {
			t.Fatalf("it is still there: %s", a.call(http.MethodGet, "/v1/instances/left", nil))
		}
	}
}

func TestAJobThatCannotReachRedisFails(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	_, a := k.web()
	k.Server.Stop()
	harness.Eventually(t, func() error {
		got := a.once(http.MethodPost, "/v1/jobs/probe/run", nil)
		if got.status != http.StatusServiceUnavailable || got.header.Get("Retry-After") == "" {
			return fmt.Errorf("%s, want 503 and when to try again", got)
		}
		if !strings.Contains(got.header.Get("Content-Type"), "problem+json") {
			return fmt.Errorf("the answer is %s", got.header.Get("Content-Type"))
		}
		return nil
	})
}
