package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"time"
)

// results are the results of one step, in a file of its own, written after every round.
type results struct {
	Step    string            `json:"step"`
	Pace    string            `json:"pace"`
	At      time.Time         `json:"at"`
	Took    string            `json:"took"`
	Machine machine           `json:"machine"`
	Failed  map[string]string `json:"failed,omitempty"`  // side -> why
	Skipped []string          `json:"skipped,omitempty"` // what is not on this machine
	Samples []*sample         `json:"samples"`

	dir string
}

type machine struct {
	CPU   string `json:"cpu"`
	Cores int    `json:"cores"`
	Go    string `json:"go"`
	Load  string `json:"load"` // before the step began
}

// sample is one side of a figure: a value for each round, so that two sides of one round can be compared.
type sample struct {
	What   string    `json:"what"`
	Unit   string    `json:"unit"`
	Side   string    `json:"side"`
	X      int       `json:"x,omitempty"` // connections, instances or processes
	Rounds []float64 `json:"rounds"`
}

func newResults(dir, step, pace string) *results {
	return &results{Step: step, Pace: pace, At: time.Now().UTC().Truncate(time.Second), Machine: thisMachine(), Failed: map[string]string{}, dir: dir}
}

func thisMachine() machine {
	m := machine{Cores: runtime.NumCPU(), Go: runtime.Version()}
	text, _ := os.ReadFile("/proc/cpuinfo")
	for line := range strings.Lines(string(text)) {
		if name, value, _ := strings.Cut(line, ":"); strings.TrimSpace(name) == "model name" {
			m.CPU = strings.TrimSpace(value)
		}
	}
	text, _ = os.ReadFile("/proc/loadavg")
	m.Load, _, _ = strings.Cut(string(text), " ")
	return m
}

// add keeps the value of one round.
func (r *results) add(what, unit, side string, x int, value float64) {
	fmt.Printf("  %-44s %6s  %-22s %10.4g %s\n", what, number(x), side, value, unit)
	if s := r.find(what, side, x); s != nil {
		s.Rounds = append(s.Rounds, value)
		return
	}
	r.Samples = append(r.Samples, &sample{What: what, Unit: unit, Side: side, X: x, Rounds: []float64{value}})
}

func number(x int) string {
	if x == 0 {
		return ""
	}
	return fmt.Sprint(x)
}

func (r *results) find(what, side string, x int) *sample {
	at := slices.IndexFunc(r.Samples, func(s *sample) bool { return s.What == what && s.Side == side && s.X == x })
	if at < 0 {
		return nil
	}
	return r.Samples[at]
}

func (r *results) fail(side string, err error) {
	fmt.Printf("  FAILED: %s: %v\n", side, err)
	r.Failed[side] = err.Error()
}

func (r *results) skip(what string) {
	fmt.Printf("  skipped: %s\n", what)
	r.Skipped = append(r.Skipped, what)
}

func (r *results) save() error {
	r.Took = time.Since(r.At).Round(time.Second).String()
	text, err := json.MarshalIndent(r, "", " ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(r.dir, 0o755); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, r.Step+".json"), append(text, '\n'), 0o644)
}

// readResults reads the results of all steps.
func readResults(dir string) ([]*results, error) {
	names, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err != nil {
		return nil, err
	}
	var all []*results
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		r := &results{}
		if err := json.Unmarshal(text, r); err != nil {
			return nil, fmt.Errorf("%s: %w", name, err)
		}
		all = append(all, r)
	}
	return all, nil
}
