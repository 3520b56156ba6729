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
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

const (
	fleetSize     = 500
	fleetServices = 10
	fleetInterval = 2 * time.Second
)

// network is the networks of one test: the address range of all instances, on this machine, and the cable to a
// namespace.
type network struct {
	part      int
	fleet     string // 10.242.x.0/23
	near, far string // addresses of the cable's ends
	name      string // of the namespace
}

var networks atomic.Int32

// newNetwork creates the namespace, with routes to the fleet over the cable.
func newNetwork(t *testing.T) *network {
	t.Helper()
	n := int(networks.Add(1))
	part := (os.Getpid()%60)*2 + n%2
	w := &network{
		part: part, fleet: fmt.Sprintf("10.242.%d.0/23", 2*part), name: fmt.Sprintf("rollcall%d-%d", os.Getpid(), n),
		near: fmt.Sprintf("10.241.%d.1", part), far: fmt.Sprintf("10.241.%d.2", part),
	}
	here, there := fmt.Sprintf("rch%d-%d", os.Getpid(), n), fmt.Sprintf("rct%d-%d", os.Getpid(), n)
	ip(t, "netns", "add", w.name)
	t.Cleanup(func() { ip(t, "netns", "del", w.name) }) // and the cable with it
	ip(t, "link", "add", here, "type", "veth", "peer", "name", there, "netns", w.name)
	ip(t, "address", "add", w.near+"/24", "dev", here)
	ip(t, "link", "set", here, "up")
	w.ip(t, "address", "add", w.far+"/24", "dev", there)
	w.ip(t, "link", "set", there, "up")
	w.ip(t, "link", "set", "lo", "up")
	w.ip(t, "route", "add", w.fleet, "via", w.near)
	if t.Failed() {
		t.FailNow()
	}
	return w
}

// ip changes the network of the namespace.
func (w *network) ip(t *testing.T, args ...string) {
	t.Helper()
	ip(t, append([]string{"-n", w.name}, args...)...)
}

// fleet is many instances on one listener, each with its own address.
type fleet struct {
	part int // of its network
	port string

	mu   sync.Mutex
	dead map[string]bool // by address
}

func newFleet(t *testing.T, n *network) *fleet {
	t.Helper()
	ip(t, "route", "add", "local", n.fleet, "dev", "lo")
	if t.Failed() {
		t.FailNow()
	}
	t.Cleanup(func() { ip(t, "route", "del", "local", n.fleet, "dev", "lo") })
	l, err := net.Listen("tcp4", ":0")
	if err != nil {
		t.Fatal(err)
	}
	f := &fleet{part: n.part, dead: map[string]bool{}}
	_, f.port, _ = net.SplitHostPort(l.Addr().String())
	server := &http.Server{Handler: f}
	go server.Serve(l) //nolint:errcheck // it ends when it is closed
	t.Cleanup(func() { _ = server.Close() })
	return f
}

func (f *fleet) address(n int) string {
	return net.JoinHostPort(fmt.Sprintf("10.242.%d.%d", 2*f.part+n/250, 1+n%250), f.port)
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
	machine := harness.WatchStalls(t)
	n := newNetwork(t)
	f, w := twoWorkers(t, n)
	before := w.stream()

	n.ip(t, "route", "del", n.fleet)
	harness.Eventually(t, func() error { return w.happened(before, "worker-benched") })
	time.Sleep(run / 2)
	died := time.Now()
	const victim = 123
	f.dies(victim)
	harness.Eventually(t, func() error { return w.happened(before, "worker-benched", "unhealthy") })
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
	n.ip(t, "route", "add", n.fleet, "via", n.near)
	harness.Eventually(t, func() error { return w.happened(before, "worker-benched", "unhealthy", "worker-back") })
	w.audited()
}

// twoWorkers starts a registry with one worker here and one in the namespace, and registers the fleet.
func twoWorkers(t *testing.T, n *network) (*fleet, *world) {
	t.Helper()
	f := newFleet(t, n)
	server := harness.StartRedis(t)
	server.Restart(t, append(persistent, "--bind", "127.0.0.1", n.near, "--protected-mode", "no")...)
	w := &world{t: t, Stack: harness.NewStack(t, server), ends: t.Context(), webs: make([]*harness.Process, 1), bases: make([]string, 1)}
	w.startWeb(0)
	_, port, _ := net.SplitHostPort(server.Addr())
	w.Process("cron")
	w.Process("cron", "ip", "netns", "exec", n.name, "env", "REDIS_URL=redis://"+net.JoinHostPort(n.near, port))
	w.enlist(f)
	time.Sleep(3 * fleetInterval) // both workers have probed enough of them
	return f, w
}

// TestAPartialPartitionRemovesNoInstance lets one of two workers lose a third of the instances: packets to them
// vanish. The worker's witnesses still pass, so only the other worker's second opinion keeps the instances. An
// instance that dies meanwhile is out in the promised time, whichever worker owns it.
func TestAPartialPartitionRemovesNoInstance(t *testing.T) {
	t.Parallel()
	needsRoot(t, "ip")
	run := 90 * time.Second // the worker gives its shards up after 30 s
	if !all {
		run = 20 * time.Second
	}
	machine := harness.WatchStalls(t)
	n := newNetwork(t)
	f, w := twoWorkers(t, n)
	before := w.stream()
	lost := []string{fmt.Sprintf("10.242.%d.0/25", 2*n.part), fmt.Sprintf("10.242.%d.128/27", 2*n.part)} // 158 of 500
	for _, addresses := range lost {
		n.ip(t, "route", "add", addresses, "via", fmt.Sprintf("10.241.%d.99", n.part)) // a router that does not exist
	}
	harness.Eventually(t, func() error { return w.happened(before, "worker-disputed") })
	time.Sleep(run / 2)
	want := []string{"worker-disputed"}
	for _, victim := range []int{5, 55, 105, 300} { // three of them lost, one not
		died := time.Now()
		f.dies(victim)
		want = append(want, "unhealthy")
		harness.Eventually(t, func() error { return w.happened(before, want...) })
		// Detection, and 1 s between the probes of a disputed instance.
		if took, allowed := time.Since(died), detection+time.Second+machine.Slack(); took > allowed {
			t.Errorf("the death of fleet%d was noticed after %s, want %s", victim, took, allowed)
		}
		if said := w.stream(); said[len(said)-1].Instance != fmt.Sprint("fleet", victim) {
			t.Errorf("another instance was removed: %+v", said[len(said)-1])
		}
	}
	time.Sleep(run / 2)
	for _, addresses := range lost {
		n.ip(t, "route", "del", addresses)
	}
	time.Sleep(3 * fleetInterval)
	if err := w.happened(before, want...); err != nil {
		t.Error(err)
	}
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
	harness.Eventually(w.t, func() error {
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
