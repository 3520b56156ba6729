package redisstore_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/app/registry"
	"rollcall/tests/harness"
)

// patient is a healthy registry on a server of its own.
type patient struct {
	t     *testing.T
	rdb   *redis.Client
	store *redisstore.Store
	verbs *registry.Registry

	member          *ownership.Member // the worker that lives while the doctor runs
	noWorker, noWeb bool
}

func newPatient(t *testing.T) *patient {
	t.Helper()
	server := harness.StartRedis(t)
	server.Restart(t, "--appendonly", "yes")
	p := &patient{t: t, rdb: server.Client(t)}
	p.store = redisstore.New(p.rdb, redisstore.Options{})
	p.verbs = registry.New(p.store, nil, p.store.Now, hold, func(context.Context, app.Step) {})
	p.up(1)
	p.up(2, weight(2))
	p.member = ownership.NewMember("1-w")
	return p
}

// up registers an instance that needs no check.
func (p *patient) up(n int, edits ...func(*app.Registration)) {
	p.t.Helper()
	none := func(r *app.Registration) { r.Health = "none" }
	if _, err := p.verbs.Register(p.t.Context(), saying(n, append([]func(*app.Registration){none}, edits...)...)); err != nil {
		p.t.Fatal(err)
	}
}

// live keeps a worker and a web process alive until the returned function is called.
func (p *patient) live() (stop func()) {
	p.t.Helper()
	tick := func() {
		if !p.noWorker {
			now := time.Now()
			r, err := p.store.Own(p.t.Context(), p.member.Next(now, p.member.Surplus(false)))
			if err != nil {
				p.t.Error(err)
			}
			p.member.Apply(now, r)
		}
		if !p.noWeb {
			if err := p.store.Alive(p.t.Context()); err != nil {
				p.t.Error(err)
			}
		}
	}
	tick()
	ended := make(chan struct{})
	var ticking sync.WaitGroup
	ticking.Go(func() {
		for {
			select {
			case <-ended:
				return
			case <-time.After(5 * time.Millisecond):
				tick()
			}
		}
	})
	return func() { close(ended); ticking.Wait() }
}

func (p *patient) do(command string) {
	p.t.Helper()
	var args []any
	for word := range strings.FieldsSeq(command) {
		args = append(args, strings.ReplaceAll(word, "_", " "))
	}
	if err := p.rdb.Do(p.t.Context(), args...).Err(); err != nil {
		p.t.Fatalf("%s: %v", command, err)
	}
}

func (p *patient) examine(s *redisstore.Store) string {
	p.t.Helper()
	stop := p.live()
	found, err := diagnose.Doctor{Source: s, Observe: 100 * time.Millisecond}.Examine(p.t.Context())
	stop()
	if err != nil {
		p.t.Fatal(err)
	}
	var all []string
	for _, f := range found {
		if f.Fix == "" {
			p.t.Errorf("nobody is told what to do about %q", f.Problem)
		}
		all = append(all, fmt.Sprintf("%s: %s", f.Severity, f.Problem))
	}
	return strings.Join(all, "\n")
}

func TestDoctorHasNoFindingInAHealthyRegistry(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	p.do("RPUSH frontend:theirs.test theirs http://192.0.2.1:80") // no service is registered for it
	p.do("SET dead:a.test:10.0.0.1 host EX 30")                   // a lock of PlanB
	p.do("SADD dead:a.test 1")                                    // a proxy's mark
	p.do("EXPIRE dead:a.test 30")
	if got := p.examine(p.store); got != "" {
		t.Errorf("got\n%s", got)
	}
	// Draining, an override of the weight, and a last backend are no findings either.
	ctx := t.Context()
	if _, _, err := p.verbs.Drain(ctx, "i1", "", time.Minute); err != nil {
		t.Fatal(err)
	}
	if _, _, err := p.verbs.Override(ctx, "i2", app.Override{Weight: 5, Until: p.store.Now().Add(time.Hour)}); err != nil {
		t.Fatal(err)
	}
	p.up(3, hosts("*.b.test"), func(r *app.Registration) { r.Service = "b" })
	p.do("SADD dead:x.b.test 0")
	p.do("EXPIRE dead:x.b.test 30")
	if got := p.examine(p.store); got != "" {
		t.Errorf("later\n%s", got)
	}
}

func TestDoctorFinds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		plant func(*patient)
		want  string
	}{
		"no persistence":                 {func(p *patient) { p.do("CONFIG SET appendonly no") }, "error: nothing is persisted"},
		"an evicting policy":             {func(p *patient) { p.do("CONFIG SET maxmemory-policy volatile-lru") }, "error: Redis evicts keys when memory is short (volatile-lru)"},
		"an instance that is not listed": {func(p *patient) { p.do("LREM frontend:a.test 0 http://10.0.0.1:80") }, "error: i1 is healthy and not in frontend:a.test"},
		"no list":                        {func(p *patient) { p.do("DEL frontend:a.test") }, "error: i1 is healthy and not in frontend:a.test\nerror: i2 is healthy"},
		"too few slots":                  {func(p *patient) { p.do("LREM frontend:a.test 1 http://10.0.0.2:80") }, "error: i2 has 1 backends in frontend:a.test and should have 2"},
		"too many slots":                 {func(p *patient) { p.do("RPUSH frontend:a.test http://10.0.0.1:80") }, "error: i1 has 2 backends in frontend:a.test and should have 1"},
		"an instance that no vhost has":  {func(p *patient) { p.do("HDEL rollcall:vhost:a.test http://10.0.0.1:80") }, "error: instance i1 does not stand in its vhosts as it should\nwarning: frontend:a.test has entries that Rollcall did not write"},
		"marks of no slot":               {func(p *patient) { p.do("SADD dead:a.test 7"); p.do("EXPIRE dead:a.test 30") }, "warning: dead:a.test has marks without a backend (7; the list has 3 backends)"},
		"marks of a vhost that is gone":  {func(p *patient) { p.do("SADD dead:gone.test 0"); p.do("EXPIRE dead:gone.test 30") }, "warning: dead:gone.test has marks without a backend (0; the list has 0 backends)"},
		"marks for ever":                 {func(p *patient) { p.do("SADD dead:a.test 0") }, "warning: dead:a.test has no time to live"},
		"a foreign identifier":           {func(p *patient) { p.do("LSET frontend:a.test 0 theirs") }, `warning: frontend:a.test begins with "theirs", which Rollcall did not write`},
		"no identifier":                  {func(p *patient) { p.do("LSET frontend:a.test 0 http://10.0.0.9:80") }, `warning: frontend:a.test begins with "http://10.0.0.9:80"`},
		"a foreign entry":                {func(p *patient) { p.do("RPUSH frontend:a.test http://10.0.0.9:80") }, "warning: frontend:a.test has entries that Rollcall did not write: http://10.0.0.9:80"},
		"an entry that hurts":            {func(p *patient) { p.do("RPUSH frontend:a.test http://10.0.0.9:99999") }, `error: frontend:a.test has entries that are no http URL, on which Hipache hangs or crashes: "http://10.0.0.9:99999"`},
		"a list that is none":            {func(p *patient) { p.do("DEL frontend:a.test"); p.do("SET frontend:a.test x") }, "error: frontend:a.test is a string, not a list"},
		"marks that are no set":          {func(p *patient) { p.do("RPUSH dead:a.test 0") }, "error: dead:a.test is a list, not a set"},
		"no worker":                      {func(p *patient) { p.noWorker = true }, "error: no cron process is at work"},
		"no web process":                 {func(p *patient) { p.noWeb = true }, "warning: no web process has ever been here"},
		"a web process that has gone":    {func(p *patient) { p.noWeb = true; p.do("SET rollcall:web 7") }, "error: no web process has been heard of for"},
		"an agent without a comparison":  {func(p *patient) { p.do(`HSET rollcall:agents n1 {"synced":1}`) }, "warning: the agent of node n1 last compared its containers"},
		"a disputed instance": {
			func(p *patient) {
				progress := ownership.Progress{ID: "i1", Dispute: true}
				p.rdb.Set(p.t.Context(), fmt.Sprintf("rollcall:shard:%d", ownership.ShardOf("i1")), progress.Append(ownership.AppendRecord(nil, 1)), 0)
			},
			"warning: 1 instances are disputed (i1): the worker that owns them does not reach them, and another worker does",
		},
		"a worker that is not dropped": {
			func(p *patient) { p.do("HSET rollcall:workers 1-dead 5") },
			"error: the workers 1-dead have been silent for 4s and are not dropped: the workers disagree about who lives\nerror: 128 of 256 shards have no living owner",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			c.plant(p)
			if got := p.examine(p.store); !strings.HasPrefix(got, c.want) || strings.Count(got, "\n") != strings.Count(c.want, "\n") {
				t.Errorf("got\n%s\nwant\n%s", got, c.want)
			}
		})
	}
}

// Reconciliation repairs each finding that the doctor assigns to it.
func TestDoctorIsRightAboutReconciliation(t *testing.T) {
	t.Parallel()
	for _, plant := range []string{
		"DEL frontend:a.test", "LREM frontend:a.test 1 http://10.0.0.2:80", "RPUSH frontend:a.test http://10.0.0.1:80",
		"HDEL rollcall:vhost:a.test http://10.0.0.1:80", "COPY rollcall:epoch frontend:a.test REPLACE",
	} {
		t.Run(plant, func(t *testing.T) {
			t.Parallel()
			p := newPatient(t)
			p.do("SET rollcall:epoch x")
			p.do(plant)
			if got := p.examine(p.store); got == "" {
				t.Fatal("nothing is found")
			}
			if _, err := p.store.Reconcile(t.Context(), app.Everything); err != nil {
				t.Fatal(err)
			}
			if got := p.examine(p.store); got != "" {
				t.Errorf("after it\n%s", got)
			}
		})
	}
}

func TestDoctorComparesClocks(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	for _, skew := range []time.Duration{-time.Hour, 3500 * time.Millisecond} {
		wrong := redisstore.New(p.rdb, redisstore.Options{Now: func() time.Time { return time.Now().Add(-skew) }})
		got := p.examine(wrong)
		if !strings.HasPrefix(got, "warning: the clock of Redis is "+skew.String()[:2]) || strings.Contains(got, "\n") {
			t.Errorf("skewed by %s: got\n%s", skew, got)
		}
	}
}

// The doctor finds a primary without a replica from the sentinel that watches it.
func TestDoctorFindsASentinel(t *testing.T) {
	t.Parallel()
	p := newPatient(t)
	host, port, _ := net.SplitHostPort(p.rdb.Options().Addr)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := fmt.Sprintf("bind 127.0.0.1\nport %d\nsentinel monitor primary %s %s 1\n", harness.FreePort(t), host, port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background()) //nolint:usetesting // the sentinel ends before its directory does
	sentinel := exec.CommandContext(ctx, "redis-server", config, "--sentinel")
	if err := sentinel.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cancel()
		_ = sentinel.Wait()
	})
	const want = "warning: the primary has 0 replicas and 1 sentinels, and writes even if it reaches no replica"
	got := ""
	for end := time.Now().Add(time.Minute); !strings.HasPrefix(got, want) && time.Now().Before(end); {
		got = p.examine(p.store)
	}
	if !strings.HasPrefix(got, want) {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
