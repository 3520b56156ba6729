package docker_test

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

// TestAlertRules checks the rules, and that each alert fires in a unit test of promtool.
func TestAlertRules(t *testing.T) {
	t.Parallel()
	harness.Need(t, "promtool")
	for _, args := range [][]string{{"check", "rules", "alerts.yaml"}, {"test", "rules", "alerts.test.yaml"}} {
		if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	rules, err := os.ReadFile("alerts.yaml")
	if err != nil {
		t.Fatal(err)
	}
	tests, err := os.ReadFile("alerts.test.yaml")
	if err != nil {
		t.Fatal(err)
	}
	fires := map[string]bool{}
	for _, found := range regexp.MustCompile(`- alertname: (\w+)\n\s+eval_time: \w+\n\s+exp_alerts:\n`).FindAllStringSubmatch(string(tests), -1) {
		fires[found[1]] = true
	}
	for _, found := range regexp.MustCompile(`- alert: (\w+)`).FindAllStringSubmatch(string(rules), -1) {
		if !fires[found[1]] {
			t.Errorf("no unit test in alerts.test.yaml fires %s", found[1])
		}
	}
}
