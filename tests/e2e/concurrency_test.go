package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"rollcall/tests/harness"
)

const (
	crowd    = 200 // instances
	services = 10  // number of services; each has two vhosts, and one has a wildcard
	clerks   = 4   // callers that constantly register, drain and deregister
)

// TestManyProcessesKeepOneTruth runs two cron and two web processes on a registry of instances that
// flap, join and leave. After every script the registry, its events and the proxy's lists must agree
// (see ledger). No shard may have two owners. The final state must follow from the instances alone.
func TestManyProcessesKeepOneTruth(t *testing.T) {
	t.Parallel()
	k := newStack(t, "ROLLCALL_SETTLE=2s", "ROLLCALL_DRAIN_HOLD=500ms")
	l := watch(t, k.Server.Addr())
	crons := []*harness.Process{k.Process("cron"), k.Process("cron")}
	web1, api1 := k.web()
	web2, api2 := k.web()
	c := &company{t: t, apis: []api{api1, api2}}
	for n := range crowd {
		b := harness.NewBackend(t)
		c.staff = append(c.staff, &member{n: n, backend: b})
		c.expect(c.apis[n%2], http.MethodPost, "/v1/register", c.staff[n].form(), 201)
	}

	end := time.Now().Add(loadFor(t, 20*time.Second))
	var at sync.WaitGroup
	for n := range clerks {
		at.Go(func() { c.clerk(end, n) })
	}
	at.Go(func() { c.weather(end) })
	at.Go(func() { c.inspector(end) })
	at.Wait()
	c.calmDown()

	var wrong []string
	harness.Eventually(t, func() (err error) {
		if wrong, err = harness.Audit(t.Context(), k.Redis); err != nil {
			return err
		}
		return c.settled(k)
	})
	harness.Eventually(t, func() (err error) {
		if wrong, err = harness.Audit(t.Context(), k.Redis); err == nil && len(wrong) > 0 {
			err = errors.New(strings.Join(wrong, "\n"))
		}
		return err
	})
	c.compareReads(k)

	for _, p := range append(crons, web1, web2) {
		p.Stop()
		for line := range strings.Lines(p.Log.String()) {
			slow := strings.Contains(line, "unavailable") // Redis on a busy machine
			if strings.Contains(line, "repaired differences") || strings.Contains(line, `"level":"ERROR"`) && !slow {
				t.Errorf("%s says: %s", p.Name, line)
			}
		}
	}
	found := l.sync(k)
	for _, problem := range found.problems {
		t.Error(problem)
	}
	t.Logf("%d scripts, %d events, %d writes of lists; %d calls, %d of them 503; %d shards moved; %d times a list had nobody",
		found.steps, found.events, found.writes, c.calls.Load(), c.unanswered.Load(), found.moves, found.idOnly)
	if c.unanswered.Load() > c.calls.Load()/10 {
		t.Errorf("%d of %d calls were answered with 503", c.unanswered.Load(), c.calls.Load())
	}
	if found.events < crowd || found.writes < crowd {
		t.Errorf("only %d events and %d writes of lists: nothing was tested", found.events, found.writes)
	}
	if n := int64(found.events); n != k.Redis.XLen(t.Context(), "rollcall:events").Val() && n < 10_000 {
		t.Errorf("the ledger has %d events, the stream %d", n, k.Redis.XLen(t.Context(), "rollcall:events").Val())
	}
}

// company is the instances and their callers.
type company struct {
	t     *testing.T
	apis  []api
	staff []*member

	calls, unanswered atomic.Int64
}

// member is an instance. It gets a new id when another container takes its address.
type member struct {
	n       int
	backend *harness.Backend

	// calls is held for reading during each registration. A container that gets the member's address starts after the
	// last registration of the container before it: if the two overlapped, both would count as alive.
	calls sync.RWMutex

	mu     sync.Mutex
	life   int // of the id
	boot   int
	weight int
}

func (m *member) service() string { return fmt.Sprintf("svc%d", m.n%services) }

func (m *member) id() string { return fmt.Sprintf("m%d-%d", m.n, m.life) }

// form is the member's current registration.
func (m *member) form() url.Values {
	service := m.service()
	f := harness.Registration(m.backend, m.id(), service+".test", "service", service, "interval", "1s", "timeout", "500ms",
		"grace", "4s", "forget", "4s", "weight", fmt.Sprint(1+m.weight%3))
	f.Add("host", service+".example")
	if m.n%20 == 0 {
		f.Add("host", "*."+service+".test")
	}
	if m.boot > 0 {
		f.Set("boot", fmt.Sprint("boot", m.boot))
	}
	return f
}

// changes makes one of the changes that a member's next registration reports, or none.
func (m *member) changes(dice int) {
	if dice == 2 {
		m.calls.Lock()
		defer m.calls.Unlock()
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	switch dice {
	case 0:
		m.boot++ // the container restarted
	case 1:
		m.weight++
	case 2:
		m.life++ // another container has its address and its own nonce
		m.boot++
	}
}

// current returns the member's registration and its id.
func (m *member) current() (url.Values, string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.form(), m.id()
}

// clerk makes calls about random members, to random processes.
func (c *company) clerk(end time.Time, n int) {
	dice := rand.New(rand.NewPCG(1, uint64(n)))
	for time.Now().Before(end) {
		m, a := c.staff[dice.IntN(crowd)], c.apis[dice.IntN(len(c.apis))]
		m.changes(dice.IntN(12))
		m.calls.RLock()
		f, id := m.current()
		switch dice.IntN(12) {
		case 0:
			c.expect(a, http.MethodPost, "/v1/instances/"+id+"/drain?hold=300ms", nil, 200, 404)
		case 1:
			c.expect(a, http.MethodDelete, "/v1/instances/"+id, nil, 204)
		case 2:
			c.expect(a, http.MethodPost, "/v1/instances/"+id+"/heartbeat", nil, 204, 404, 410)
		case 3:
			c.expect(a, http.MethodGet, "/v1/services/"+m.service(), nil, 200, 404)
		default:
			c.expect(a, http.MethodPost, "/v1/register", f, 200, 201, 410)
		}
		m.calls.RUnlock()
		time.Sleep(time.Duration(dice.IntN(60)) * time.Millisecond)
	}
}

func (c *company) expect(a api, method, path string, f url.Values, statuses ...int) {
	c.calls.Add(1)
	got, err := a.try(method, path, f)
	if err != nil {
		c.t.Errorf("%s %s: %v", method, path, err)
		return
	}
	if got.status == http.StatusServiceUnavailable { // Redis took longer than a second
		c.unanswered.Add(1)
		return
	}
	if !slices.Contains(statuses, got.status) {
		c.t.Errorf("%s %s %v: %s, want one of %d", method, path, f, got, statuses)
	}
}

// weather makes backends fail and recover at random.
func (c *company) weather(end time.Time) {
	dice := rand.New(rand.NewPCG(2, 0))
	modes := []harness.Mode{harness.Answers, harness.Answers, harness.Answers, harness.Refuses, harness.Errors5, harness.Resets, harness.Hangs}
	for time.Now().Before(end) {
		c.staff[dice.IntN(crowd)].backend.Is(modes[dice.IntN(len(modes))])
		time.Sleep(time.Duration(dice.IntN(60)) * time.Millisecond)
	}
}

// inspector compares the registry with the lists all the time. It must never find a difference:
// only Rollcall writes here.
func (c *company) inspector(end time.Time) {
	for n := 0; time.Now().Before(end); n++ {
		c.expect(c.apis[n%len(c.apis)], http.MethodPost, "/v1/jobs/reconcile/run", nil, 200)
		time.Sleep(300 * time.Millisecond)
	}
}

// calmDown leaves every tenth backend down and the others up, and registers all members.
func (c *company) calmDown() {
	for n, m := range c.staff {
		m.backend.Is(harness.Answers)
		if n/services%10 == 0 {
			m.backend.Is(harness.Refuses)
		}
		c.expect(c.apis[n%2], http.MethodPost, "/v1/register", m.form(), 200, 201, 410)
	}
}

// settled reports members whose state differs from their backend's: a backend that is up must be
// healthy, and one that is down must be gone, because it no longer registers.
func (c *company) settled(k *stack) error {
	for n, m := range c.staff {
		doc, err := k.Redis.Get(c.t.Context(), "rollcall:instance:"+m.id()).Result()
		var d harness.Document
		if err == nil {
			err = json.Unmarshal([]byte(doc), &d)
		}
		if n/services%10 == 0 {
			if d.State != "" {
				return fmt.Errorf("%s is %s, and its backend is down", m.id(), d.State)
			}
			continue
		}
		if d.State == "" { // it was draining when it registered
			c.expect(c.apis[0], http.MethodPost, "/v1/register", m.form(), 200, 201, 410)
		}
		if err != nil || d.State != "healthy" {
			return fmt.Errorf("%s is %q, %w, and its backend is up", m.id(), d.State, err)
		}
	}
	if n := k.Redis.ZCard(c.t.Context(), "rollcall:settling").Val(); n > 0 {
		return fmt.Errorf("%d vhosts are settling", n)
	}
	return nil
}

// compareReads checks that every web process answers the content of Redis.
func (c *company) compareReads(k *stack) {
	c.t.Helper()
	r, err := harness.ReadAll(c.t.Context(), k.Redis)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, a := range c.apis {
		states := map[string]string{}
		for service := range r.Services {
			var list struct{ Instances []instance }
			got := a.call(http.MethodGet, "/v1/services/"+service+"?state=any", nil)
			if err := json.Unmarshal([]byte(got.body), &list); err != nil {
				c.t.Fatalf("%s: %v", got, err)
			}
			for _, i := range list.Instances {
				states[i.ID] = i.State
			}
		}
		for id, d := range r.Docs {
			if states[id] != d.State {
				c.t.Errorf("%s says that %s is %q, and it is %s", a.base, id, states[id], d.State)
			}
			delete(states, id)
		}
		for id := range states {
			c.t.Errorf("%s lists %s, which is not registered", a.base, id)
		}
	}
}
