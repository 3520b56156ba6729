package chaos

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/tests/harness"
)

const (
	interval = time.Second
	timeout  = time.Second

	// detection is the promise for a hanging backend: its next probe, the second probe 200 ms later, and the
	// timeouts of both.
	detection = interval + 200*time.Millisecond + 2*timeout
	// recovery is the promise for a backend that answers again: two passes, and the probe that was in
	// progress when it recovered.
	recovery = 2*interval + timeout
)

// world is a complete installation: two of each process, services whose containers re-register, users,
// and callers that register and watch.
type world struct {
	*harness.Stack
	t       *testing.T
	machine *harness.Stalls
	hosts   map[string][]*member // by vhost

	// Used by single faults.
	sentinel string                    // its address
	guard    func() *harness.Process   // starts the sentinel
	sentry   *harness.Process          // the sentinel
	link     *harness.Link             // between all processes and Redis
	disk     string                    // folder of Redis's files
	crowd    *harness.Backend          // shared by many instances
	drain    func()                    // ends the cause of the fault
	frozen   map[string]string         // workers that the others dropped
	setClock func(ahead time.Duration) // of Redis, or of all processes

	mu          sync.Mutex
	webs, crons []*harness.Process
	edge        *harness.Process
	bases       []string // of the webs
	calls       int      // number so far: every second call begins with the other web

	load    *load
	watcher *watcher
	reader  *reader
	guests  *guests

	fault         fault
	began, lifted time.Time // start and end of the fault

	ctx     context.Context // ends users, guests and the watcher
	rest    context.CancelFunc
	busy    sync.WaitGroup  // their goroutines
	ends    context.Context // ends the containers and the reader
	stop    context.CancelFunc
	running sync.WaitGroup // their goroutines
}

// member is a backend with the container that keeps it registered.
type member struct {
	*harness.Backend
	id, host string
	form     url.Values
	beats    bool

	mu      sync.Mutex
	changes []change
}

// change is the time of a backend's change to healthy or failing.
type change struct {
	at   time.Time
	well bool
}

// becomes changes the behaviour of a backend from now on.
func (m *member) becomes(mode harness.Mode) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.Is(mode)
	m.changes = append(m.changes, change{time.Now(), mode == harness.Answers})
}

// at returns the behaviour of the backend at a time, and its start.
func (m *member) at(t time.Time) (c change) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, later := range m.changes {
		if later.at.After(t) {
			break
		}
		c = later
	}
	return c
}

func (m *member) well() bool { return m.at(time.Now()).well }

// persistent are the arguments of Redis for each start.
var persistent = []string{"--appendonly", "yes", "--appendfsync", "everysec"}

// newWorld starts all processes, and returns when all of them work.
func newWorld(t *testing.T, f fault) *world {
	t.Helper()
	server := harness.StartRedis(t)
	server.Restart(t, persistent...)
	env := []string{"ROLLCALL_SETTLE=2s", "ROLLCALL_DRAIN_HOLD=500ms"}
	w := &world{t: t, fault: f, machine: harness.WatchStalls(t), hosts: map[string][]*member{}}
	if f.prepare != nil {
		env = append(env, f.prepare(w, server)...)
	}
	w.Stack = harness.NewStack(t, server, env...)
	if w.sentinel != "" {
		w.Redis = w.client()
	}
	w.ends, w.stop = context.WithCancel(t.Context())
	w.ctx, w.rest = context.WithCancel(w.ends)
	t.Cleanup(func() {
		w.stop()
		w.busy.Wait()
		w.running.Wait()
	})
	w.webs, w.bases = make([]*harness.Process, 2), make([]string, 2)
	w.crons = []*harness.Process{w.Process("cron"), w.Process("cron")}
	w.edge = w.Process("edge")
	for n := range w.webs {
		w.startWeb(n)
	}
	w.reader = w.read()
	for _, service := range []string{"shop", "news", "wiki", "beat"} {
		host := service + ".chaos"
		for n := range 4 {
			w.join(service, host, fmt.Sprint(service, n))
		}
	}
	w.awaitCalm()
	w.load = w.visit("http://" + w.edge.Addr("edge"))
	harness.Eventually(t, w.load.begun) // from now on the edge knows all vhosts
	w.watcher = w.watch()
	w.guests = w.invite()
	return w
}

// startWeb starts the nth web process.
func (w *world) startWeb(n int) { w.awaitWeb(n, w.Process("web")) }

// awaitWeb waits until a process is ready, and makes it the nth web process.
func (w *world) awaitWeb(n int, p *harness.Process) {
	base := "http://" + p.Addr("API")
	harness.Eventually(w.t, func() error {
		status, body, err := w.callAt(w.t.Context(), base, http.MethodGet, "/readyz", nil)
		if err == nil && status != http.StatusOK {
			err = fmt.Errorf("readyz: %d %s", status, body)
		}
		return err
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	w.webs[n], w.bases[n] = p, base
}

// join starts a backend and the container that keeps it registered.
func (w *world) join(service, host, id string) *member {
	m := &member{Backend: harness.NewBackend(w.t), id: id, host: host, beats: service == "beat"}
	m.changes = []change{{time.Now(), true}}
	m.form = harness.Registration(m.Backend, id, host, "service", service, "interval", interval.String(), "timeout", timeout.String())
	if m.beats {
		m.form.Set("health", "heartbeat")
		m.form.Set("fall", "4") // a lease that outlasts a call to a process that hangs
	}
	w.hosts[host] = append(w.hosts[host], m)
	w.running.Go(func() { w.assert(m) })
	return m
}

// assert re-registers as a container's hook does, only more often.
func (w *world) assert(m *member) {
	for w.ends.Err() == nil {
		switch {
		case !m.well(): // a container that is gone says nothing
		case m.beats:
			status, _, err := w.call(http.MethodPost, "/v1/instances/"+m.id+"/heartbeat", nil)
			if err == nil && status == http.StatusNotFound {
				_, _, _ = w.call(http.MethodPost, "/v1/register", m.form)
			}
		default:
			_, _, _ = w.call(http.MethodPost, "/v1/register", m.form)
		}
		sleep(w.ends, interval/2)
	}
}

func sleep(ctx context.Context, d time.Duration) {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
}

func (w *world) members() (all []*member) {
	for _, of := range w.hosts {
		all = append(all, of...)
	}
	return all
}

var caller = &http.Client{Timeout: 2 * time.Second, Transport: &http.Transport{MaxIdleConnsPerHost: 32}}

// call makes a call to one of the web processes, or to the other one if the first is not reachable.
func (w *world) call(method, path string, form url.Values) (status int, text string, err error) {
	w.mu.Lock()
	bases, first := slices.Clone(w.bases), w.calls
	w.calls++
	w.mu.Unlock()
	for n := range bases {
		status, text, err = w.callAt(w.ends, bases[(first+n)%len(bases)], method, path, form)
		if err == nil {
			break
		}
	}
	return status, text, err
}

func (w *world) callAt(ctx context.Context, base, method, path string, form url.Values) (int, string, error) {
	status, _, text, err := harness.Ask(ctx, caller, method, base+path, form)
	return status, text, err
}

// must makes a call, repeats it until it succeeds, and fails the test after a bound.
func (w *world) must(method, path string, form url.Values) (text string) {
	w.t.Helper()
	harness.Eventually(w.t, func() error {
		status, body, err := w.call(method, path, form)
		if err == nil && status >= 300 {
			err = fmt.Errorf("%s %s %v: %d %s", method, path, form, status, body)
		}
		text = body
		return err
	})
	return text
}

// client is the test's client of the present primary.
func (w *world) client() *redis.Client {
	o := redis.FailoverOptions{
		MasterName: "primary", SentinelAddrs: []string{w.sentinel}, ReadTimeout: time.Second, DialTimeout: time.Second, MaxRetries: -1,
	}
	c := redis.NewFailoverClient(&o)
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// calm reports healthy backends that are not listed, and failing ones that are.
func (w *world) calm(ctx context.Context) error {
	for host, of := range w.hosts {
		var want []string
		for _, m := range of {
			if m.well() {
				want = append(want, m.URL())
			}
		}
		pick, list, err := harness.Routed(ctx, w.Redis, host)
		if err == nil && !harness.SameSet(pick, want) {
			err = fmt.Errorf("%s: Hipache would choose from %q (list %q), want %q", host, pick, list, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// awaitCalm waits until registry and lists agree with the backends.
func (w *world) awaitCalm() {
	w.t.Helper()
	harness.Eventually(w.t, func() error { return w.calm(w.t.Context()) })
}

// processes returns all running processes.
func (w *world) processes() []*harness.Process {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Concat(w.webs, w.crons, []*harness.Process{w.edge})
}

// mended counts the repairs of the reconcile job, from the logs of the running processes.
func (w *world) mended() (said []string) {
	for _, p := range w.processes() {
		for line := range strings.Lines(p.Log.String()) {
			if strings.Contains(line, "repaired differences") {
				said = append(said, p.Name+": "+line)
			}
		}
	}
	return said
}

// audited waits until no key in Redis contradicts the documents.
func (w *world) audited() {
	w.t.Helper()
	harness.Eventually(w.t, func() error {
		wrong, err := harness.Audit(w.t.Context(), w.Redis)
		if err == nil && len(wrong) > 0 {
			err = errors.New(strings.Join(wrong, "\n"))
		}
		return err
	})
}

// stored reads the documents of all instances by id.
func (w *world) stored() map[string]harness.Document {
	w.t.Helper()
	all, err := harness.ReadAll(w.t.Context(), w.Redis)
	if err != nil {
		w.t.Fatal(err)
	}
	return all.Docs
}

func decode[T any](text string) (v T) {
	_ = json.Unmarshal([]byte(text), &v)
	return v
}
