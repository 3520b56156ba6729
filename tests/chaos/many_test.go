package chaos

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/tests/harness"
)

// many is an installation whose instances are on one server of many addresses. Those with an odd last byte can die
// together: the instances with an even number.
type many struct {
	*world
	dead atomic.Bool
	port string
}

func (m *many) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if at, ok := r.Context().Value(http.LocalAddrContextKey).(*net.TCPAddr); ok && m.dead.Load() && at.IP.To4()[3]%2 == 1 {
		w.WriteHeader(http.StatusInternalServerError)
	}
}

func (m *many) address(n int) string {
	return net.JoinHostPort(fmt.Sprintf("127.67.%d.%d", n/250, 1+n%250), m.port)
}

// machine is of one test of full size at a time.
var machine sync.Mutex

// newMany starts a web process and two workers.
func newMany(t *testing.T, env ...string) *many {
	t.Helper()
	if all {
		machine.Lock()
		t.Cleanup(machine.Unlock)
	}
	m := &many{}
	l, err := net.Listen("tcp4", "0.0.0.0:0")
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: m}
	go server.Serve(l) //nolint:errcheck // it ends when it is closed
	t.Cleanup(func() { _ = server.Close() })
	_, m.port, _ = net.SplitHostPort(l.Addr().String())
	redis := harness.StartRedis(t)
	redis.Restart(t, persistent...)
	env = append(env, "ROLLCALL_REGISTER_RATE=0", "ROLLCALL_SETTLE=2s")
	m.world = &world{
		t: t, Stack: harness.NewStack(t, redis, env...), machine: harness.WatchStalls(t),
		ends: t.Context(), webs: make([]*harness.Process, 1), bases: make([]string, 1),
	}
	m.startWeb(0)
	m.crons = []*harness.Process{m.Process("cron"), m.Process("cron")}
	return m
}

// enroll registers n instances, a hundred in each call, and repeats a call until all its registrations are acknowledged.
func (m *many) enroll(n int, form func(n int) map[string]any) {
	m.t.Helper()
	for first := 0; first < n; first += 100 {
		var forms []map[string]any
		for k := first; k < min(first+100, n); k++ {
			f := form(k)
			f["address"], f["health"] = m.address(k), "/"
			forms = append(forms, f)
		}
		text, _ := json.Marshal(forms) // strings always have a JSON form
		harness.Eventually(m.t, func() error { return m.registerAll(string(text)) })
	}
}

func (m *many) registerAll(forms string) error {
	resp, err := http.Post(m.bases[0]+"/v1/register", "application/json", strings.NewReader(forms))
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusMultiStatus {
		return fmt.Errorf("registering a hundred: %s %.300s, %w", resp.Status, text, err)
	}
	for _, one := range decode[[]struct{ Status int }](string(text)) {
		if one.Status >= 300 {
			return fmt.Errorf("registering a hundred: %.300s", text)
		}
	}
	return nil
}

// routed waits until a proxy would choose from these instances for a vhost.
func (m *many) routed(host string, numbers ...int) {
	m.t.Helper()
	var want []string
	for _, n := range numbers {
		want = append(want, "http://"+m.address(n))
	}
	harness.Eventually(m.t, func() error {
		pick, list, err := harness.Routed(m.t.Context(), m.Redis, host)
		if err == nil && !harness.SameSet(pick, want) {
			err = fmt.Errorf("%s: %d of %d backends get traffic, want %d", host, len(pick), len(list), len(want))
		}
		return err
	})
}

// scripts logs the run times of scripts.
func (m *many) scripts() {
	for line := range strings.Lines(m.Redis.Info(m.t.Context(), "latencystats").Val()) {
		if strings.HasPrefix(line, "latency_percentiles_usec_eval") {
			m.t.Log(strings.TrimSpace(line))
		}
	}
}

// numbers are 0, step, 2 step ... below n.
func numbers(from, n, step int) (all []int) {
	for ; from < n; from += step {
		all = append(all, from)
	}
	return all
}

// size is a number at full length, and a part of it in the selection.
func size(full, selected int) int {
	if all {
		return full
	}
	return selected
}

// TestAVhostWithManyBackendsOfWhichHalfDie has one vhost with 2,000 backends. Half of them die at the same time, while
// the machine is busy. It logs how long that takes, and the run times of scripts.
func TestAVhostWithManyBackendsOfWhichHalfDie(t *testing.T) {
	t.Parallel()
	const host, promised = "many.chaos", 2*time.Second + 200*time.Millisecond + 2*time.Second
	m, backends := newMany(t), size(2000, 400)
	m.enroll(backends, func(n int) map[string]any {
		return map[string]any{"id": fmt.Sprint("many", n), "service": "many", "host": host}
	})
	m.routed(host, numbers(0, backends, 1)...)
	lines := func() (n int) {
		for _, p := range append(slices.Clone(m.crons), m.webs...) {
			n += strings.Count(p.Log.String(), "\n")
		}
		return n
	}
	before := lines()
	m.do("CONFIG", "RESETSTAT")
	m.spin() // the machine is busy
	died := time.Now()
	m.dead.Store(true)
	m.routed(host, numbers(1, backends, 2)...)
	t.Logf("all %d were out after %s, %s is promised; %s is allowed for the machine", backends/2, time.Since(died), promised, m.machine.Slack())
	harness.Eventually(t, func() error {
		_, list, err := harness.Routed(t.Context(), m.Redis, host)
		if err == nil && len(list) != backends/2 {
			err = fmt.Errorf("%d backends are listed", len(list))
		}
		return err
	})
	m.scripts()
	if n := lines() - before; n > backends/2+backends/10 {
		t.Errorf("%d lines were logged, want one for each of %d changes and few others", n, backends/2)
	}
	m.audited()
}

// TestManyVhostsOfInstancesThatServeFiftyEach has 20,000 vhosts. Every two instances serve the same fifty. One of each
// pair dies, and every vhost keeps the other one. Then processes restart, and the edge serves vhosts that it has not
// served before.
func TestManyVhostsOfInstancesThatServeFiftyEach(t *testing.T) {
	t.Parallel()
	const each = 50
	m, pairs := newMany(t, "ROLLCALL_MAX_HOSTS=50"), size(400, 10)
	host := func(pair, n int) string { return fmt.Sprintf("v%d.pair%d.chaos", n, pair) }
	m.enroll(2*pairs, func(n int) map[string]any {
		var hosts []string
		for k := range each {
			hosts = append(hosts, host(n/2, k))
		}
		return map[string]any{"id": fmt.Sprint("many", n), "service": fmt.Sprint("pair", n/2), "host": hosts}
	})
	routed := func(instances int) {
		t.Helper()
		for pair := range pairs {
			for n := range each {
				m.routed(host(pair, n), []int{2*pair + 1, 2 * pair}[:instances]...)
			}
		}
	}
	routed(2)
	m.do("CONFIG", "RESETSTAT")
	died := time.Now()
	m.dead.Store(true)
	routed(1)
	t.Logf("the dead of %d vhosts were out after %s", each*pairs, time.Since(died))
	m.scripts()
	for n := range m.crons {
		m.crons[n].Stop()
		m.crons[n] = m.Process("cron")
	}
	m.webs[0].Stop()
	began := time.Now()
	m.startWeb(0)
	t.Logf("web was ready after %s", time.Since(began))
	edge := "http://" + m.Process("edge").Addr("edge")
	for pair := range pairs {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, edge, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Host = host(pair, pair%each)
		resp, err := caller.Do(req)
		if err != nil {
			t.Fatalf("%s: %v", req.Host, err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != http.StatusOK {
			t.Errorf("%s: %s", req.Host, resp.Status)
		}
	}
	m.dead.Store(false)
	routed(2)
	m.audited()
}

// TestThousandsOfInstancesDieAndReturn has half of 6,000 instances fail together, and return together. Each has one event
// of each change, and no other instance has one.
func TestThousandsOfInstancesDieAndReturn(t *testing.T) {
	t.Parallel()
	const each = 10 // instances of a vhost
	m, n := newMany(t), size(6000, 400)
	host := func(vhost int) string { return fmt.Sprintf("v%d.chaos", vhost) }
	m.enroll(n, func(n int) map[string]any {
		return map[string]any{
			"id": fmt.Sprint("many", n), "service": fmt.Sprint("s", n/each), "host": host(n / each), "interval": "5s", "timeout": "4s", "forget": "1h",
		}
	})
	routed := func(first, step int) {
		t.Helper()
		for vhost := range n / each {
			m.routed(host(vhost), numbers(vhost*each+first, (vhost+1)*each, step)...)
		}
	}
	routed(0, 1)
	before := m.stream()
	last := app.Revision(before[len(before)-1].Revision)
	m.dead.Store(true)
	routed(1, 2)
	m.dead.Store(false)
	routed(0, 1)
	said, want := map[string]int{}, map[string]int{}
	for _, e := range m.stream() { // without the oldest ones
		if app.Revision(e.Revision).Compare(last) > 0 {
			said[e.Kind+" "+e.Instance]++
		}
	}
	for _, k := range numbers(0, n, 2) {
		want[fmt.Sprint("unhealthy many", k)], want[fmt.Sprint("healthy many", k)] = 1, 1
	}
	if diff := cmp.Diff(want, said); diff != "" {
		t.Errorf("the events differ (-want +got):\n%.2000s", diff)
	}
	m.audited()
}

// TestABurstOfRegistrationsThatWait makes 3,000 registrations at once that wait for their first probe. An acknowledged
// registration is carried out. A refused one is not, unless the answer says that it may have been.
func TestABurstOfRegistrationsThatWait(t *testing.T) {
	t.Parallel()
	m, n := newMany(t), size(3000, 300)
	client := &http.Client{Timeout: harness.Patience, Transport: &http.Transport{MaxIdleConnsPerHost: n}}
	register := func(k int) (int, string) {
		resp, err := client.PostForm(m.bases[0]+"/v1/register?wait=10s", url.Values{
			"id": {fmt.Sprint("many", k)}, "service": {"many"}, "address": {m.address(k)}, "health": {"/"},
		})
		if err != nil {
			return 0, err.Error()
		}
		defer resp.Body.Close()
		var problem struct{ Want string }
		_ = json.NewDecoder(resp.Body).Decode(&problem)
		return resp.StatusCode, problem.Want
	}
	var calls sync.WaitGroup
	status, want := make([]int, n), make([]string, n)
	for k := range n {
		calls.Go(func() { status[k], want[k] = register(k) })
	}
	calls.Wait()
	stored, counts := m.stored(), map[int]int{}
	for k := range n {
		counts[status[k]]++
		_, there := stored[fmt.Sprint("many", k)]
		if contradiction(status[k], want[k], there) {
			t.Errorf("many%d was answered %d %q; registered: %t", k, status[k], want[k], there)
		}
	}
	t.Logf("answers by status, 0 for none: %v", counts)
	if counts[http.StatusCreated] == 0 {
		t.Error("no registration was acknowledged: nothing was tested")
	}
	m.enroll(n, func(k int) map[string]any { return map[string]any{"id": fmt.Sprint("many", k), "service": "many"} })
	m.audited()
}

// contradiction reports whether the answer to a registration contradicts the registry. want is the advice of a refusal.
func contradiction(status int, want string, there bool) bool {
	switch status {
	case http.StatusCreated, http.StatusFailedDependency: // with a wait that was too short
		return !there
	case http.StatusServiceUnavailable:
		return there && !strings.Contains(want, "may have been made")
	case 0: // no answer: a busy web process closes connections whose request it did not read in time
		return false
	}
	return true
}

// spin keeps a processor busy until the test ends.
func (w *world) spin() {
	ctx, stop := context.WithCancel(w.t.Context())
	w.running.Go(func() {
		for ctx.Err() == nil { // without a pause
			continue
		}
	})
	w.t.Cleanup(func() {
		stop()
		w.running.Wait()
	})
}
