package chaos

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"rollcall/tests/proctest"
	"rollcall/tests/redistest"
)

const (
	fleetSize     = 500
	fleetServices = 10
	fleetInterval = 2 * time.Second
)

// Networks of this test alone: the address range of all instances, on this machine, and the cable
// between two namespaces.
var (
	part         = os.Getpid() % 120
	fleetNetwork = fmt.Sprintf("10.242.%d.0/23", 2*part)
	near, far    = fmt.Sprintf("10.241.%d.1", part), fmt.Sprintf("10.241.%d.2", part)
)

// fleet is many instances on one listener, each with its own address.
type fleet struct {
	port string

	mu   sync.Mutex
	dead map[string]bool // by address
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	ip(t, "route", "add", "local", fleetNetwork, "dev", "lo")
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { ip(t, "route", "del", "local", fleetNetwork, "dev", "lo") })
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{dead: map[string]bool{}}
	_, f.port, _ = net.SplitHostPort(l.Addr().String())
	server := &http.Server{Handler: f}
	go server.Serve(l) //nolint:errcheck // it ends when it is closed
	t.Cleanup(func() { _ = server.Close() })
	return f
}

func (f *fleet) address(n int) string {
	return net.JoinHostPort(fmt.Sprintf("10.242.%d.%d", 2*part+n/250, 1+n%250), f.port)
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(net.Addr); ok && f.dead[at.String()] {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (f *fleet) dies(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dead[f.address(n)] = true
}

// ip changes the network.
func ip(t *testing.T, args ...string) {
	t.Helper()
	if said, err := exec.Command("ip", args...).CombinedOutput(); err != nil {
		t.Errorf("ip %s: %v\n%s", strings.Join(args, " "), err, said)
	}
}

// namespace creates a network namespace with a cable to this one, and returns its name.
func namespace(t *testing.T) (name string) {
	t.Helper()
	pid := os.Getpid()
	name = fmt.Sprint("rollcall", pid)
	here, there := fmt.Sprint("rch", pid), fmt.Sprint("rct", pid)
	ip(t, "netns", "add", name)
	t.Cleanup(func() { ip(t, "netns", "del", name) }) // and the cable with it
	ip(t, "link", "add", here, "type", "veth", "peer", "name", there, "netns", name)
	ip(t, "address", "add", near+"/30", "dev", here)
	ip(t, "link", "set", here, "up")
	ip(t, "-n", name, "address", "add", far+"/30", "dev", there)
	ip(t, "-n", name, "link", "set", there, "up")
	ip(t, "-n", name, "link", "set", "lo", "up")
	ip(t, "-n", name, "route", "add", fleetNetwork, "via", near)
	if t.Failed() {
		t.FailNow()
	}
	return name
}

// TestAWorkerThatIsCutOffRemovesNobody removes the route of one of two workers to all instances, while
// the worker still reaches Redis. No healthy instance may be removed, and the other worker detects an
// instance that dies meanwhile.
func TestAWorkerThatIsCutOffRemovesNobody(t *testing.T) {
	t.Parallel()
	needsRoot(t, "ip")
	run := time.Minute
	if !all {
		run = 12 * time.Second
	}
	machine := proctest.WatchStalls(t)
	name := namespace(t)
	f := newFleet(t)
	server := redistest.Start(t)
	server.Restart(t, append(persistent, "--bind", "127.0.0.1", near, "--protected-mode", "no")...)
	w := &world{t: t, Stack: proctest.NewStack(t, server), ends: t.Context(), webs: make([]*proctest.Process, 1), bases: make([]string, 1)}
	w.startWeb(0)
	_, port, _ := net.SplitHostPort(server.Addr())
	w.Process("cron")
	w.Process("cron", "ip", "netns", "exec", name, "env", "REDIS_URL=redis://"+net.JoinHostPort(near, port))
	w.enlist(f)
	time.Sleep(3 * fleetInterval) // both workers have probed enough of them
	before := w.stream()

	ip(t, "-n", name, "route", "del", fleetNetwork)
	proctest.Eventually(t, proctest.Bound, func() error { return w.happened(before, "worker-benched") })
	time.Sleep(run / 2)
	died := time.Now()
	const victim = 123
	f.dies(victim)
	proctest.Eventually(t, proctest.Bound, func() error { return w.happened(before, "worker-benched", "unhealthy") })
	allowed := fleetInterval + 200*time.Millisecond + claims + machine.Slack()
	if took := time.Since(died); took > allowed {
		t.Errorf("the one that died was found out after %s, want it within %s", took, allowed)
	}
	time.Sleep(run / 2)
	if err := w.happened(before, "worker-benched", "unhealthy"); err != nil {
		t.Error(err)
	}
	if said := w.stream(); said[len(said)-1].Instance != fmt.Sprint("fleet", victim) {
		t.Errorf("somebody else was found to be dead: %+v", said[len(said)-1])
	}
	ip(t, "-n", name, "route", "add", fleetNetwork, "via", near)
	proctest.Eventually(t, proctest.Bound, func() error { return w.happened(before, "worker-benched", "unhealthy", "worker-back") })
	w.audited()
}

// enlist registers the fleet, and waits until all instances are healthy.
func (w *world) enlist(f *fleet) {
	w.t.Helper()
	for first := 0; first < fleetSize; first += 100 {
		var forms []map[string]any
		for n := range 100 {
			service := fmt.Sprint("fleet", (first+n)%fleetServices)
			forms = append(forms, map[string]any{
				"id": fmt.Sprint("fleet", first+n), "service": service, "address": f.address(first + n), "host": service + ".chaos",
				"health": "/", "interval": fleetInterval.String(), "timeout": "2s",
			})
		}
		text, err := json.Marshal(forms)
		if err != nil {
			w.t.Fatal(err)
		}
		resp, err := http.Post(w.bases[0]+"/v1/register", "application/json", strings.NewReader(string(text)))
		if err != nil {
			w.t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusMultiStatus {
			w.t.Fatalf("registering a hundred: %s", resp.Status)
		}
	}
	proctest.Eventually(w.t, 2*proctest.Bound, func() error {
		if healthy := strings.Count(fmt.Sprint(w.stream()), " healthy fleet"); healthy < fleetSize {
			return fmt.Errorf("%d of %d are healthy", healthy, fleetSize)
		}
		return nil
	})
}

// happened compares the events since a moment with the expected ones.
func (w *world) happened(before []event, want ...string) error {
	var kinds []string
	for _, e := range w.stream()[len(before):] {
		kinds = append(kinds, e.Kind)
	}
	if !slices.Equal(kinds, want) {
		return fmt.Errorf("these events: %q, want %q", kinds, want)
	}
	return nil
}
