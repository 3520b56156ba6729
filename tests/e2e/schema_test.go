package e2e

import (
	"fmt"
	"strings"
	"testing"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

// TestRunningProcessesGoOnBesideAnAdditiveSchema raises the schema as a newer version does. Running processes go on if the
// newer version admits them, new ones are refused, and all end when a newer version admits them no longer.
func TestRunningProcessesGoOnBesideAnAdditiveSchema(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	cron := k.Process("cron")
	web, a := k.web()
	a.register(harness.Registration(harness.NewBackend(t), "before", "before.localhost"))
	a.awaitState("before", "healthy")
	k.Redis.MSet(t.Context(), "rollcall:schema", migrations.Latest+1, "rollcall:schema:oldest", migrations.Latest)
	for _, p := range []*harness.Process{cron, web} {
		harness.Eventually(t, func() error {
			if !strings.Contains(p.Log.String(), "a newer version has migrated the keys") {
				return fmt.Errorf("%s has not noticed the newer schema: %s", p.Name, p.Log.String())
			}
			return nil
		})
	}
	a.register(harness.Registration(harness.NewBackend(t), "after", "after.localhost"))
	a.awaitState("after", "healthy")
	for _, command := range []string{"web", "cron", "edge"} {
		if code, _, log := harness.Run(t, k.Env, command); code != 1 || !strings.Contains(log, "newer") {
			t.Errorf("a start of %s on a newer schema ends with %d and says %q, want a refusal", command, code, log)
		}
	}

	k.Redis.Set(t.Context(), "rollcall:schema:oldest", migrations.Latest+1, 0)
	for _, p := range []*harness.Process{cron, web} {
		if code := p.Wait(); code != 1 {
			t.Errorf("%s ends with %d, want 1", p.Name, code)
		}
		p.End() // the code 1 is expected
	}
}
