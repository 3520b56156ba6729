package main

import (
	"encoding/xml"
	"math"
	"os"
	"path/filepath"
	"slices"
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
		return "before\n<!-- figures: tests/load/report.go -->\n" + figures + "<!-- end of figures -->\nafter\n"
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

func TestAnIntervalNeedsFiveRounds(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ rounds, want []float64 }{ // median, interval, largest
		{[]float64{3, 1}, []float64{2, 1, 3, 3}},
		{[]float64{5, 1, 4, 2, 3}, []float64{3, 1, 5, 5}},
		{[]float64{9, 1, 8, 2, 7, 3, 6, 4, 5, 100}, []float64{5.5, 2, 8, 100}},
	} {
		s := spreadOf(c.rounds)
		if got := []float64{s.Center, s.Lo, s.Hi, s.most}; !slices.Equal(got, c.want) {
			t.Errorf("%v: median, interval and largest are %v, want %v", c.rounds, got, c.want)
		}
	}
}

func TestChartsAreReadableOnBlackAndOnWhite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	all, err := readResults("results")
	if err != nil {
		t.Fatal(err)
	}
	var f figures
	for _, r := range all {
		f = append(f, r.Samples...)
	}
	if err := drawAll(dir, f); err != nil {
		t.Fatal(err)
	}
	for _, c := range charts {
		text, err := os.ReadFile(filepath.Join(dir, c.file+".svg"))
		if err != nil {
			t.Fatal(err)
		}
		var svg struct {
			Style string `xml:"style"`
		}
		if err := xml.Unmarshal(text, &svg); err != nil || !strings.Contains(svg.Style, "prefers-color-scheme:dark") {
			t.Errorf("%s: %v, its style is %q", c.file, err, svg.Style)
		}
		for _, s := range c.series {
			if !strings.Contains(string(text), s.label) {
				t.Errorf("%s has no %q", c.file, s.label)
			}
		}
	}
}
