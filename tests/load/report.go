package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// report writes the table and the charts of docs/benchmarks.md, docs/scaling.md and the scale section of the README from the
// results, and prints the table.
func report(dir string) error {
	all, err := readResults(filepath.Join(dir, "results"))
	if err != nil {
		return err
	}
	if len(all) == 0 {
		return fmt.Errorf("nothing has been measured yet")
	}
	var f figures
	for _, r := range all {
		f = append(f, r.Samples...)
	}
	table, missed := tableOf(f)
	fmt.Printf("\n%s\n", table)
	for _, r := range all {
		for side, why := range r.Failed {
			fmt.Printf("%s: %s failed: %s\n", r.Step, side, why)
		}
		for _, what := range r.Skipped {
			fmt.Printf("%s: skipped %s\n", r.Step, what)
		}
	}
	fmt.Printf("%d goals are missed\n", missed)
	if err := drawAll(filepath.Join(dir, "results"), f); err != nil {
		return err
	}
	docs := filepath.Join(dir, "../../docs")
	if err := fill(filepath.Join(docs, "benchmarks.md"), "figures", origin(all)+"\n\n"+table); err != nil {
		return err
	}
	if err := fill(filepath.Join(docs, "scaling.md"), "scaling", scaling(f)); err != nil {
		return err
	}
	return fill(filepath.Join(docs, "../README.md"), "scale", scale(f))
}

// origin says where and when figures were taken.
func origin(all []*results) string {
	r := all[0]
	return fmt.Sprintf("%s on %d cores of %s, %s, with `make bench` (%s). Medians of paired rounds; in brackets their\n90 %% confidence interval.",
		r.At.Format("January 2006"), r.Machine.Cores, r.Machine.CPU, r.Machine.Go, r.Pace)
}

// tableOf compares every goal with its measured figure.
func tableOf(f figures) (table string, missed int) {
	var t strings.Builder
	t.WriteString("| goal | what | wanted | measured | reached |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		measured, reached := "not measured", ""
		if values := g.measured(f); len(values) > 0 {
			s := spreadOf(values)
			measured = fmt.Sprintf("%s%s (%s – %s)", figure(s.Center), unit(g.unit), figure(s.Lo), figure(s.Hi))
			if g.worst() {
				measured += ", at most " + figure(s.most)
			}
			if reached = "yes"; !g.reached(s) {
				reached = "**no**"
				missed++
			}
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", g.id, g.text, g.wants(), measured, reached)
	}
	return t.String(), missed
}

// medians returns the median of each figure, or false when one was not measured.
func (f figures) medians(of map[string][]float64) (map[string]float64, bool) {
	m := map[string]float64{}
	for name, values := range of {
		if len(values) == 0 {
			return nil, false
		}
		m[name] = spreadOf(values).Center
	}
	return m, true
}

const notMeasured = "Not measured yet: `make bench`.\n"

// scale is the short table of the README.
func scale(f figures) string {
	m, ok := f.medians(map[string][]float64{
		"made":   f.rounds(million+"probes made, of those due", us, 1),
		"late":   f.rounds(million+"lateness, p99", us, 1),
		"cores":  f.rounds(million+"CPU of all workers", us, 1),
		"redis":  f.rounds(million+"CPU of Redis, of a core", us, 1),
		"worker": f.rounds(million+"memory of the worker", us, 1),
		"moved":  f.rounds(million+"the share of a killed worker has moved", us, 4),
	})
	if !ok {
		return notMeasured
	}
	return fmt.Sprintf(`| one worker, a million instances, a probe of each every 2 s, 100 state changes a second | measured |
|---|---|
| probes made, of those due; lateness, p99 | %s %% · %s ms |
| CPU of the worker beside the probes themselves | %s cores |
| CPU of Redis | %s %% of a core |
| memory of the worker | %s GiB |
| with four workers: time until the share of a killed one has moved | %s s |
`, figure(m["made"]), figure(m["late"]), figure(m["cores"]), figure(m["redis"]), figure(m["worker"]/1024), figure(m["moved"]))
}

// scaling is the arithmetic for a million instances, from the measured figures.
func scaling(f figures) string {
	m, ok := f.medians(map[string][]float64{
		"bytes":  f.rounds("bytes in Redis of an instance", us, f.largest("bytes in Redis of an instance", us)),
		"web":    f.rounds("memory of web for 1,000 instances", us, f.largest("memory of web for 1,000 instances", us)),
		"worker": f.rounds("CPU of 10,000 probes", us, 1000),
		"new":    f.rounds("registrations, new ids", us, 64),
		"again":  f.rounds("registrations, known ids, by size", us, f.largest("registrations, known ids, by size", us)),
		"redis":  f.rounds(million+"CPU of Redis, of a core", us, 1),
	})
	if !ok {
		return notMeasured
	}
	const instances = 1e6
	cores := func(every float64) string { return figure(instances / every / 10_000 * m["worker"]) }
	return scale(f) + fmt.Sprintf(`
The network of this table is simulated: its probes cost nothing. The other figures follow from the measured ones:

| resource | a million instances |
|---|---|
| memory of the Redis primary, and of each replica | %s B each: %s GiB; twice that while it forks to save |
| memory of each web process | %s GiB |
| CPU of Redis, probes every 2 s, 100 state changes a second | %s %% of a core |
| CPU of all workers, probes over HTTP included, every 2 s · 10 s · 60 s | %s · %s · %s cores |
| a re-registration of each instance every 10 s | 100,000/s: %s cores of web processes, no write to Redis |
| all register anew, after Redis was lost | %s min through one web process at %s/s |

The workers' CPU is the limit, and grows with the number of workers. Every write goes through one Redis primary; replicas
under Sentinel take over when it dies. A probe that changes nothing makes no call to Redis.
`, figure(m["bytes"]), figure(m["bytes"]*instances/(1<<30)), figure(m["web"]*instances/1000/1024), figure(m["redis"]),
		cores(2), cores(10), cores(60), figure(instances/10*m["again"]/1e6), figure(instances/m["new"]/60), figure(m["new"]))
}

// fill replaces the text between the two markers of a document. It returns an error if a marker is missing.
func fill(path, name, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+": tests/load/report.go -->\n", "<!-- end of "+name+" -->\n"
	head, rest, found := strings.Cut(string(old), begin)
	_, tail, ends := strings.Cut(rest, end)
	if !found || !ends {
		return fmt.Errorf("%s has no markers of %s", filepath.Base(path), name)
	}
	return os.WriteFile(path, []byte(head+begin+strings.TrimRight(text, "\n")+"\n"+end+tail), 0o644)
}
