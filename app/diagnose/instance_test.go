package diagnose_test

import (
	"strings"
	"testing"

	"rollcall/app"
	"rollcall/app/diagnose"
)

func TestADisputedInstanceIsSaidToBe(t *testing.T) {
	t.Parallel()
	i := app.Instance{ID: "i1", State: app.Healthy, Streak: 1, Check: app.DefaultCheck(app.TCP)}
	recent := app.Recent{Results: []app.Result{{Code: app.TimedOut}}}
	if text := diagnose.Instance(i, recent); strings.Contains(text, "disputed") {
		t.Errorf("without a dispute: %s", text)
	}
	recent.Disputed = true
	if text := diagnose.Instance(i, recent); !strings.Contains(text, "It is disputed") || !strings.Contains(text, "timed out") {
		t.Errorf("disputed: %s", text)
	}
}
