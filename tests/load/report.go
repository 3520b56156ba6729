package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// report writes the table and the charts of docs/benchmarks.md, and docs/scaling.md, from the results,
// and prints the table.
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
	return fill(filepath.Join(docs, "scaling.md"), "scaling", scaling(f))
}

// origin says where and when figures were taken.
func origin(all []*results) string {
	r := all[0]
	return fmt.Sprintf("%s on %d cores of %s, %s, with `make bench` (%s). Medians of paired rounds, smallest and largest in brackets.",
		r.At.Format("January 2006"), r.Machine.Cores, r.Machine.CPU, r.Machine.Go, r.Pace)
}

// tableOf compares every goal with what was measured.
func tableOf(f figures) (table string, missed int) {
	var t strings.Builder
	t.WriteString("| goal | what | wanted | measured | reached |\n|---|---|---|---|---|\n")
	for _, g := range goals {
		measured, reached := "not measured", ""
		if values := g.measured(f); len(values) > 0 {
			s := spreadOf(values)
			measured = fmt.Sprintf("%s%s (%s – %s)", figure(s.median), unit(g.unit), figure(s.low), figure(s.high))
			if reached = "yes"; !g.reached(s) {
				reached = "**no**"
				missed++
			}
		}
		fmt.Fprintf(&t, "| %s | %s | %s | %s | %s |\n", g.id, g.text, g.wants(), measured, reached)
	}
	return t.String(), missed
}

// scaling is the arithmetic for a million instances, from what was measured. It is empty
// when that is not known.
func scaling(f figures) string {
	m := map[string]float64{}
	for name, values := range map[string][]float64{
		"bytes":  f.rounds("bytes in Redis of an instance", us, f.largest("bytes in Redis of an instance", us)),
		"web":    f.rounds("memory of web for 1,000 instances", us, f.largest("memory of web for 1,000 instances", us)),
		"cron":   f.rounds("memory of cron for 1,000 instances", us, f.largest("memory of cron for 1,000 instances", us)),
		"worker": f.rounds("CPU of 10,000 probes", us, 1000),
		"both":   f.rounds("CPU of 10,000 probes", us+" with Redis", 1000),
		"new":    f.rounds("registrations, new ids", us, 64),
		"again":  f.rounds("registrations, known ids, by size", us, f.largest("registrations, known ids, by size", us)),
	} {
		if len(values) == 0 {
			return "Not measured yet: `make bench`.\n"
		}
		m[name] = spreadOf(values).median
	}
	const million = 1e6
	inRedis := m["both"] - m["worker"]
	cores := func(per10000, every float64) string { return figure(million / every / 10_000 * per10000) }
	return fmt.Sprintf(`One Redis primary, replicas under Sentinel for when it dies: every write goes through the primary, which has one core for it.
What a million instances take, from the figures above:

| what | a million instances |
|---|---|
| memory of the primary, and of each replica | %s B each: %s GiB; twice that while it forks to save |
| memory of each web process; of each worker | %s GiB · %s GiB |
| Redis's core, probed every 2 s · 10 s · 60 s | %s · %s · %s cores |
| the workers' cores, likewise | %s · %s · %s |
| all of them say again every 10 s that they are there | 100,000/s: %s cores of web processes, nearly nothing in Redis |
| all of them register anew, after Redis was lost | %s min through one web process of this machine at %s/s |

One core of Redis is the limit: probe a million instances every %s s or less often, and leave it half idle for what comes in bursts.
`, figure(m["bytes"]), figure(m["bytes"]*million/(1<<30)),
		figure(m["web"]*million/1000/1024), figure(max(m["cron"], 0)*million/1000/1024),
		cores(inRedis, 2), cores(inRedis, 10), cores(inRedis, 60),
		cores(m["worker"], 2), cores(m["worker"], 10), cores(m["worker"], 60),
		figure(million/10*m["again"]/1e6),
		figure(million/m["new"]/60), figure(m["new"]),
		figure(million/10_000*inRedis/.5))
}

// fill replaces the text between the two markers of a document. It returns an error if a marker is missing.
func fill(path, name, text string) error {
	old, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	begin, end := "<!-- "+name+": go run ./tests/load report -->\n", "<!-- end of "+name+" -->\n"
	head, rest, found := strings.Cut(string(old), begin)
	_, tail, ends := strings.Cut(rest, end)
	if !found || !ends {
		return fmt.Errorf("%s has no markers of %s", filepath.Base(path), name)
	}
	return os.WriteFile(path, []byte(head+begin+strings.TrimRight(text, "\n")+"\n"+end+tail), 0o644)
}
