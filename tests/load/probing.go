package main

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
)

// probed registers n instances of a service at a target, checked every interval.
func (s *site) probed(t *target, service string, n int, every time.Duration) error {
	return s.fill(fmt.Sprintf(`{"service":%q,"id":"%s-{n}","address":"127.{address}:%s","health":"/","interval":%q,"timeout":"1s","rise":1}`,
		service, service, t.port, every), n)
}

// figures reads a process's metrics by name and labels, as they are written.
func (b *bench) figures(addr string) (map[string]float64, error) {
	text, err := b.get("http://" + addr + "/metrics")
	if err != nil {
		return nil, err
	}
	m := map[string]float64{}
	for line := range strings.Lines(string(text)) {
		if at := strings.LastIndexByte(line, ' '); at > 0 && line[0] != '#' {
			m[line[:at]], _ = strconv.ParseFloat(strings.TrimSpace(line[at:]), 64)
		}
	}
	return m, nil
}

// done is how many probes a process says that it has made.
func done(m map[string]float64) (n float64) {
	for series, v := range m {
		if strings.HasPrefix(series, "rollcall_probes_total{") {
			n += v
		}
	}
	return n
}

// failures is how many of them did not pass.
func failures(m map[string]float64) float64 {
	return done(m) - m[`rollcall_probes_total{kind="http",outcome="passed"}`]
}

// quantile reads a histogram's growth between two readings, as Prometheus does: by a
// straight line between the bounds of its buckets.
func quantile(q float64, name string, before, after map[string]float64) float64 {
	type bucket struct{ le, n float64 }
	var buckets []bucket
	for series := range after {
		labels, ok := strings.CutPrefix(series, name+"_bucket{")
		if !ok {
			continue
		}
		_, text, _ := strings.Cut(labels, `le="`)
		text, _, _ = strings.Cut(text, `"`)
		le, err := strconv.ParseFloat(text, 64)
		if err != nil {
			continue
		}
		buckets = append(buckets, bucket{le, after[series] - before[series]})
	}
	slices.SortFunc(buckets, func(a, b bucket) int { return int(math.Copysign(1, a.le-b.le)) })
	if len(buckets) == 0 || buckets[len(buckets)-1].n == 0 {
		return math.NaN()
	}
	rank, low := q*buckets[len(buckets)-1].n, bucket{}
	for _, b := range buckets {
		if b.n >= rank {
			if math.IsInf(b.le, 1) || b.n == low.n {
				return low.le
			}
			return low.le + (b.le-low.le)*(rank-low.n)/(b.n-low.n)
		}
		low = b
	}
	return low.le
}

// prober is one side that probes a target of its own, without pause.
type prober struct {
	name   string
	target *target
	start  func() (*process, error)
	redis  *server // which it uses; nil: none

	running *process
}

// counted is the work of a side so far.
type counted struct{ probes, cpu, redis float64 }

func (p *prober) now() (c counted, err error) {
	c.probes, err = p.target.count()
	c.cpu = p.running.cpu()
	if p.redis != nil {
		c.redis = p.redis.cpu()
	}
	return c, err
}

// cost measures the CPU of probes for a while.
func (b *bench) cost(probers []*prober, rate int, window time.Duration) error {
	before := make([]counted, len(probers))
	for n, p := range probers {
		var err error
		if before[n], err = p.now(); err != nil {
			return err
		}
	}
	began := time.Now()
	b.rest(window)
	took := time.Since(began).Seconds()
	for n, p := range probers {
		is, err := p.now()
		if err != nil {
			return err
		}
		probes := is.probes - before[n].probes
		if probes < float64(rate)*took/2 {
			return fmt.Errorf("%s made %.0f probes in %.1f s, %d/s were wanted", p.name, probes, took, rate)
		}
		per := 10_000 / probes
		b.results.add("CPU of 10,000 probes", "s", p.name, rate, (is.cpu-before[n].cpu)*per)
		if p.redis != nil {
			both := is.cpu - before[n].cpu + is.redis - before[n].redis
			b.results.add("CPU of 10,000 probes", "s", p.name+" with Redis", rate, both*per)
		}
	}
	return nil
}

// probers are Rollcall and its peers, each with its own target, for a rate that two seconds' worth of instances make.
func (b *bench) probers(rate int) (all []*prober, s *site, err error) {
	instances := 2 * rate
	var targets []*target
	for range 4 {
		t, err := b.target()
		if err != nil {
			return nil, nil, err
		}
		targets = append(targets, t)
	}
	if s, err = b.site(); err != nil {
		return nil, nil, err
	}
	if err := s.probed(targets[0], "probed", instances, 2*time.Second); err != nil {
		return nil, nil, err
	}
	p, _, err := s.cron()
	if err != nil {
		return nil, nil, err
	}
	if err := s.awaitHealthy("probed", instances); err != nil {
		return nil, nil, err
	}
	p.stop()
	all = append(
		all,
		&prober{name: "Rollcall", target: targets[0], redis: s.redis, start: func() (*process, error) {
			p, _, err := s.cron()
			return p, err
		}},
		&prober{name: "F4", target: targets[1], start: func() (*process, error) {
			p, _, err := b.floor("probe", targets[1].port, strconv.Itoa(instances), strconv.Itoa(rate))
			return p, err
		}},
	)
	if _, ok := b.peer("haproxy"); ok {
		var servers strings.Builder
		servers.WriteString("  option httpchk GET /\n  default-server check inter 2s fall 2 rise 1\n")
		for n := range instances {
			fmt.Fprintf(&servers, "  server s%d 127.%s:%s\n", n, addressOf(n), targets[2].port)
		}
		all = append(all, &prober{name: "haproxy", target: targets[2], start: func() (*process, error) {
			p, _, err := b.haproxy(servers.String())
			return p, err
		}})
	}
	if _, ok := b.peer("prometheus-blackbox-exporter"); ok && rate <= 100 {
		all = append(all, &prober{name: "blackbox_exporter", target: targets[3], start: func() (*process, error) {
			p, addr, err := b.blackbox()
			if err != nil {
				return nil, err
			}
			_, err = b.start(nil, b.self, "ask", "http://"+addr+"/probe?module=http_2xx&target=http://127.0.0.1:"+targets[3].port+"/", strconv.Itoa(rate))
			return p, err
		}})
	}
	return all, s, nil
}

// probesStep measures the CPU of probes: at 1,000 a second one side after the other, at 100
// a second all at the same time.
func probesStep(b *bench) error {
	all, s, err := b.probers(1000)
	if err != nil {
		return err
	}
	if err := b.times(func() error {
		for _, p := range all {
			b.try(p.name, func() (err error) {
				if p.running, err = p.start(); err != nil {
					return err
				}
				defer p.running.stop()
				b.rest(2 * time.Second)
				return b.cost([]*prober{p}, 1000, 4*b.window)
			})
		}
		return nil
	}); err != nil {
		return err
	}
	b.try("Redis calls of probes", func() error { return s.calls() })
	if all, _, err = b.probers(100); err != nil {
		return err
	}
	for _, p := range all {
		if p.running, err = p.start(); err != nil {
			return err
		}
	}
	b.rest(2 * time.Second)
	return b.times(func() error { return b.cost(all, 100, 8*b.window) })
}

// calls measures a worker's calls of Redis: how long they take there, by script.
func (s *site) calls() error {
	b := s.b
	p, metrics, err := s.cron()
	if err != nil {
		return err
	}
	defer p.stop()
	b.rest(2 * time.Second)
	rdb := s.redis.rdb
	return b.times(func() error {
		if err := rdb.ConfigResetStat(b.ctx).Err(); err != nil {
			return err
		}
		before, err := b.figures(metrics)
		if err != nil {
			return err
		}
		cpu := p.cpu()
		b.rest(4 * b.window)
		cpu = p.cpu() - cpu
		after, err := b.figures(metrics)
		if err != nil {
			return err
		}
		stats, err := s.redis.commands(b.ctx)
		if err != nil {
			return err
		}
		probes := done(after) - done(before)
		b.results.add("all scripts in Redis, of the worker's CPU", "%", us, 1000, stats.inScripts/cpu*100)
		b.results.add("scripts per probe", "", us, 1000, stats.scripts/probes)
		b.results.add("commands per probe, those of scripts included", "", us, 1000, stats.calls/probes)
		b.results.add("script in Redis, p99", "ms", us, 1000, stats.p99)
		b.results.add("lateness of probes, p99", "ms", us, 1000, quantile(.99, "rollcall_probe_lateness_seconds", before, after)*1000)
		return nil
	})
}

// commands is the work of a Redis since its statistics were reset.
type commands struct {
	calls, scripts float64
	inScripts      float64 // seconds
	p99            float64 // ms, of a script
}

func (s *server) commands(ctx context.Context) (c commands, err error) {
	text, err := s.rdb.Info(ctx, "commandstats", "latencystats").Result()
	for line := range strings.Lines(text) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), ":")
		values := map[string]float64{}
		for field := range strings.SplitSeq(rest, ",") {
			key, value, _ := strings.Cut(field, "=")
			values[key], _ = strconv.ParseFloat(value, 64)
		}
		c.calls += values["calls"]
		switch name {
		case "cmdstat_evalsha":
			c.scripts, c.inScripts = values["calls"], values["usec"]/1e6
		case "latency_percentiles_usec_evalsha":
			c.p99 = values["p99"] / 1000
		}
	}
	return c, err
}
