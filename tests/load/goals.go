package main

import (
	"fmt"
	"slices"

	"golang.org/x/perf/benchmath"
)

// figures are the samples of all steps.
type figures []*sample

func (f figures) rounds(what, side string, x int) []float64 {
	for _, s := range f {
		if s.What == what && s.Side == side && s.X == x {
			return s.Rounds
		}
	}
	return nil
}

// A goal is a bound of a figure.
type goal struct {
	id, text string
	measured func(figures) []float64 // by round; none: not measured
	most     bool                    // the bound is not to be exceeded; else it is to be reached
	bound    float64
	unit     string
}

// over is the ratio of two sides of the same rounds.
func over(what, a, b string, x int) func(figures) []float64 {
	return ofBoth(what, a, x, what, b, x)
}

func ofBoth(whatA, a string, xa int, whatB, b string, xb int) func(figures) []float64 {
	return func(f figures) (ratios []float64) {
		as, bs := f.rounds(whatA, a, xa), f.rounds(whatB, b, xb)
		for n := range min(len(as), len(bs)) {
			if bs[n] > 0 {
				ratios = append(ratios, as[n]/bs[n])
			}
		}
		return ratios
	}
}

func value(what, side string, x int) func(figures) []float64 {
	return func(f figures) []float64 { return f.rounds(what, side, x) }
}

// atLargest is the value at the largest size that was measured.
func atLargest(what, side string) func(figures) []float64 {
	return func(f figures) []float64 { return f.rounds(what, side, f.largest(what, side)) }
}

// overSmallest is the ratio of the largest size to that of the smallest.
func overSmallest(what, side string) func(figures) []float64 {
	return func(f figures) []float64 { return ofBoth(what, side, f.largest(what, side), what, side, 1000)(f) }
}

func (f figures) largest(what, side string) (x int) {
	for _, s := range f {
		if s.What == what && s.Side == side {
			x = max(x, s.X)
		}
	}
	return x
}

// us is the side of Rollcall. The other names are figures that occur more than once.
const (
	us      = "Rollcall"
	million = "a million instances: "
	asMany  = "firings a second, as many as one core each can"
	burst   = "memory of web after a burst, of before"
)

// goals are in the order of the table.
var goals = []goal{
	{"R1", "registrations/s of known ids, 64 connections, against F2", over("registrations, known ids", us, "F2", 64), false, .85, "×"},
	{"R1", "... against F1", over("registrations, known ids", us, "F1", 64), false, 1.3, "×"},
	{"R1", "... against etcd lease + put", over("registrations, known ids", us, "etcd lease + put", 64), false, 5, "×"},
	{"R1", "registrations/s of new ids, 64 connections, against F2", over("registrations, new ids", us, "F2", 64), false, .6, "×"},
	{"R1", "... against etcd lease + put of new keys", over("registrations, new ids", us, "etcd lease + put", 64), false, 5, "×"},
	{"R2", "CPU of a registration, known id, against F2", over("registrations, known ids, CPU", us, "F2", 64), true, 1.25, "×"},
	{"R2", "CPU of a registration, new id, against F2", over("registrations, new ids, CPU", us, "F2", 64), true, 1.25, "×"},
	{"R3", "p50 of a registration at 1 connection, known id, against F1", over("registrations, known ids, p50", us, "F1", 1), true, 1.15, "×"},
	{"R3", "p99 at 64, known id, against F2", over("registrations, known ids, p99", us, "F2", 64), true, 1.25, "×"},
	{"R3", "p50 at 1 connection, new id, against F1", over("registrations, new ids, p50", us, "F1", 1), true, 1.4, "×"},
	{"R3", "p99 at 64, new id, against F2", over("registrations, new ids, p99", us, "F2", 64), true, 1.25, "×"},
	{"R4", "CPU of a registration with most instances / with 1,000", overSmallest("registrations, known ids, by size", us), true, 1.2, "×"},
	{"R5", "registrations/s, 100 in a call, 64 connections, against F1", ofBoth("registrations, 100 in a call", us, 64, "registrations, known ids", "F1", 64), false, 6, "×"},
	{"", "heartbeats/s, 64 connections, against F2", ofBoth("heartbeats", us, 64, "registrations, known ids", "F2", 64), false, .85, "×"},
	{"", "heartbeats/s of health=heartbeat, against F2", ofBoth("heartbeats", "Rollcall, health=heartbeat", 64, "registrations, known ids", "F2", 64), false, .85, "×"},
	{"D1", "reads/s of ten healthy instances, 64 connections, against F3", over("reads of ten healthy instances", us, "F3", 64), false, .8, "×"},
	{"D1", "... against etcd range", over("reads of ten healthy instances", us, "etcd range", 64), false, 6, "×"},
	{"D1", "picks/s, 64 connections, against F3", ofBoth("picks", us, 64, "reads of ten healthy instances", "F3", 64), false, .8, "×"},
	{"D2", "change in Redis to the answers of four processes, p99, after a bare reader", value("change in Redis to answers, p99", us, 4), true, 50, "ms"},
	{"P1", "CPU of a probe at 1,000/s, the worker's, against F4", over("CPU of 10,000 probes", us, "F4", 1000), true, 1.3, "×"},
	{"P1", "... the worker's and its Redis's, against F4", over("CPU of 10,000 probes", us+" with Redis", "F4", 1000), true, 1.15, "×"},
	{"P1", "... the worker's and its Redis's, against haproxy", over("CPU of 10,000 probes", us+" with Redis", "haproxy", 1000), true, 1.1, "×"},
	{"P2", "CPU of a probe at 100/s, the worker's and its Redis's, against F4", over("CPU of 10,000 probes", us+" with Redis", "F4", 100), true, 1.3, "×"},
	{"P2", "... against blackbox_exporter", over("CPU of 10,000 probes", us, "blackbox_exporter", 100), true, .3, "×"},
	{"P3", "probes/s, 8,000/s wanted, one worker, against F4", over("probes a second, as many as can be", us, "F4", 1), false, .8, "×"},
	{"P3", "... failures among them", value("false failures at the limit", us, 1), true, 0, ""},
	{"P3", "... p99 of a probe", value("probe p99 at the limit", us, 1), true, 100, "ms"},
	{"P4", "seconds that a probe holds an entry of connection tracking, at 2,500/s", func(f figures) []float64 {
		return value("tracked connections per probe a second", us, f.largest("tracked connections per probe a second", us))(f)
	}, true, 12, "s"},
	{"P4", "... packets that connection tracking dropped meanwhile", func(f figures) []float64 {
		return value("packets that connection tracking dropped", us, f.largest("packets that connection tracking dropped", us))(f)
	}, true, 0, ""},
	{"M1", "memory of web for 1,000 instances, at the largest size", atLargest("memory of web for 1,000 instances", us), true, 2, "MiB"},
	{"M1", "memory of cron for 1,000 instances, at the largest size", atLargest("memory of cron for 1,000 instances", us), true, 1.1, "MiB"},
	{"M2", "bytes in Redis of an instance, at the largest size", atLargest("bytes in Redis of an instance", us), true, 720, "B"},
	{"M2", "... with a path of 201 characters", atLargest("bytes in Redis of an instance", us+", a path of 201 characters"), true, 1100, "B"},
	{"T1", "refused to verdict, interval 1 s", value("failure to verdict, refused", us, 1), true, 1.4, "s"},
	{"T1", "... against haproxy", over("failure to verdict, refused", us, "haproxy", 1), true, 1, "×"},
	{"T2", "hanging to verdict, interval 1 s", value("failure to verdict, hanging", us, 1), true, 3.4, "s"},
	{"T2", "ten of twenty hanging at once, interval 1 s", value("failure to verdict, ten of twenty hang", us, 1), true, 3.4, "s"},
	{"T1", "refused to verdict, the default interval", value("failure to verdict, refused", us, 2), true, 2.4, "s"},
	{"T2", "hanging to verdict, the default interval", value("failure to verdict, hanging", us, 2), true, 4.4, "s"},
	{"S1", "CPU of a firing beside the probe, 100,000 instances, every 2 s", value("CPU of one firing", us, 100_000), true, 1, "µs"},
	{"S1", "lateness, p99, 10,000 instances, every 2 s", value("lateness of firings, p99", us, 10_000), true, 100, "ms"},
	{"S1", "lateness, p99, at 1,000 probes/s", value("lateness of probes, p99", us, 1000), true, 120, "ms"},
	{"S2", "Redis commands of a probe that changes nothing, 1,000 instances", value("Redis commands of one firing", us, 1000), true, .05, ""},
	{"S2", "... Redis's CPU, 1,000 instances", value("CPU of one firing", "its Redis", 1000), true, 1, "µs"},
	{"S2", "... Redis's CPU, 10,000 instances", value("CPU of one firing", "its Redis", 10_000), true, .3, "µs"},
	{"S2", "a script in Redis, p99", value("script in Redis, p99", us, 1000), true, 5, "ms"},
	{"E1", "requests/s through the edge, 64 connections, against ReverseProxy", over("requests through a proxy", us, "ReverseProxy + one read", 64), false, .85, "×"},
	{"C1", "start to ready, against F5", over("start to ready", us, "F5", 0), true, 2, "×"},
	{"C1", "idle memory, against F5", over("idle memory", us, "F5", 0), true, 1.7, "×"},
	{"C1", "... without the program's file", over("idle memory without the program's file", us, "F5", 0), true, 1.7, "×"},
	{"C1", "idle CPU", value("idle CPU", us, 0), true, .5, "%"},
	{"G1", "firings/s, 2 workers against 1, a core each", ofBoth(asMany, us, 2, asMany, us, 1), false, 1.9, "×"},
	{"G1", "CPU of a probe with most instances / with 1,000", overSmallest("CPU of 10,000 probes by size", us), true, 1.1, "×"},
	{"G2", "a million instances every 2 s, one worker: probes made, of those due", value(million+"probes made, of those due", us, 1), false, 99.5, "%"},
	{"G2", "... lateness, p99", value(million+"lateness, p99", us, 1), true, 100, "ms"},
	{"G2", "... Redis's CPU with 100 changes a second, of a core", value(million+"CPU of Redis, of a core", us, 1), true, 5, "%"},
	{"G2", "... four workers: the busiest's share, of the idlest's", value(million+"share of the busiest worker, of the idlest", us, 4), true, 1.1, "×"},
	{"G2", "... the share of a killed worker has moved", value(million+"the share of a killed worker has moved", us, 4), true, 5, "s"},
	{"X7", "memory of web 20 s after 3,000 registrations at once, against before", value(burst, us, 3000), true, 4, "×"},
}

// spread is a median with its confidence interval, and the largest value.
type spread struct {
	benchmath.Summary

	most float64
}

// confidence is the level that five rounds reach.
const confidence = .9

// spreadOf assumes no distribution. With too few rounds for the confidence, the interval is that of all values.
func spreadOf(rounds []float64) spread {
	sample := benchmath.NewSample(slices.Clone(rounds), &benchmath.DefaultThresholds)
	least, most := sample.Values[0], sample.Values[len(rounds)-1]
	s := spread{benchmath.AssumeNothing.Summary(sample, confidence), most}
	s.Lo, s.Hi = max(s.Lo, least), min(s.Hi, most)
	return s
}

// worst reports whether the largest value counts and not the median: it is the longest time that a user waits.
func (g goal) worst() bool { return g.unit == "s" && g.most }

func (g goal) reached(s spread) bool {
	switch {
	case g.worst():
		return s.most <= g.bound
	case g.most:
		return s.Center <= g.bound
	}
	return s.Center >= g.bound
}

func (g goal) wants() string {
	if g.most {
		return "≤ " + figure(g.bound) + unit(g.unit)
	}
	return "≥ " + figure(g.bound) + unit(g.unit)
}

func unit(u string) string {
	if u == "" || u == "×" {
		return u
	}
	return " " + u
}

// figure is a number as people read it: three digits that mean something.
func figure(v float64) string {
	switch {
	case v >= 10_000:
		n := int(v+50) / 100 * 100
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	case v >= 1000:
		n := int(v+5) / 10 * 10
		return fmt.Sprintf("%d,%03d", n/1000, n%1000)
	case v >= 100 || v == float64(int(v)):
		return fmt.Sprintf("%.0f", v)
	case v >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}
