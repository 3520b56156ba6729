package redisstore_test

import (
	"cmp"
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/redisstore/storetest"
	"rollcall/app/registry"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// site is a registry on a Redis, with a clock that stands still, and the proxy's keys.
type site struct {
	*redisstore.Store
	rdb    *redis.Client
	prefix string // of Rollcall's keys
	proxy  hipache.Keys
	vhosts *redisstore.Vhosts
	clock  *storetest.Clock
	verbs  *registry.Registry
}

const hold = 10 * time.Second // of a replaced instance

func newSite(t testing.TB) *site {
	t.Helper()
	return prefixedSite(harness.SharedRedis(t), harness.Prefix(t))
}

// prefixedSite returns a registry that shares its Redis with others. All keys have the prefix. Calls have a long timeout,
// because the machine may be busy.
func prefixedSite(c *redis.Client, prefix string) *site {
	return siteOn(c, redisstore.Options{Prefix: prefix, Hipache: hipache.Keys{Prefix: prefix}, Timeout: time.Minute})
}

// siteOn returns the registry on any Redis.
func siteOn(c *redis.Client, o redisstore.Options) *site {
	s := &site{rdb: c, prefix: cmp.Or(o.Prefix, "rollcall:"), proxy: o.Hipache, clock: storetest.NewClock()}
	o.Settle, o.Now = storetest.Settle, s.clock.Now
	s.Store = redisstore.New(c, o)
	s.vhosts = s.Vhosts()
	s.verbs = registry.New(s.Store, nil, s.Now, hold, func(context.Context, app.Step) {})
	return s
}

// saying returns a registration of the instance with the number n, http://10.0.0.n:80, of the service web for a.test.
func saying(n int, edits ...func(*app.Registration)) app.Registration {
	r := app.Registration{
		Service: "web", ID: "i" + strconv.Itoa(n), Address: "10.0.0." + strconv.Itoa(n), Port: 80,
		Hosts: []string{"a.test"}, Health: "tcp",
	}
	for _, edit := range edits {
		edit(&r)
	}
	return r
}

func hosts(hosts ...string) func(*app.Registration) {
	return func(r *app.Registration) { r.Hosts = hosts }
}

func weight(n int) func(*app.Registration) { return func(r *app.Registration) { r.Weight = &n } }

// up registers an instance and lets it pass until it is healthy.
func (s *site) up(t *testing.T, n int, edits ...func(*app.Registration)) app.Instance {
	t.Helper()
	i := s.register(t, saying(n, edits...)).Instance
	return s.check(t, i.ID, strings.Repeat("+", i.Check.Rise))
}

func (s *site) register(t *testing.T, r app.Registration) registry.Registered {
	t.Helper()
	done, err := s.verbs.Register(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	return done
}

// check applies results of probes of an instance as its owner does: + for passed, - for failed. A pass that changes no
// state clears the marks of proxies, as after an announcement. The clock does not advance.
func (s *site) check(t *testing.T, id, results string) app.Instance {
	t.Helper()
	for _, r := range results {
		result := app.Result{At: s.clock.Now(), Latency: time.Millisecond, Passed: r == '+'}
		if !result.Passed {
			result.Code = app.Refused
		}
		s.judge(t, id, result)
	}
	return s.get(t, id)
}

// judge applies a result of a probe.
func (s *site) judge(t *testing.T, id string, r app.Result) {
	t.Helper()
	i := s.get(t, id)
	o := registry.Outcome{Was: i, Result: r}
	var err error
	switch {
	case !i.Probed():
		t.Fatalf("%s is %s and not probed", id, i.State)
	case o.Changes(s.clock.Now()):
		_, err = s.verbs.ApplyResult(t.Context(), o)
	case r.Passed && i.Routable():
		err = s.verbs.Passed(t.Context(), i, app.Fence{})
	}
	if err != nil {
		t.Fatal(err)
	}
}

// hurried returns a function that lists the instances for which an immediate probe was requested since.
func (s *site) hurried(t *testing.T) (ids func() []string) {
	t.Helper()
	sub := s.rdb.Subscribe(t.Context(), s.prefix+"probe")
	if _, err := sub.Receive(t.Context()); err != nil {
		t.Fatal(err)
	}
	return func() (ids []string) {
		t.Helper()
		defer sub.Close()
		s.rdb.Publish(t.Context(), s.prefix+"probe", "that is all")
		for {
			m, err := sub.ReceiveMessage(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if m.Payload == "that is all" {
				return ids
			}
			ids = append(ids, m.Payload)
		}
	}
}

// announce handles the payload of a proxy's announcement.
func (s *site) announce(t *testing.T, payload string) (repaired bool, early string) {
	t.Helper()
	a, ok := hipache.ParseAnnouncement(payload)
	if !ok {
		t.Fatalf("%q is no announcement", payload)
	}
	repaired, early, err := s.vhosts.Announced(t.Context(), a, app.Everything)
	if err != nil {
		t.Fatal(err)
	}
	return repaired, early
}

func (s *site) get(t *testing.T, id string) app.Instance {
	t.Helper()
	i, err := s.Get(t.Context(), id)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func (s *site) drain(t *testing.T, n int) {
	t.Helper()
	if _, _, err := s.verbs.Drain(t.Context(), "i"+strconv.Itoa(n), "", hold); err != nil {
		t.Fatal(err)
	}
}

func (s *site) deregister(t *testing.T, n int) {
	t.Helper()
	if _, _, err := s.verbs.Deregister(t.Context(), "i"+strconv.Itoa(n), ""); err != nil {
		t.Fatal(err)
	}
}

// settle lets the settle time pass and removes settled backends.
func (s *site) settle(t *testing.T) {
	t.Helper()
	s.clock.Pass(storetest.Settle)
	if _, err := storetest.RemoveSettled(t.Context(), s.vhosts, s.clock.Now()); err != nil {
		t.Fatal(err)
	}
}

// findMarks searches for marks as a worker does when it takes the shards of vhosts.
func (s *site) findMarks(t *testing.T) {
	t.Helper()
	if err := s.vhosts.FindMarks(t.Context(), app.Everything); err != nil {
		t.Fatal(err)
	}
}

// do runs a Redis command with words separated by spaces. frontend: and dead: get the prefix of the proxy's keys, ~ stands
// for Rollcall's prefix, and _ for a space.
func (s *site) do(t *testing.T, command string) any {
	t.Helper()
	var args []any
	for word := range strings.FieldsSeq(command) {
		if strings.HasPrefix(word, "frontend:") || strings.HasPrefix(word, "dead:") {
			word = s.proxy.Prefix + word
		} else if ours, ok := strings.CutPrefix(word, "~"); ok {
			word = s.prefix + ours
		} else {
			word = strings.ReplaceAll(word, "_", " ")
		}
		args = append(args, word)
	}
	v, err := s.rdb.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("%s: %v", command, err)
	}
	return v
}

// list returns a vhost's list as proxies read it: the identifier and its slots, the slots of 10.0.0.n as n, with ! for a
// marked one.
func (s *site) list(t testing.TB, host string) string {
	t.Helper()
	entries, err1 := s.rdb.LRange(t.Context(), s.proxy.Frontend(host), 0, -1).Result()
	marks, err2 := s.rdb.SMembersMap(t.Context(), s.proxy.Dead(host)).Result()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	for n, entry := range entries {
		entries[n] = strings.TrimSuffix(strings.TrimPrefix(entry, "http://10.0.0."), ":80")
		if _, marked := marks[strconv.Itoa(n-1)]; marked {
			entries[n] += "!"
			delete(marks, strconv.Itoa(n-1))
		}
	}
	for mark := range marks {
		entries = append(entries, "and a mark "+mark)
	}
	return strings.Join(entries, " ")
}

func (s *site) wantList(t testing.TB, host, want string) {
	t.Helper()
	if got := s.list(t, host); got != want {
		t.Errorf("%s is %q, want %q", host, got, want)
	}
}
