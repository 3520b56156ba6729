package main

import (
	"fmt"
	"strings"
	"time"
)

// Registrations: without a check, so the instance is healthy at once; with a probe; and with heartbeats.
const (
	unchecked = `{"service":"web","id":"i-{n}","address":"127.{address}:80","health":"none"}`
	checked   = `{"service":"fresh","id":"f-{n}","address":"127.{address}:80","health":"/"}`
	reporting = `{"service":"beats","id":"b-{n}","address":"127.{address}:81","health":"heartbeat"}`
)

const knownIDs = 2000

var connections = []int{1, 16, 64, 256}

// A side is one implementation of a figure.
type side struct {
	what, name string
	spec       spec
	per        int        // how many each call does
	at         []int      // with so many connections
	cpu        []*process // processes whose CPU counts
}

// take measures one side once.
func (b *bench) take(s *side, conns int) error {
	s.spec.Conns, s.spec.For = conns, b.window
	if conns != 64 {
		s.spec.For = b.window * 2 / 3
	}
	before := cpuOf(s.cpu)
	l, err := b.load(s.spec)
	if err != nil {
		return err
	}
	s.spec.From = l.Next
	per := float64(max(1, s.per))
	b.results.add(s.what, "/s", s.name, conns, l.rate()*per)
	b.results.add(s.what+", p50", "ms", s.name, conns, l.P50)
	b.results.add(s.what+", p99", "ms", s.name, conns, l.P99)
	b.results.add(s.what+", CPU", "µs", s.name, conns, (cpuOf(s.cpu)-before)*1e6/(float64(l.Calls)*per))
	return nil
}

func cpuOf(processes []*process) (sum float64) {
	for _, p := range processes {
		sum += p.cpu()
	}
	return sum
}

// compare has sides take turns.
func (b *bench) compare(sides []*side) error {
	return b.times(func() error {
		for _, conns := range connections {
			for _, s := range sides {
				if len(s.at) > 0 && s.at[0] != conns {
					continue
				}
				b.try(fmt.Sprintf("%s, %s", s.what, s.name), func() error { return b.take(s, conns) })
			}
		}
		return nil
	})
}

// registrationsStep measures registrations and heartbeats, of ids that are known and of new
// ones, against one EVALSHA each and against etcd.
func registrationsStep(b *bench) error {
	const known, fresh, many, beats = "registrations, known ids", "registrations, new ids", "registrations, 100 in a call", "heartbeats"
	post := func(addr, body string, known int) spec {
		return spec{Addr: addr, Method: "POST", Path: "/v1/register", Body: body, Known: known}
	}
	var sides []*side
	for _, floor := range []struct{ name, label string }{{"register", "F1"}, {"batched", "F2"}} {
		for what, body := range map[string]string{known: unchecked, fresh: checked} {
			redis, err := b.redis()
			if err != nil {
				return err
			}
			p, addr, err := b.floor(floor.name, redis.at)
			if err != nil {
				return err
			}
			ids := map[string]int{known: knownIDs}[what]
			sides = append(sides, &side{what: what, name: floor.label, spec: post(addr, body, ids), cpu: []*process{p, redis.process}})
		}
	}
	s, err := b.site()
	if err != nil {
		return err
	}
	ours := []*process{s.web, s.redis.process}
	if err := s.fill(unchecked, knownIDs); err != nil {
		return err
	}
	if err := s.fill(reporting, knownIDs); err != nil {
		return err
	}
	beat := func(id string) spec {
		return spec{Addr: s.api, Method: "POST", Path: "/v1/instances/" + id + "-{n}/heartbeat", Known: knownIDs}
	}
	for n := range knownIDs { // their first report makes them healthy
		if _, err := b.post(fmt.Sprintf("http://%s/v1/instances/b-%d/heartbeat", s.api, n), ""); err != nil {
			return err
		}
	}
	batch := post(s.api, unchecked, knownIDs)
	batch.Batch = 100
	other, err := b.site()
	if err != nil {
		return err
	}
	sides = append(sides,
		&side{what: known, name: "Rollcall", spec: post(s.api, unchecked, knownIDs), cpu: ours},
		&side{what: many, name: "Rollcall", spec: batch, per: 100, cpu: ours},
		&side{what: beats, name: "Rollcall", spec: beat("i"), cpu: ours},
		&side{what: beats, name: "Rollcall, health=heartbeat", spec: beat("b"), cpu: ours},
		&side{what: fresh, name: "Rollcall", spec: post(other.api, checked, 0), cpu: []*process{other.web, other.redis.process}},
	)
	b.try("etcd", func() error {
		p, addr, err := b.etcd()
		if p != nil && err == nil {
			sides = append(sides,
				&side{what: known, name: "etcd lease + put", spec: spec{Addr: addr, Etcd: "put", Known: knownIDs}, at: []int{64}, cpu: []*process{p}},
				&side{what: fresh, name: "etcd lease + put", spec: spec{Addr: addr, Etcd: "put", From: knownIDs}, at: []int{64}, cpu: []*process{p}})
		}
		return err
	})
	return b.compare(sides)
}

// readsStep measures the healthy instances of a service of ten, against an answer that is
// kept encoded and against etcd.
func readsStep(b *bench) error {
	const what = "reads of ten healthy instances"
	s, err := b.site()
	if err != nil {
		return err
	}
	for n := range 10 {
		body := fillIn(`{"service":"ten","id":"ten-{n}","address":"127.{address}:80","health":"none","host":"ten.local"}`, n)
		if _, err := b.post("http://"+s.api+"/v1/register", body); err != nil {
			return err
		}
	}
	answer, err := b.get("http://" + s.api + "/v1/services/ten")
	if err != nil {
		return err
	}
	redis, err := b.redis()
	if err != nil {
		return err
	}
	if err := redis.rdb.Set(b.ctx, "answer", answer, 0).Err(); err != nil {
		return err
	}
	floor, addr, err := b.floor("read", redis.at)
	if err != nil {
		return err
	}
	list := func(addr, path string) spec {
		return spec{Addr: addr, Method: "GET", Path: "/v1/services/ten" + path, Known: 1}
	}
	sides := []*side{
		{what: what, name: "F3", spec: list(addr, ""), cpu: []*process{floor, redis.process}},
		{what: what, name: "Rollcall", spec: list(s.api, ""), cpu: []*process{s.web, s.redis.process}},
		{what: "picks", name: "Rollcall", spec: list(s.api, "/pick"), cpu: []*process{s.web, s.redis.process}},
	}
	b.try("etcd", func() error {
		p, addr, err := b.etcd()
		if p == nil || err != nil {
			return err
		}
		if _, err := b.load(spec{Addr: addr, Etcd: "put", Conns: 1, Calls: 10}); err != nil {
			return err
		}
		sides = append(sides, &side{what: what, name: "etcd range", spec: spec{Addr: addr, Etcd: "range", Known: 1}, at: []int{64}, cpu: []*process{p}})
		return nil
	})
	return b.compare(sides)
}

// edgeStep measures the edge against a bare ReverseProxy with one read of Redis, and HAProxy.
func edgeStep(b *bench) error {
	const host = "shop.local"
	t, err := b.target()
	if err != nil {
		return err
	}
	s, err := b.site()
	if err != nil {
		return err
	}
	servers := []string{"  balance random"}
	for n := range 2 {
		backend := "127." + addressOf(n) + ":" + t.port
		servers = append(servers, "  server "+backend+" "+backend)
		body := fmt.Sprintf(`{"service":"shop","address":%q,"health":"none","host":%q}`, backend, host)
		if _, err := b.post("http://"+s.api+"/v1/register", body); err != nil {
			return err
		}
	}
	edge, err := s.rollcall("edge")
	if err != nil {
		return err
	}
	edgeAddr, err := edge.addr(b.ctx, "edge is up")
	if err != nil {
		return err
	}
	floor, floorAddr, err := b.floor("proxy", s.redis.at)
	if err != nil {
		return err
	}
	to := func(addr string) spec { return spec{Addr: addr, Method: "GET", Path: "/", Host: host, Known: 1} }
	const what = "requests through a proxy"
	sides := []*side{
		{what: what, name: "ReverseProxy + one read", spec: to(floorAddr), cpu: []*process{floor}},
		{what: what, name: "Rollcall", spec: to(edgeAddr), cpu: []*process{edge}},
	}
	b.try("haproxy", func() error {
		p, addr, err := b.haproxy(strings.Join(servers, "\n") + "\n")
		if p != nil && err == nil {
			sides = append(sides, &side{what: what, name: "haproxy", spec: to(addr), cpu: []*process{p}})
		}
		return err
	})
	return b.compare(sides)
}

// startStep measures the time from start to ready, and the cost of an idle process, against the least program of this
// kind.
func startStep(b *bench) error {
	redis, err := b.redis()
	if err != nil {
		return err
	}
	begin := map[string]func() (*process, string, error){
		"F5": func() (*process, string, error) { return b.floor("program", redis.at) },
		"Rollcall": func() (*process, string, error) {
			s := &site{b: b, redis: redis}
			p, err := s.rollcall("serve")
			if err != nil {
				return nil, "", err
			}
			addr, err := p.addr(b.ctx, "API is up")
			return p, addr, err
		},
	}
	for range 2 * b.rounds {
		for name, start := range begin {
			began := time.Now()
			p, addr, err := start()
			if err == nil {
				err = b.ready(addr)
			}
			if err != nil {
				return err
			}
			b.results.add("start to ready", "ms", name, 0, ms(time.Since(began)))
			p.stop()
		}
	}
	idle := map[string]*process{}
	for name, start := range begin {
		p, addr, err := start()
		if err == nil {
			err = b.ready(addr)
		}
		if err != nil {
			return err
		}
		idle[name] = p
	}
	b.rest(3 * time.Second) // its first jobs are over
	return b.times(func() error {
		const whole = 4
		before := map[string]float64{}
		for name, p := range idle {
			before[name] = p.cpu()
		}
		began := time.Now()
		b.rest(whole * b.window)
		for name, p := range idle {
			b.results.add("idle CPU", "%", name, 0, (p.cpu()-before[name])/time.Since(began).Seconds()*100)
			b.results.add("idle memory", "MiB", name, 0, p.resident())
			b.results.add("idle memory without the program's file", "MiB", name, 0, p.anonymous())
		}
		return nil
	})
}
