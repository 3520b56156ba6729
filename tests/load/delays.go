package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"net"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
)

// changesStep measures how long after a bare reader of the event stream each of four web
// processes answers with a change.
func changesStep(b *bench) error {
	s, err := b.site()
	if err != nil {
		return err
	}
	apis := []string{s.api}
	for range 3 {
		_, api, err := s.moreWeb()
		if err != nil {
			return err
		}
		apis = append(apis, api)
	}
	const each = 25
	n := 0
	change := func() error {
		n++
		body := fmt.Sprintf(`{"service":"moves","id":"m","address":"127.0.0.1:80","health":"none","meta":{"n":"%d"}}`, n)
		_, err := b.post("http://"+s.api+"/v1/register", body)
		return err
	}
	if err := change(); err != nil {
		return err
	}
	return b.times(func() error {
		var late []float64
		for range each {
			took, err := s.spread(apis, change)
			if err != nil {
				return err
			}
			late = append(late, took...)
		}
		slices.Sort(late)
		b.results.add("change in Redis to answers, p50", "ms", "Rollcall", len(apis), late[len(late)/2])
		b.results.add("change in Redis to answers, p99", "ms", "Rollcall", len(apis), late[len(late)*99/100])
		return nil
	})
}

// spread makes a change and returns how many ms later than a bare reader of the stream each
// process answers a call that waits for it.
func (s *site) spread(apis []string, change func() error) ([]float64, error) {
	const events, service = "rollcall:events", "/v1/services/moves"
	newest, err := s.redis.rdb.XRevRangeN(s.b.ctx, events, "+", "-", 1).Result()
	if err != nil {
		return nil, err
	}
	seen := http.Header{"If-None-Match": {`"` + newest[0].ID + `"`}}
	var waiting sync.WaitGroup
	var mu sync.Mutex
	var failed error
	var answered []time.Time
	for _, api := range apis {
		waiting.Go(func() {
			_, err := s.b.call(http.MethodGet, "http://"+api+service+"?wait=10s", "", seen)
			mu.Lock()
			defer mu.Unlock()
			answered = append(answered, time.Now())
			failed = errors.Join(failed, err)
		})
	}
	read := make(chan time.Time, 1)
	waiting.Go(func() {
		_, err := s.redis.rdb.XRead(s.b.ctx, &redis.XReadArgs{Streams: []string{events, newest[0].ID}, Block: 10 * time.Second}).Result()
		read <- time.Now()
		mu.Lock()
		defer mu.Unlock()
		failed = errors.Join(failed, err)
	})
	s.b.rest(20 * time.Millisecond) // all of them wait
	failed = errors.Join(change(), failed)
	waiting.Wait()
	written := <-read
	var late []float64
	for _, at := range answered {
		late = append(late, max(0, ms(at.Sub(written))))
	}
	return late, failed
}

// victim is a backend that can be told to fail.
type victim struct {
	addr    string
	hanging atomic.Bool
	stop    context.CancelFunc
}

func (b *bench) victim() (*victim, error) {
	v := &victim{addr: "127.0.0.1:0"}
	return v, v.serve(b.ctx)
}

// serve listens, on the address that the victim had before.
func (v *victim) serve(ctx context.Context) error {
	ctx, v.stop = context.WithCancel(ctx)
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", v.addr)
	if err != nil {
		return err
	}
	v.addr = l.Addr().String()
	server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if v.hanging.Load() {
			<-r.Context().Done()
		}
	})}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	go func() { _ = server.Serve(l) }()
	return nil
}

// jury is twenty backends that are checked every interval, by Rollcall and by HAProxy.
type jury struct {
	b       *bench
	name    string
	every   time.Duration
	victims []*victim
	verdict map[string]func() (map[string]bool, error) // backends in service, by side: addresses
}

func (s *site) jury(name string, every time.Duration) (*jury, error) {
	j := &jury{b: s.b, name: name, every: every, verdict: map[string]func() (map[string]bool, error){}}
	servers, names := "  option httpchk GET /\n", map[string]string{}
	for n := range 20 {
		v, err := s.b.victim()
		if err != nil {
			return nil, err
		}
		j.victims = append(j.victims, v)
		body := fmt.Sprintf(`{"service":%q,"address":%q,"health":"/","interval":%q,"timeout":"1s","rise":1,"fall":2}`, name, v.addr, every)
		if _, err := s.b.post("http://"+s.api+"/v1/register", body); err != nil {
			return nil, err
		}
		names[fmt.Sprintf("s%d", n)] = v.addr
		servers += fmt.Sprintf("  server s%d %s check inter %dms fall 2 rise 1\n", n, v.addr, every.Milliseconds())
	}
	j.verdict["Rollcall"] = func() (map[string]bool, error) { return s.addresses(name) }
	s.b.try("haproxy", func() error {
		p, addr, err := s.b.haproxy(servers)
		if p == nil || err != nil {
			return err
		}
		j.verdict["haproxy"] = func() (map[string]bool, error) {
			up, err := s.b.up(addr)
			in := map[string]bool{}
			for server, is := range up {
				in[names[server]] = is
			}
			return in, err
		}
		return nil
	})
	s.b.rest(2 * every) // HAProxy says so before its first check
	return j, j.await(j.victims, true, nil)
}

// addresses returns the addresses of the healthy instances of a service.
func (s *site) addresses(service string) (map[string]bool, error) {
	text, err := s.b.get("http://" + s.api + "/v1/services/" + service)
	if err != nil {
		return nil, err
	}
	var answer struct{ Instances []struct{ Address string } }
	if err := json.Unmarshal(text, &answer); err != nil {
		return nil, err
	}
	in := map[string]bool{}
	for _, i := range answer.Instances {
		in[i.Address] = true
	}
	return in, nil
}

// await waits until every side says of these backends that they are in service, or that
// they are not, and tells which side said so of all of them when. It asks every 10 ms.
func (j *jury) await(of []*victim, in bool, told func(side string)) error {
	var sides sync.WaitGroup
	failed := make([]error, len(j.verdict))
	for n, side := range slices.Sorted(maps.Keys(j.verdict)) {
		sides.Go(func() {
			failed[n] = eventually(j.b.ctx, func() error {
				time.Sleep(8 * time.Millisecond)
				is, err := j.verdict[side]()
				for _, v := range of {
					if err == nil && is[v.addr] != in {
						err = fmt.Errorf("%s says that it is %t of %s that it is in service", side, is[v.addr], v.addr)
					}
				}
				return err
			})
			if failed[n] == nil && told != nil {
				told(side)
			}
		})
	}
	sides.Wait()
	return errors.Join(failed...)
}

// fell has backends fail at a random moment, notes when each side knows, and mends them.
func (j *jury) fell(what string, of []*victim, hang bool) error {
	j.b.rest(time.Duration(rand.Int64N(int64(j.every))))
	for _, v := range of {
		v.hanging.Store(hang)
		if !hang {
			v.stop()
		}
	}
	began := time.Now()
	var mu sync.Mutex
	err := j.await(of, false, func(side string) {
		mu.Lock()
		defer mu.Unlock()
		j.b.results.add("failure to verdict, "+what, "s", side, int(j.every.Seconds()), time.Since(began).Seconds())
	})
	for _, v := range of {
		v.hanging.Store(false)
		if !hang {
			err = errors.Join(err, eventually(j.b.ctx, func() error { return v.serve(j.b.ctx) }))
		}
	}
	return errors.Join(err, j.await(j.victims, true, nil))
}

// verdictsStep measures from a failure to the verdict: of Rollcall's API, and of HAProxy on
// the same backends at the same time. Both need two failures in a row.
func verdictsStep(b *bench) error {
	s, err := b.site()
	if err != nil {
		return err
	}
	if _, _, err := s.cron(); err != nil {
		return err
	}
	for _, every := range []time.Duration{time.Second, 2 * time.Second} { // one after the other, so that they do not share results
		j, err := s.jury(fmt.Sprintf("every-%s", every), every)
		if err != nil {
			return err
		}
		some := func() []*victim { return j.victims[rand.IntN(len(j.victims)):][:1] }
		for range 2 * b.rounds {
			if err := j.fell("refused", some(), false); err != nil {
				return err
			}
		}
		if err := b.times(func() error { return j.fell("hanging", some(), true) }); err != nil {
			return err
		}
		for range max(1, b.rounds/2) {
			if err := j.fell("ten of twenty hang", j.victims[:10], true); err != nil {
				return err
			}
		}
	}
	return nil
}

// routesStep measures, as a browser and a proxy see it, how long it takes to be routed and
// not to be routed any more. The floor is an instance that is not checked: no more than the
// writing.
func routesStep(b *bench) error {
	s, err := b.site()
	if err != nil {
		return err
	}
	if _, _, err := s.cron(); err != nil {
		return err
	}
	edge, err := s.rollcall("edge")
	if err != nil {
		return err
	}
	addr, err := edge.addr(b.ctx, "edge is up")
	if err != nil {
		return err
	}
	n := 0
	return b.times(func() error {
		for side, health := range map[string]string{"Rollcall": "/", "unchecked": "none"} {
			n++
			host := fmt.Sprintf("route%d.local", n)
			if err := s.route(addr, host, side, health); err != nil {
				return err
			}
		}
		return nil
	})
}

// route registers two backends for a vhost, waits until it is served, and has one fail.
func (s *site) route(edge, host, side, health string) error {
	b := s.b
	register := func(v *victim) error {
		body := fmt.Sprintf(`{"service":%q,"address":%q,"health":%q,"host":%q}`, strings.ReplaceAll(host, ".", "-"), v.addr, health, host)
		_, err := b.post("http://"+s.api+"/v1/register", body)
		return err
	}
	first, err := b.victim()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := register(first); err != nil {
		return err
	}
	err = eventually(b.ctx, func() error {
		if l := (spec{Addr: edge, Conns: 1, Calls: 1, Method: "GET", Path: "/", Host: host, Known: 1}).run(b.ctx); l.Errors > 0 {
			return errors.New(l.FirstError)
		}
		return nil
	})
	if err != nil {
		return err
	}
	b.results.add("registration to first request", "s", side, 0, time.Since(began).Seconds())
	if health == "none" {
		return nil
	}
	second, err := b.victim()
	if err == nil {
		err = register(second)
	}
	if err == nil {
		err = s.awaitHealthy(strings.ReplaceAll(host, ".", "-"), 2)
	}
	if err != nil {
		return err
	}
	b.rest(time.Duration(rand.Int64N(int64(2 * time.Second)))) // at any phase of its checks
	began = time.Now()
	first.stop()
	err = eventually(b.ctx, func() error { // until the proxy's dead set has its slot, or the list has it no more
		slots, err := s.redis.rdb.LRange(b.ctx, "frontend:"+host, 1, -1).Result()
		if err != nil {
			return err
		}
		at := slices.Index(slots, "http://"+first.addr)
		if at < 0 {
			return nil
		}
		dead, err := s.redis.rdb.SIsMember(b.ctx, "dead:"+host, at).Result()
		if err == nil && !dead {
			err = errors.New("it is still routed")
		}
		return err
	})
	b.results.add("failure to not routed", "s", side, 2, time.Since(began).Seconds())
	return err
}
