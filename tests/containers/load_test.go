package containers

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"sync"
	"testing"
	"time"
)

// load simulates users: a steady rate of requests through the edge, independent of earlier answers,
// bounded in number and in time.
const (
	loadEvery = 15 * time.Millisecond // 67 a second
	loadFor   = 4 * time.Minute       // at most
	loadOpen  = 256                   // requests in progress at most
)

type load struct {
	w    *world
	stop context.CancelFunc
	done sync.WaitGroup

	mu      sync.Mutex
	answers []answer
}

// answer is the outcome of a request.
type answer struct {
	at   time.Time
	took time.Duration
	err  error
}

func (w *world) load() *load {
	ctx, stop := context.WithTimeout(context.Background(), loadFor)
	l := &load{w: w, stop: stop}
	open := make(chan struct{}, loadOpen)
	l.done.Go(func() {
		tick := time.NewTicker(loadEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			select {
			case open <- struct{}{}:
			default: // all hang, and say so soon
				continue
			}
			l.done.Go(func() {
				a := answer{at: time.Now()}
				_, a.err = w.askWith(context.WithoutCancel(ctx), 1)
				a.took = time.Since(a.at)
				l.mu.Lock()
				l.answers = append(l.answers, a)
				l.mu.Unlock()
				<-open
			})
		}
	})
	return l
}

// entry is a line of the demo's list.
type entry struct{ Client, Service string }

// ask sends one user's request for the last entries of the list; last = 0 requests all.
func (w *world) ask(last int) ([]entry, error) { return w.askWith(w.t.Context(), last) }

func (w *world) askWith(ctx context.Context, last int) ([]entry, error) {
	target := "http://" + edgeAddr + "/demo"
	if last > 0 {
		target += fmt.Sprintf("?last=%d", last)
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, target, nil)
	if err != nil {
		return nil, err
	}
	req.Host = vhost
	resp, err := w.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("%s: %s", resp.Status, body)
	}
	var entries []entry
	return entries, json.Unmarshal(body, &entries)
}

// during runs a change under load, and returns the requests that failed. The load continues for a
// while after the change, to catch late effects.
func (w *world) during(t *testing.T, happens func()) (lost []answer) {
	t.Helper()
	l := w.load()
	defer l.stop()
	time.Sleep(300 * time.Millisecond)
	happens()
	time.Sleep(700 * time.Millisecond)
	l.stop()
	l.done.Wait()
	took := make([]time.Duration, 0, len(l.answers))
	for _, a := range l.answers {
		took = append(took, a.took)
		if a.err != nil {
			lost = append(lost, a)
		}
	}
	if len(took) == 0 {
		t.Fatal("no load")
	}
	slices.Sort(took)
	t.Logf("%d requests, %d lost; p50 %s, p99 %s, slowest %s", len(took), len(lost),
		took[len(took)/2].Round(time.Millisecond), took[len(took)*99/100].Round(time.Millisecond), took[len(took)-1].Round(time.Millisecond))
	for n, a := range lost {
		if n == 10 {
			break
		}
		t.Logf("lost at %s after %s: %v", a.at.Format("15:04:05.000"), a.took.Round(time.Millisecond), a.err)
	}
	return lost
}

// lossless runs a change under load, and fails the test if a request fails.
func (w *world) lossless(t *testing.T, happens func()) {
	t.Helper()
	if lost := w.during(t, happens); len(lost) > 0 {
		t.Errorf("%d requests were lost, want none", len(lost))
	}
}
