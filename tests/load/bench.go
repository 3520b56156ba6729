package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"
)

// pace is how long is measured.
type pace struct {
	Name    string
	rounds  int           // paired runs of each figure
	window  time.Duration // one run
	sizes   []int         // of the registry, in instances
	million int           // instances on the simulated network, probed every 2 s
	minute  time.Duration // for which they are
	tracked time.Duration // while connections are tracked
}

var paces = map[string]pace{
	"full":  {"full", 5, 1500 * time.Millisecond, []int{1000, 10_000, 100_000}, 1_000_000, time.Minute, 5 * time.Minute},
	"quick": {"quick", 2, 500 * time.Millisecond, []int{1000, 10_000}, 1_000_000, 10 * time.Second, 30 * time.Second},
}

// bench is one step of the benchmark. Its processes end with its context.
type bench struct {
	pace

	ctx     context.Context //nolint:containedctx // every process of the step ends with it
	bin     string          // the folder of the programs
	self    string          // this program
	results *results
	started sync.WaitGroup // processes
}

// times repeats a measurement for each round, and writes the results after each.
func (b *bench) times(round func() error) error {
	for range b.rounds {
		if err := round(); err != nil {
			return err
		}
		if err := b.results.save(); err != nil {
			return err
		}
	}
	return nil
}

// try does one side of a figure. A side that fails is named, and left out from then on.
func (b *bench) try(side string, measure func() error) {
	if b.results.Failed[side] != "" || b.ctx.Err() != nil {
		return
	}
	if err := measure(); err != nil {
		b.results.fail(side, err)
	}
}

// rest waits, unless the step is over.
func (b *bench) rest(d time.Duration) {
	select {
	case <-time.After(d):
	case <-b.ctx.Done():
	}
}

func (b *bench) floor(args ...string) (p *process, addr string, err error) {
	if p, err = b.start(nil, filepath.Join(b.bin, "floor"), args...); err != nil {
		return nil, "", err
	}
	addr, err = p.addr(b.ctx, "floor is up")
	return p, addr, err
}

// site is a Redis of its own, and the Rollcall processes on it.
type site struct {
	b     *bench
	redis *server
	web   *process
	api   string
}

func (b *bench) site() (*site, error) {
	redis, err := b.redis()
	if err != nil {
		return nil, err
	}
	s := &site{b: b, redis: redis}
	if s.web, s.api, err = s.moreWeb(); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *site) env() []string {
	return []string{
		"REDIS_URL=redis://" + s.redis.at, "PORT=0", "ROLLCALL_EDGE_PORT=0", "ROLLCALL_METRICS_PORT=0", "ROLLCALL_LOG_LEVEL=info",
		"ROLLCALL_REGISTER_RATE=0", "ROLLCALL_MAX_INSTANCES=0", "ROLLCALL_MAX_BACKENDS=0",
	}
}

func (s *site) rollcall(args ...string) (*process, error) {
	return s.b.start(s.env(), filepath.Join(s.b.bin, "rollcall"), args...)
}

func (s *site) moreWeb() (p *process, api string, err error) {
	if p, err = s.rollcall("web"); err != nil {
		return nil, "", err
	}
	if api, err = p.addr(s.b.ctx, "API is up"); err != nil {
		return nil, "", err
	}
	return p, api, s.b.ready(api)
}

func (b *bench) ready(addr string) error {
	return eventually(b.ctx, func() error {
		_, err := b.get("http://" + addr + "/readyz")
		return err
	})
}

// cron starts a worker, which says on its metrics port how it is.
func (s *site) cron() (p *process, metrics string, err error) {
	if p, err = s.rollcall("cron"); err != nil {
		return nil, "", err
	}
	metrics, err = p.addr(s.b.ctx, "metrics are up")
	return p, metrics, err
}

func (b *bench) get(url string) ([]byte, error) { return b.call(http.MethodGet, url, "", nil) }

func (b *bench) post(url, body string) ([]byte, error) {
	return b.call(http.MethodPost, url, body, nil)
}

func (b *bench) call(method, url, body string, header http.Header) ([]byte, error) {
	ctx, cancel := context.WithTimeout(b.ctx, patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, method, url, strings.NewReader(body))
	if err != nil {
		return nil, err
	}
	if header != nil {
		req.Header = header
	}
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	var text bytes.Buffer
	if _, err := text.ReadFrom(resp.Body); err != nil {
		return nil, err
	}
	if resp.StatusCode >= 300 {
		return nil, fmt.Errorf("%s %s: %s: %s", method, url, resp.Status, text.Bytes()[:min(300, text.Len())])
	}
	return text.Bytes(), nil
}

// fill registers instances until there are n of a service, 100 in each call.
func (s *site) fill(entry string, n int) error {
	hundreds := max(1, n/100)
	r, err := s.b.load(spec{Addr: s.api, Conns: 4, Calls: hundreds, Method: "POST", Path: "/v1/register", Body: entry, Batch: min(n, 100)})
	if err == nil && r.Errors > 0 {
		err = fmt.Errorf("%d of %d registrations failed: %s", r.Errors, hundreds, r.FirstError)
	}
	return err
}

// healthy is how many instances of a service are.
func (s *site) healthy(service string) (n int, err error) {
	text, err := s.b.get("http://" + s.api + "/v1/services")
	if err != nil {
		return 0, err
	}
	var answer struct {
		Services []struct {
			Name    string
			Healthy int
		}
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return 0, err
	}
	for _, s := range answer.Services {
		if s.Name == service {
			n = s.Healthy
		}
	}
	return n, nil
}

// awaitHealthy waits as long as there is progress.
func (s *site) awaitHealthy(service string, want int) error {
	best, since := -1, time.Now()
	for {
		n, err := s.healthy(service)
		switch {
		case err != nil:
			return err
		case n >= want:
			return nil
		case n > best:
			best, since = n, time.Now()
		case time.Since(since) > patience:
			return fmt.Errorf("%d of %d instances are healthy after %s without progress", n, want, patience)
		}
		s.b.rest(100 * time.Millisecond)
	}
}

// load runs the load generator in a process of its own.
func (b *bench) load(s spec) (loaded, error) {
	text, err := json.Marshal(s)
	if err != nil {
		return loaded{}, err
	}
	out, err := b.output(b.self, "load", string(text))
	if err != nil {
		return loaded{}, err
	}
	var r loaded
	if err := json.Unmarshal(out, &r); err != nil {
		return loaded{}, fmt.Errorf("load: %w: %s", err, out)
	}
	if r.Calls == 0 || r.Errors > r.Calls/100 {
		return r, fmt.Errorf("%d of %d calls failed: %s", r.Errors, r.Calls, r.FirstError)
	}
	return r, nil
}

// target starts a server that answers every probe, on every loopback address.
func (b *bench) target() (t *target, err error) {
	t = &target{b: b}
	if t.process, err = b.start(nil, b.self, "target"); err != nil {
		return nil, err
	}
	addr, err := t.addr(b.ctx, "target is up")
	if err != nil {
		return nil, err
	}
	_, t.port, _ = strings.Cut(addr, ":")
	return t, nil
}

type target struct {
	*process

	b    *bench
	port string
}

// count is how many requests it has answered.
func (t *target) count() (float64, error) {
	text, err := t.b.get("http://127.0.0.1:" + t.port + countPath)
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(string(text), 64)
}
