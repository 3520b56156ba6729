package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// directory replaces Rollcall: it lists the addresses that a test sets.
type directory struct {
	*httptest.Server
	away   atomic.Bool
	listed sync.Map // service → []string
}

func newDirectory(t *testing.T) *directory {
	d := &directory{}
	d.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		addresses, ok := d.listed.Load(strings.TrimPrefix(r.URL.Path, "/v1/services/"))
		switch {
		case d.away.Load():
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		case !ok:
			w.WriteHeader(http.StatusNotFound)
			return
		}
		var instances []map[string]string
		for _, a := range addresses.([]string) {
			instances = append(instances, map[string]string{"address": a})
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"instances": instances})
	}))
	t.Cleanup(d.Close)
	return d
}

// startMemcached starts a memcached on an address, or on any free one, and lists it.
func (d *directory) startMemcached(t *testing.T, addr string) (at string, stop func()) {
	t.Helper()
	harness.Need(t, "memcached")
	if addr == "" {
		addr = freeAddress(t)
	}
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command("memcached", "-l", "127.0.0.1", "-p", port, "-u", "nobody", "-t", "1")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	stop = sync.OnceFunc(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	t.Cleanup(stop)
	harness.Await(t, "memcached listens", func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	d.listed.Store("memcached", []string{addr})
	return addr, stop
}

// startRole serves a role and returns its address.
func startRole(t *testing.T, role http.Handler) string {
	s := httptest.NewServer(role)
	t.Cleanup(s.Close)
	return strings.TrimPrefix(s.URL, "http://")
}

func (d *directory) startServices(t *testing.T, names ...string) {
	var addresses []string
	for _, name := range names {
		s := newService(config{rollcall: d.URL, name: name}, quiet())
		t.Cleanup(s.close)
		addresses = append(addresses, startRole(t, s))
	}
	d.listed.Store("service", addresses)
}

// get asks a client and returns the list.
func get(t *testing.T, client string) []entry {
	t.Helper()
	resp, err := http.Get("http://" + client + "/demo")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	var entries []entry
	if err := json.Unmarshal(body, &entries); err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET /demo: %s, %v: %s", resp.Status, err, body)
	}
	return entries
}

func TestListGrowsThroughEveryClientAndEveryService(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.startMemcached(t, "")
	d.startServices(t, "s1", "s2")
	c1 := startRole(t, newClient(config{rollcall: d.URL, name: "c1"}, quiet()))
	c2 := startRole(t, newClient(config{rollcall: d.URL, name: "c2"}, quiet()))
	seen := map[string]bool{}
	for n := range 40 {
		entries := get(t, []string{c1, c2}[n%2])
		if len(entries) != n+1 {
			t.Fatalf("answer %d has %d entries, want %d", n, len(entries), n+1)
		}
		last := entries[n]
		seen[last.Client], seen[last.Service] = true, true
	}
	if len(seen) != 4 {
		t.Errorf("40 numbers went through %v only, want c1, c2, s1 and s2", seen)
	}
}

func TestClientGoesToTheNextServiceWhenOneDoesNotAnswer(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.startMemcached(t, "")
	d.startServices(t, "s1")
	alive, _ := d.listed.Load("service")
	d.listed.Store("service", append([]string{freeAddress(t)}, alive.([]string)...))
	c := startRole(t, newClient(config{rollcall: d.URL}, quiet()))
	for n := range 10 {
		if got := len(get(t, c)); got != n+1 {
			t.Fatalf("answer %d has %d entries, want %d", n, got, n+1)
		}
	}
}

func TestTheFinderUsesTheLastAnswerWhileRollcallIsAway(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.listed.Store("x", []string{"10.0.0.1:1"})
	f := newFinder(config{rollcall: d.URL}, "x", quiet())
	if _, err := f.find(t.Context()); err != nil {
		t.Fatal(err)
	}
	d.away.Store(true)
	f.at = f.at.Add(-time.Hour)
	if got, err := f.find(t.Context()); err != nil || len(got) != 1 {
		t.Errorf("while Rollcall is away: %v, %v; want what it said last", got, err)
	}
	d.away.Store(false)
	d.listed.Store("x", []string{"10.0.0.1:1", "10.0.0.2:1"})
	f.at = f.at.Add(-time.Hour)
	if got, err := f.find(t.Context()); err != nil || len(got) != 2 {
		t.Errorf("after it is back: %v, %v; want what it says now", got, err)
	}
}

func TestServicesAppendConcurrentlyWithoutLosingEntries(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	d.startMemcached(t, "")
	var appending sync.WaitGroup
	for service := range 4 {
		l := newList(newFinder(config{rollcall: d.URL}, "memcached", quiet()))
		t.Cleanup(l.close)
		for n := range 50 {
			appending.Go(func() {
				if _, err := l.append(t.Context(), fmt.Sprint(service, n)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	appending.Wait()
	l := newList(newFinder(config{rollcall: d.URL}, "memcached", quiet()))
	t.Cleanup(l.close)
	if lines, err := l.append(t.Context(), "last"); err != nil || len(lines) != 201 {
		t.Errorf("after 200 appends of 4 services and one more there are %d lines, %v", len(lines), err)
	}
}

func TestListSurvivesARestartOfMemcached(t *testing.T) {
	t.Parallel()
	d := newDirectory(t)
	addr, stop := d.startMemcached(t, "")
	l := newList(newFinder(config{rollcall: d.URL}, "memcached", quiet()))
	t.Cleanup(l.close)
	for n := range longest + 10 {
		if _, err := l.append(t.Context(), fmt.Sprint(n)); err != nil {
			t.Fatal(err)
		}
	}
	lines, err := l.append(t.Context(), "a")
	if want := longest/2 + 10; err != nil || len(lines) != want || lines[len(lines)-2] != fmt.Sprint(longest+9) {
		t.Errorf("the list has %d lines after %d, %v; want the last %d", len(lines), longest+11, err, want)
	}
	stop()
	d.startMemcached(t, addr)
	if lines, err := l.append(t.Context(), "b"); err != nil || len(lines) != 1 {
		t.Errorf("after memcached was restarted: %q, %v; want a new list", lines, err)
	}
}

func TestAnEntryPostedTwiceIsShownOnce(t *testing.T) {
	t.Parallel()
	var lines []string
	for _, e := range []entry{{1, "c", "s1"}, {2, "c", "s1"}, {1, "c", "s2"}, {1, "d", "s2"}} {
		line, _ := json.Marshal(e)
		lines = append(lines, string(line))
	}
	if got := once(lines); len(got) != 3 {
		t.Errorf("got %q, want the third left out", got)
	}
}

func TestRequestsInFlightEndBeforeTheProcess(t *testing.T) {
	t.Parallel()
	entered, leave := make(chan struct{}), make(chan struct{})
	role := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(entered)
		<-leave
		_, _ = io.WriteString(w, "done")
	})
	ctx, stop := context.WithCancel(t.Context())
	c := config{listen: freeAddress(t), admin: freeAddress(t)}
	ended := make(chan error, 1)
	go func() { ended <- serve(ctx, c, "role", role, quiet()) }()
	harness.Await(t, "it is healthy", func() bool {
		resp, err := http.Get("http://" + c.admin + "/healthcheck")
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil && resp.StatusCode == http.StatusOK
	})
	answer := make(chan string, 1)
	go func() {
		resp, err := http.Get("http://" + c.listen + "/")
		if err != nil {
			answer <- err.Error()
			return
		}
		defer resp.Body.Close()
		body, _ := io.ReadAll(resp.Body)
		answer <- string(body)
	}()
	<-entered
	stop()
	harness.Await(t, "it listens no more", func() bool {
		c, err := net.Dial("tcp", c.listen)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(leave)
	if got := <-answer; got != "done" {
		t.Errorf("the request under way got %q", got)
	}
	if err := <-ended; err != nil {
		t.Errorf("it ended with %v", err)
	}
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}
