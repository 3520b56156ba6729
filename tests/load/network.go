package main

import (
	"encoding/json"
	"fmt"
	"strconv"
	"sync"
	"time"

	"rollcall/app"
	"rollcall/app/redisstore"
)

// Of each second's failing instances, each changes its state twice: when it fails and when it is back.
const failingEach = 50

const (
	simulatedEvery = 2 * time.Second        // interval of the probes
	overload       = 100 * time.Millisecond // with 300,000 instances, more than two cores can do
)

// networkStep measures workers on a simulated network, whose prober answers at once: the cost of a firing, the cost of an
// idle registry in Redis, a million instances, and the shares of several workers.
func networkStep(b *bench) error {
	part := func(name string, n int, every time.Duration, measure func(*simulation) error) {
		b.try(name, func() error {
			s, err := b.simulated(n, every)
			if err != nil {
				return err
			}
			defer s.end()
			return measure(s)
		})
	}
	for _, n := range []int{1000, 10_000, 100_000} {
		part("firings of "+strconv.Itoa(n), n, simulatedEvery, (*simulation).firings)
	}
	part("two workers", 300_000, overload, (*simulation).twice)
	part("a million instances", b.million, simulatedEvery, (*simulation).many)
	return nil
}

// simulation is a registry of instances on the simulated network, in a Redis of its own.
type simulation struct {
	b       *bench
	redis   *server
	n       int
	idle    float64 // CPU seconds that the Redis takes in a second without a worker
	workers []*simWorker
}

type simWorker struct {
	*process

	addr string
}

// simulated writes n healthy instances, a thousand of each service.
func (b *bench) simulated(n int, every time.Duration) (*simulation, error) {
	redis, err := b.redis()
	if err != nil {
		return nil, err
	}
	store := redisstore.New(redis.rdb, redisstore.Options{Timeout: patience})
	if err := store.SyncClock(b.ctx); err != nil {
		return nil, err
	}
	const together = 500
	var writers sync.WaitGroup
	errs := make([]error, 2)
	for w := range errs {
		writers.Go(func() {
			for from := w * together; from < n && errs[w] == nil; from += len(errs) * together {
				var c app.Change
				for k := from; k < min(from+together, n); k++ {
					c.Steps = append(c.Steps, app.Step{Is: simulatedInstance(k, every, store.Now())})
				}
				_, errs[w] = store.Commit(b.ctx, c)
			}
		})
	}
	writers.Wait()
	for _, err := range errs {
		if err != nil {
			return nil, err
		}
	}
	before, err := redis.used(b.ctx)
	if err != nil {
		return nil, err
	}
	began := time.Now()
	b.rest(2 * time.Second)
	after, err := redis.used(b.ctx)
	return &simulation{b: b, redis: redis, n: n, idle: (after - before) / time.Since(began).Seconds()}, err
}

func simulatedInstance(n int, every time.Duration, now time.Time) app.Instance {
	check := app.DefaultCheck(app.HTTP)
	check.Interval, check.Rise = every, 1
	return app.Instance{
		ID: simulatedID + strconv.Itoa(n), Service: "service-" + strconv.Itoa(n/1000), Weight: 1, Check: check,
		Address: fmt.Sprintf("10.%d.%d.%d:80", n>>16&255, n>>8&255, n&255),
		State:   app.Healthy, RegisteredAt: now, ChangedAt: now.Add(-time.Hour),
	}
}

// start starts workers, each with as many cores as said; 0: all. It waits until they own every instance.
func (s *simulation) start(workers, failing, cores int) error {
	var env []string
	if cores > 0 {
		env = append(env, "GOMAXPROCS="+strconv.Itoa(cores))
	}
	for range workers {
		p, err := s.b.start(env, s.b.self, "worker", s.redis.at, strconv.Itoa(s.n), strconv.Itoa(failing))
		if err != nil {
			return err
		}
		addr, err := p.addr(s.b.ctx, "worker is up")
		if err != nil {
			return err
		}
		s.workers = append(s.workers, &simWorker{p, addr})
	}
	_, err := s.owned(2 * patience)
	return err
}

// owned waits until the workers own every instance, each its fair share of the shards. It returns how long that took.
func (s *simulation) owned(within time.Duration) (time.Duration, error) {
	began := time.Now()
	for {
		is, err := s.now()
		if err != nil {
			return 0, err
		}
		instances, most := 0, 0
		for _, w := range is {
			instances, most = instances+w.Instances, max(most, w.Shards)
		}
		took := time.Since(began)
		switch {
		case instances == s.n && most <= (256+len(is)-1)/len(is):
			return took, nil
		case took > within:
			return 0, fmt.Errorf("%d of %d instances are owned after %s", instances, s.n, within)
		}
		s.b.rest(50 * time.Millisecond)
	}
}

func (s *simulation) now() ([]worked, error) {
	all := make([]worked, len(s.workers))
	for n, w := range s.workers {
		text, err := s.b.get("http://" + w.addr)
		if err != nil {
			return nil, err
		}
		if err := json.Unmarshal(text, &all[n]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

func (s *simulation) stop() {
	for _, w := range s.workers {
		w.stop()
	}
	s.workers = nil
}

func (s *simulation) end() {
	s.stop()
	s.redis.stop()
}

// spell is the work of some workers over a period.
type spell struct {
	seconds, probes, cpu, late float64
	redis                      float64 // CPU seconds, without an idle Redis's
	commands                   commands
}

func (s *simulation) measure(window time.Duration) (m spell, err error) {
	if err := s.redis.rdb.ConfigResetStat(s.b.ctx).Err(); err != nil {
		return m, err
	}
	before, err := s.now()
	if err != nil {
		return m, err
	}
	began := time.Now()
	redis, err := s.redis.used(s.b.ctx)
	if err != nil {
		return m, err
	}
	s.b.rest(window)
	after, err := s.now()
	if err != nil {
		return m, err
	}
	m.seconds = time.Since(began).Seconds()
	used, err := s.redis.used(s.b.ctx)
	if err != nil {
		return m, err
	}
	m.redis = max(0, used-redis-s.idle*m.seconds)
	if m.commands, err = s.redis.commands(s.b.ctx); err != nil {
		return m, err
	}
	for n := range after {
		m.probes += float64(after[n].Probes - before[n].Probes)
		m.cpu += after[n].CPU - before[n].CPU
	}
	m.late = lateBy(.99, before, after)
	if m.probes == 0 {
		err = fmt.Errorf("no probe was made")
	}
	return m, err
}

// firings measures the cost of a firing without its probe, and its cost in Redis if it changes no state.
func (s *simulation) firings() error {
	if err := s.start(1, 0, 0); err != nil {
		return err
	}
	s.b.rest(2 * simulatedEvery)
	return s.b.times(func() error {
		m, err := s.measure(max(4*s.b.window, 5*time.Second)) // whole turns of the flushes
		if err != nil {
			return err
		}
		s.b.results.add("CPU of one firing", "µs", us, s.n, m.cpu*1e6/m.probes)
		s.b.results.add("CPU of one firing", "µs", "its Redis", s.n, m.redis*1e6/m.probes)
		s.b.results.add("Redis commands of one firing", "", us, s.n, m.commands.calls/m.probes)
		s.b.results.add("lateness of firings, p99", "ms", us, s.n, m.late)
		return nil
	})
}

// twice measures how many firings one worker makes and how many two make, each with one core and more to do than it can.
func (s *simulation) twice() error {
	return s.b.times(func() error {
		for _, workers := range []int{1, 2} {
			if err := s.start(workers, 0, 1); err != nil {
				return err
			}
			s.b.rest(time.Second)
			m, err := s.measure(4 * s.b.window)
			s.stop()
			if err != nil {
				return err
			}
			s.b.results.add(asMany, "/s", us, workers, m.probes/m.seconds)
		}
		return nil
	})
}

// many measures a million instances with 1, 2 and 4 workers, and how soon the share of one that is killed moves.
func (s *simulation) many() error {
	used, err := s.redis.info(s.b.ctx, "memory", "used_memory")
	if err != nil {
		return err
	}
	add := func(what, unit string, x int, v float64) {
		s.b.results.add(million+what, unit, us, x, v)
	}
	for _, workers := range []int{1, 2, 4} {
		if err := s.start(workers-len(s.workers), failingEach, 0); err != nil {
			return err
		}
		s.b.rest(3 * simulatedEvery)
		window := s.b.minute / 4
		if workers == 1 {
			window = s.b.minute
		}
		m, err := s.measure(window)
		if err != nil {
			return err
		}
		add("probes made, of those due", "%", workers, min(100, m.probes/m.seconds/float64(s.n)*simulatedEvery.Seconds()*100))
		add("lateness, p99", "ms", workers, m.late)
		add("CPU of all workers", "cores", workers, m.cpu/m.seconds)
		add("CPU of Redis, of a core", "%", workers, m.redis/m.seconds*100)
		is, err := s.now()
		if err != nil {
			return err
		}
		least, most := s.n, 0
		for n, w := range is {
			least, most = min(least, w.Instances), max(most, w.Instances)
			if workers == 1 {
				add("memory of the worker", "MiB", workers, s.workers[n].resident())
			}
		}
		add("share of the busiest worker, of the idlest", "", workers, float64(most)/float64(least))
		if err := s.b.results.save(); err != nil {
			return err
		}
	}
	add("memory of Redis", "MiB", 1, used/(1<<20))
	killed := s.workers[0]
	s.workers = s.workers[1:]
	_ = killed.cmd.Process.Kill()
	took, err := s.owned(patience)
	if err != nil {
		return err
	}
	add("the share of a killed worker has moved", "s", 4, took.Seconds())
	s.stop()
	return nil
}
