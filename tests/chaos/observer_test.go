package chaos

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/tests/harness"
)

// load simulates users: a steady rate of requests through the edge, independent of earlier answers.
type load struct {
	edge string
	http *http.Client

	mu      sync.Mutex
	total   int
	failed  []visit
	skipped int // too many requests were in progress
}

// visit is one user's request.
type visit struct {
	host string
	at   time.Time
	took time.Duration
	said string
}

const (
	visitEvery  = 25 * time.Millisecond
	visitsOpen  = 128
	visitWithin = 5 * time.Second // a user's patience
)

func (w *world) visit(edge string) *load {
	l := &load{edge: edge, http: &http.Client{
		Timeout: visitWithin, Transport: &http.Transport{MaxIdleConnsPerHost: visitsOpen},
	}}
	hosts := slices.Sorted(maps.Keys(w.hosts))
	open := make(chan struct{}, visitsOpen)
	w.busy.Go(func() {
		for n, tick := 0, time.Tick(visitEvery); w.ctx.Err() == nil; n++ {
			select {
			case <-tick:
			case <-w.ctx.Done():
				return
			}
			select {
			case open <- struct{}{}:
			default:
				l.mu.Lock()
				l.skipped++
				l.mu.Unlock()
				continue
			}
			w.busy.Go(func() {
				l.one(hosts[n%len(hosts)], fmt.Sprint(n))
				<-open
			})
		}
	})
	return l
}

// begun reports whether every vhost has been served since the last call.
func (l *load) begun() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	total, failed := l.total, len(l.failed)
	if total-failed < 20 {
		return fmt.Errorf("of %d users %d were served", total, total-failed)
	}
	l.failed = nil
	return nil
}

// Requests are never interrupted: the result would be an error of the test.
func (l *load) one(host, id string) {
	v := visit{host: host, at: time.Now()}
	req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, l.edge, nil)
	if err != nil {
		panic(err)
	}
	req.Host = host
	req.Header.Set("X-Id", id)
	resp, err := l.http.Do(req)
	if err == nil {
		var text []byte
		text, err = io.ReadAll(io.LimitReader(resp.Body, 1<<16))
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			v.said = fmt.Sprintf("%d %.80s", resp.StatusCode, text)
		}
	}
	if err != nil {
		v.said = err.Error()
	}
	v.took = time.Since(v.at)
	l.mu.Lock()
	defer l.mu.Unlock()
	l.total++
	if v.said != "" {
		l.failed = append(l.failed, v)
	}
}

// watcher continuously compares the proxy's lists with the true state of the backends.
type watcher struct {
	mu    sync.Mutex
	looks int
	late  map[string]lateness // the worst, by member and violation
}

// lateness is the excess over a promised time.
type lateness struct {
	by time.Duration
	at time.Time
}

func (w *world) watch() *watcher {
	watcher := &watcher{late: map[string]lateness{}}
	w.busy.Go(func() {
		for w.ctx.Err() == nil {
			for host, of := range w.hosts {
				asked := time.Now()
				ctx, cancel := context.WithTimeout(w.ctx, time.Second)
				pick, _, err := harness.Routed(ctx, w.Redis, host)
				cancel()
				if err == nil {
					watcher.look(w, of, pick, asked)
				}
			}
			sleep(w.ctx, 50*time.Millisecond)
		}
	})
	return watcher
}

// look records backends that are missing from a list, or still listed, after the promised time.
func (x *watcher) look(w *world, of []*member, pick []string, at time.Time) {
	x.mu.Lock()
	defer x.mu.Unlock()
	x.looks++
	for _, m := range of {
		c := m.at(at)
		in := slices.Contains(pick, m.URL())
		switch {
		case c.well && !in:
			x.note(m.id+" is well and is not in the list", at, w.back(c.at, at))
		case !c.well && in && len(pick) > 1:
			x.note(m.id+" is sick and is in the list", at, w.out(c.at, at))
		}
	}
}

func (x *watcher) note(what string, at, due time.Time) {
	if by := at.Sub(due); by > x.late[what].by {
		x.late[what] = lateness{by, at}
	}
}

// back is the time by which a recovered backend must be listed.
func (w *world) back(since, from time.Time) time.Time {
	return w.due(since.Add(recovery), from, w.fault.unlists, recovery)
}

// out is the time by which a failed backend must no longer be used.
func (w *world) out(since, from time.Time) time.Time {
	return w.due(since.Add(detection+w.fault.delay), from, w.fault.blind, detection)
}

// due is the deadline of a promise: at a time, or some time after a fault that suspends the promise.
func (w *world) due(at, from time.Time, suspended bool, within time.Duration) time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	if !suspended || w.began.IsZero() || from.Before(w.began) {
		return at
	}
	end := w.lifted
	if end.IsZero() {
		end = from
	}
	return later(at, end.Add(within+w.fault.delay))
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// reader follows the events as a subscriber does, and resumes when a connection ends.
type reader struct {
	mu   sync.Mutex
	seen []event
	gaps []string

	connections int // made so far; they alternate between the webs
}

type event struct {
	Revision, Kind, Instance, From, To string
}

func (w *world) read() *reader {
	r := &reader{}
	w.running.Go(func() {
		last := "0"
		for w.ends.Err() == nil {
			last = r.follow(w, last)
			sleep(w.ends, 100*time.Millisecond)
		}
	})
	return r
}

// follow reads one connection to its end, and returns the id to resume from.
func (r *reader) follow(w *world, last string) string {
	w.mu.Lock()
	base := w.bases[r.connections%len(w.bases)]
	r.connections++
	w.mu.Unlock()
	ctx, cancel := context.WithCancel(w.ends)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events", nil)
	if err != nil {
		return last
	}
	req.Header.Set("Last-Event-ID", last)
	// A process sends a comment every 15 s. The reader gives up a process that is silent for longer.
	patience := time.AfterFunc(20*time.Second, cancel)
	defer patience.Stop()
	resp, err := streams.Do(req)
	if err != nil {
		return last
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusGone {
		r.gap("410 after " + last)
		return "0"
	}
	if resp.StatusCode != http.StatusOK {
		return last
	}
	lines := bufio.NewScanner(resp.Body)
	var id, kind string
	for lines.Scan() {
		patience.Reset(20 * time.Second)
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			id, last = value, value
		case "event":
			kind = value
		case "data":
			if kind == "gap" {
				r.gap("gap after " + last)
				return "0"
			}
			e := decode[event](value)
			e.Revision, e.Kind = id, kind
			r.mu.Lock()
			r.seen = append(r.seen, e)
			r.mu.Unlock()
		}
	}
	return last
}

var streams = &http.Client{Transport: &http.Transport{ResponseHeaderTimeout: 3 * time.Second}}

func (r *reader) gap(what string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.gaps = append(r.gaps, what)
	r.seen = nil // its events are of a lost registry
}

// guests are instances that register once and then stay silent.
type guests struct {
	mu    sync.Mutex
	acked map[string]time.Time // when the call began, by id
}

func (w *world) invite() *guests {
	g := &guests{acked: map[string]time.Time{}}
	w.busy.Go(func() {
		for n := 0; w.ctx.Err() == nil; n++ {
			id, asked := fmt.Sprint("guest", n), time.Now()
			status, _, err := w.call(http.MethodPost, "/v1/register", map[string][]string{
				"service": {"guest"}, "id": {id}, "address": {fmt.Sprintf("127.88.%d.%d:1", n/250, 1+n%250)}, "health": {"none"},
			})
			if err == nil && status < 300 {
				g.mu.Lock()
				g.acked[id] = asked
				g.mu.Unlock()
			}
			sleep(w.ctx, 150*time.Millisecond)
		}
	})
	return g
}
