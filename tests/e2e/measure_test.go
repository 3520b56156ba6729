package e2e

import (
	"cmp"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// TestMeasure measures the time from the first pass of a check until the instance is routed, and from a
// crash until it is marked, with the default settings. It asserts no figure. ROLLCALL_MEASURE is the
// number of samples.
func TestMeasure(t *testing.T) { //nolint:paralleltest //nolint:paralleltest // it would measure the other tests
	n, err := strconv.Atoi(cmp.Or(os.Getenv("ROLLCALL_MEASURE"), "0"))
	if err != nil || n < 1 {
		t.Skip("ROLLCALL_MEASURE is not set to a number of samples")
	}
	k := newStack(t)
	k.Process("cron")
	_, a := k.web()
	through := newVisitor(k.edge())
	const host = "measure.localhost"
	steady := harness.NewBackend(t)
	a.register(harness.Registration(steady, "steady", host))
	a.awaitState("steady", "healthy")

	took := map[string][]time.Duration{}
	until := func(what string, since time.Time, is func(pick []string) bool) {
		t.Helper()
		for deadline := time.Now().Add(harness.Patience); ; time.Sleep(2 * time.Millisecond) {
			pick, _, err := harness.Routed(t.Context(), k.Redis, host)
			if err != nil {
				t.Fatal(err)
			}
			if is(pick) {
				took[what] = append(took[what], time.Since(since))
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("%s: not within %s", what, harness.Patience)
			}
		}
	}
	crash := func(what string, sample int, bad harness.Mode, visit bool) {
		t.Helper()
		b := harness.NewBackend(t)
		id := fmt.Sprintf("victim-%s-%d", what[:3], sample)
		a.register(harness.Registration(b, id, host))
		has := func(pick []string) bool { return slices.Contains(pick, b.URL()) }
		for len(b.Probed(id)) == 0 {
			time.Sleep(time.Millisecond)
		}
		until("first pass -> routed", b.Probed(id)[0], has)
		// At a random moment between two probes.
		time.Sleep(2500*time.Millisecond + time.Duration(sample)*113*time.Millisecond%(2*time.Second))
		b.Is(bad)
		crashed := time.Now()
		if visit {
			end := make(chan struct{})
			go func() {
				defer close(end)
				for time.Since(crashed) < 500*time.Millisecond {
					_, _, _ = through.visit(t.Context(), host, "")
					time.Sleep(5 * time.Millisecond)
				}
			}()
			defer func() { <-end }()
			until(what+": crash -> not routed", crashed, func(pick []string) bool { return !has(pick) })
			// The proxy's mark comes first; Rollcall's follows when the registry changes.
			for a.instance(id).State != "unhealthy" {
				time.Sleep(2 * time.Millisecond)
			}
			took[what+": crash -> verdict"] = append(took[what+": crash -> verdict"], time.Since(crashed))
		} else {
			until(what+": crash -> marked", crashed, func(pick []string) bool { return !has(pick) })
		}
		a.call("DELETE", "/v1/instances/"+id, nil)
	}
	for sample := range n {
		crash("refused", sample, harness.Refuses, false)
		crash("hanging", sample, harness.Hangs, false)
		crash("announced", sample, harness.Refuses, true)
	}
	for _, what := range slices.Sorted(maps.Keys(took)) {
		d := slices.Sorted(slices.Values(took[what]))
		t.Logf("%-36s %3d samples: median %6s, p90 %6s, max %6s", what, len(d),
			d[len(d)/2].Round(time.Millisecond), d[len(d)*9/10].Round(time.Millisecond), d[len(d)-1].Round(time.Millisecond))
	}
}
