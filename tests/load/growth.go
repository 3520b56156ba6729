package main

import (
	"bytes"
	"fmt"
	"strconv"
	"strings"
	"time"

	"rollcall/app/ownership"
)

// workersStep measures how many probes a second there are when about as many are wanted as the
// machine can do: with 1, 2 and 4 workers, and with a bare prober.
func workersStep(b *bench) error {
	const wanted = 8000
	t, err := b.target()
	if err != nil {
		return err
	}
	s, err := b.site()
	if err != nil {
		return err
	}
	if err := s.probed(t, "many", wanted, time.Second); err != nil {
		return err
	}
	run := func(side string, workers int, start func() (*process, string, error)) error {
		var at []string
		var running []*process
		defer func() {
			for _, p := range running {
				p.stop()
			}
		}()
		for range workers {
			p, metrics, err := start()
			if err != nil {
				return err
			}
			running, at = append(running, p), append(at, metrics)
		}
		b.rest(3 * time.Second)
		before, cpu, began := make([]map[string]float64, workers), cpuOf(running), time.Now()
		count, err := t.count()
		if err != nil {
			return err
		}
		for n, addr := range at {
			if addr != "127.0.0.1:0" {
				if before[n], err = b.figures(addr); err != nil {
					return err
				}
			}
		}
		b.rest(4 * b.window)
		took := time.Since(began).Seconds()
		counted, err := t.count()
		if err != nil {
			return err
		}
		b.results.add("probes a second, as many as can be", "/s", side, workers, (counted-count)/took)
		b.results.add("CPU of 10,000 probes at the limit", "s", side, workers, (cpuOf(running)-cpu)/(counted-count)*10_000)
		failed, slow := 0.0, 0.0
		for n, addr := range at {
			if before[n] == nil {
				return nil
			}
			after, err := b.figures(addr)
			if err != nil {
				return err
			}
			failed += failures(after) - failures(before[n])
			slow = max(slow, quantile(.99, "rollcall_probe_duration_seconds", before[n], after)*1000)
		}
		b.results.add("false failures at the limit", "", side, workers, failed)
		b.results.add("probe p99 at the limit", "ms", side, workers, slow)
		return nil
	}
	p, _, err := s.cron()
	if err == nil {
		err = s.awaitHealthy("many", wanted*9/10)
	}
	if err != nil {
		return err
	}
	p.stop()
	return b.times(func() error {
		b.try("F4", func() error {
			return run("F4", 1, func() (*process, string, error) {
				return b.floor("probe", t.port, strconv.Itoa(wanted), strconv.Itoa(wanted))
			})
		})
		for _, workers := range []int{1, 2, 4} {
			b.try(fmt.Sprintf("%d workers", workers), func() error { return run("Rollcall", workers, s.cron) })
		}
		return nil
	})
}

// growthStep measures memory, bytes in Redis, lateness, and the CPU of registrations and probes, for several sizes of the
// registry at the same time.
func growthStep(b *bench) error {
	const rate = 300 // probes a second of each size
	t, err := b.target()
	if err != nil {
		return err
	}
	type world struct {
		*site

		n       int
		cron    *process
		metrics string
		side    *side
	}
	var worlds []*world
	for _, n := range b.sizes {
		s, err := b.site()
		if err != nil {
			return err
		}
		w := &world{site: s, n: n}
		if w.cron, w.metrics, err = s.cron(); err != nil {
			return err
		}
		b.rest(2 * time.Second)
		used, err := s.redis.info(b.ctx, "memory", "used_memory")
		if err != nil {
			return err
		}
		web, cron := s.web.resident(), w.cron.resident()
		if err := s.probed(t, "grown", n, time.Duration(n)*time.Second/rate); err != nil {
			return err
		}
		if err := s.awaitHealthy("grown", n); err != nil {
			return err
		}
		b.rest(2 * time.Second)
		thousands := float64(n) / 1000
		b.results.add("memory of web for 1,000 instances", "MiB", "Rollcall", n, (s.web.resident()-web)/thousands)
		b.results.add("memory of cron for 1,000 instances", "MiB", "Rollcall", n, (w.cron.resident()-cron)/thousands)
		b.results.add("memory of web", "MiB", "Rollcall", n, s.web.resident())
		b.results.add("memory of cron", "MiB", "Rollcall", n, w.cron.resident())
		if err := s.bytes("Rollcall", n, used); err != nil {
			return err
		}
		w.side = &side{what: "registrations, known ids, by size", name: "Rollcall", cpu: []*process{s.web, s.redis.process}, spec: spec{
			Addr: s.api, Method: "POST", Path: "/v1/register", Known: min(n, knownIDs), Conns: 64,
			Body: fmt.Sprintf(`{"service":"grown","id":"grown-{n}","address":"127.{address}:%s","health":"/","interval":%q,"timeout":"1s","rise":1}`, t.port, time.Duration(n)*time.Second/rate),
		}}
		worlds = append(worlds, w)
		if err := b.results.save(); err != nil {
			return err
		}
	}
	long, err := b.site()
	if err != nil {
		return err
	}
	used, err := long.redis.info(b.ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	path := "/" + strings.Repeat("long", 50)
	const paths = 10_000
	if err := long.fill(fmt.Sprintf(`{"service":"grown","id":"grown-{n}","address":"127.{address}:%s","health":%q,"interval":%q,"rise":1}`,
		t.port, path, paths*time.Second/rate), paths); err != nil {
		return err
	}
	worker, _, err := long.cron()
	if err != nil {
		return err
	}
	if err := long.awaitHealthy("grown", paths); err != nil {
		return err
	}
	worker.stop()
	if err := long.bytes("Rollcall, a path of 201 characters", paths, used); err != nil {
		return err
	}
	if err := b.times(func() error {
		probes, cpu, inRedis, before := make([]float64, len(worlds)), make([]float64, len(worlds)), make([]float64, len(worlds)), make([]map[string]float64, len(worlds))
		for n, w := range worlds {
			if before[n], err = b.figures(w.metrics); err != nil {
				return err
			}
			probes[n], cpu[n], inRedis[n] = done(before[n]), w.cron.cpu(), w.redis.cpu()
		}
		b.rest(6 * b.window)
		for n, w := range worlds {
			after, err := b.figures(w.metrics)
			if err != nil {
				return err
			}
			per := 10_000 / (done(after) - probes[n])
			b.results.add("CPU of 10,000 probes by size", "s", "Rollcall", w.n, (w.cron.cpu()-cpu[n])*per)
			b.results.add("CPU of 10,000 probes by size", "s", "its Redis", w.n, (w.redis.cpu()-inRedis[n])*per)
			b.results.add("lateness of probes by size, p99", "ms", "Rollcall", w.n, quantile(.99, "rollcall_probe_lateness_seconds", before[n], after)*1000)
		}
		return nil
	}); err != nil {
		return err
	}
	for _, w := range worlds {
		w.cron.stop()
	}
	if err := b.times(func() error {
		for _, w := range worlds {
			if err := b.growing(w.side, w.n); err != nil {
				return err
			}
		}
		return nil
	}); err != nil {
		return err
	}
	return nil
}

// growing measures the CPU of registrations of ids that are known.
func (b *bench) growing(s *side, size int) error {
	s.spec.For = b.window
	before := cpuOf(s.cpu)
	l, err := b.load(s.spec)
	if err == nil {
		b.results.add(s.what, "µs", s.name, size, (cpuOf(s.cpu)-before)*1e6/float64(l.Calls))
	}
	return err
}

// bytes measures the bytes of n instances in Redis, each with twenty results, without the stream of events, whose length is
// fixed.
func (s *site) bytes(side string, n int, before float64) error {
	ctx, rdb := s.b.ctx, s.redis.rdb
	records := map[int][]byte{} // as an owner flushes them once each instance has twenty results
	twenty := bytes.Repeat([]byte("123456789"), 20)
	for n := range n {
		p := ownership.Progress{ID: "grown-" + strconv.Itoa(n), Changed: time.Now().UnixMilli(), Due: time.Now().UnixMilli(), History: twenty}
		shard := ownership.ShardOf(p.ID)
		if records[shard] == nil {
			records[shard] = ownership.AppendRecord(nil, time.Now().UnixMilli())
		}
		records[shard] = p.Append(records[shard])
	}
	for shard, record := range records {
		if err := rdb.Set(ctx, fmt.Sprint("rollcall:shard:", shard), record, 0).Err(); err != nil {
			return err
		}
	}
	used, err := s.redis.info(ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	events, err := rdb.MemoryUsage(ctx, "rollcall:events", 0).Result()
	if err != nil {
		return err
	}
	s.b.results.add("bytes in Redis of an instance", "B", side, n, (used-before-float64(events))/float64(n))
	s.b.results.add("bytes in Redis of all events", "MiB", side, n, float64(events)/(1<<20))
	for _, key := range []string{"addresses", "service:grown", "beats"} {
		bytes, err := rdb.MemoryUsage(ctx, "rollcall:"+key, 0).Result()
		if err == nil {
			s.b.results.add("bytes in Redis of an instance: "+key, "B", side, n, float64(bytes)/float64(n))
		}
	}
	bytes, err := rdb.MemoryUsage(ctx, "rollcall:instance:grown-0", 0).Result()
	if err != nil {
		return err
	}
	s.b.results.add("bytes in Redis of an instance: instance", "B", side, n, float64(bytes))
	flushed := int64(0)
	for shard := range ownership.Shards {
		bytes, err := rdb.MemoryUsage(ctx, fmt.Sprint("rollcall:shard:", shard), 0).Result()
		if err == nil { // else it has no instance
			flushed += bytes
		}
	}
	s.b.results.add("bytes in Redis of an instance: what its owner flushes", "B", side, n, float64(flushed)/float64(n))
	return nil
}

// burstStep measures the memory of web before and after registrations that wait for their first probe, all at once.
func burstStep(b *bench) error {
	const together = 3000
	t, err := b.target()
	if err != nil {
		return err
	}
	s, err := b.site()
	if err != nil {
		return err
	}
	if _, _, err := s.cron(); err != nil {
		return err
	}
	b.rest(2 * time.Second)
	before := s.web.resident()
	if _, err := b.load(spec{
		Addr: s.api, Conns: together, Calls: together, Method: "POST", Path: "/v1/register?wait=30s",
		Body: fmt.Sprintf(`{"service":"burst","id":"burst-{n}","address":"127.{address}:%s","health":"/","rise":1}`, t.port),
	}); err != nil {
		return err
	}
	at := s.web.resident()
	b.rest(20 * time.Second)
	b.results.add("memory of web before a burst", "MiB", us, together, before)
	b.results.add("memory of web at the end of a burst", "MiB", us, together, at)
	b.results.add("memory of web 20 s after a burst", "MiB", us, together, s.web.resident())
	b.results.add(burst, "×", us, together, s.web.resident()/before)
	return nil
}
