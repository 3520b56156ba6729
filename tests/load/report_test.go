package main

import (
	"math"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestQuantileIsReadFromWhatAHistogramGrewBy(t *testing.T) {
	t.Parallel()
	const before, after = 0, 1
	m := []map[string]float64{{}, {}}
	for le, n := range map[string][2]float64{"0.05": {10, 60}, "0.1": {10, 110}, "+Inf": {10, 110}} {
		series := `late_bucket{kind="http",le="` + le + `"}`
		m[before][series], m[after][series] = n[0], n[1]
	}
	for q, want := range map[float64]float64{.25: .025, .5: .05, .75: .075, 1: .1} {
		if got := quantile(q, "late", m[before], m[after]); math.Abs(got-want) > 1e-9 {
			t.Errorf("quantile %g is %g, want %g", q, got, want)
		}
	}
	if got := quantile(.5, "late", m[after], m[after]); !math.IsNaN(got) {
		t.Errorf("of nothing it is %g", got)
	}
}

func TestFillReplacesOnlyTheTextBetweenTheMarkers(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "benchmarks.md")
	text := func(figures string) string {
		return "before\n<!-- figures: go run ./tests/load report -->\n" + figures + "<!-- end of figures -->\nafter\n"
	}
	if err := os.WriteFile(path, []byte(text("old\n")), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := fill(path, "figures", "| new |\n\n"); err != nil {
			t.Fatal(err)
		}
	}
	if got, _ := os.ReadFile(path); string(got) != text("| new |\n") {
		t.Errorf("it is %q", got)
	}
	if err := fill(path, "scaling", "x"); err == nil {
		t.Error("a document without markers was accepted")
	}
}

func TestATableSaysWhatIsReachedAndWhatIsMissed(t *testing.T) {
	t.Parallel()
	var f figures
	for side, rounds := range map[string][]float64{us: {800, 900, 850}, "F3": {1000, 1000, 1000}} {
		f = append(f, &sample{What: "reads of ten healthy instances", Side: side, X: 64, Rounds: rounds})
	}
	table, missed := tableOf(f)
	if !strings.Contains(table, "| ≥ 0.80× | 0.85× (0.80 – 0.90) | yes |") || missed != 0 {
		t.Errorf("%d missed:\n%s", missed, table)
	}
	f = append(f, &sample{What: "idle CPU", Side: us, Rounds: []float64{.6}})
	if table, missed = tableOf(f); !strings.Contains(table, "| ≤ 0.50 % | 0.60 % (0.60 – 0.60) | **no** |") || missed != 1 {
		t.Errorf("%d missed:\n%s", missed, table)
	}
}
