package e2e

import (
	"bufio"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

// explained is the API's answer about a Host header.
type explained struct {
	Requested string
	LookedUp  []struct {
		Host, Type string
		Slots      int
		Wins       bool
	} `json:"looked_up"`
	Frontend *struct {
		Host            string
		Slots, Unlisted []struct {
			URL, Why string
			Routed   bool
		}
	}
	Status  int
	Verdict string
}

// routed are the routed backends, each with the stated reason.
func (e explained) routed() []string {
	urls := map[string]bool{}
	if e.Frontend != nil && e.Status == 0 {
		for _, s := range e.Frontend.Slots {
			if s.Routed {
				urls[s.URL] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(urls))
}

func (e explained) why() string {
	var all []string
	if e.Frontend != nil {
		for _, s := range append(e.Frontend.Slots, e.Frontend.Unlisted...) {
			all = append(all, s.Why)
		}
	}
	return strings.Join(all, "; ")
}

// scene is a vhost in some state: a registry, the proxy's keys and an edge that reads them. All backends
// answer, so only the keys decide.
type scene struct {
	*web
	edge     string
	backends []string // their URLs
}

func newScene(t *testing.T) *scene {
	t.Helper()
	s := &scene{web: newWeb(t)}
	e, err := edge.New(edge.Options{Redis: s.rdb, Keys: s.proxy, RedisTimeout: harness.Patience})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(e.Close)
	server := httptest.NewServer(e)
	t.Cleanup(server.Close)
	s.edge = server.Listener.Addr().String()
	for range 3 {
		b := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.WriteString(w, "http://"+r.Context().Value(http.LocalAddrContextKey).(net.Addr).String())
		}))
		t.Cleanup(b.Close)
		s.backends = append(s.backends, b.URL)
	}
	return s
}

// up registers backend n for a vhost, healthy by default.
func (s *scene) up(n int, host string, pairs ...string) string {
	s.t.Helper()
	u, _ := url.Parse(s.backends[n])
	fields := form("service", "web", "address", u.Host, "id", fmt.Sprint("i", n), "health", "none", "host", host)
	for n := 0; n < len(pairs); n += 2 {
		fields.Set(pairs[n], pairs[n+1])
	}
	a := s.call(http.MethodPost, "/v1/register", fields)
	if a.status != http.StatusCreated {
		s.t.Fatalf("register %v: %s", fields, a)
	}
	return fields.Get("id")
}

// checked registers backend n with a check, and applies results to it.
func (s *scene) checked(n int, host, results string, pairs ...string) {
	s.t.Helper()
	id := s.up(n, host, pairs...)
	s.probed(id, results)
}

func (s *scene) say(command string) {
	s.t.Helper()
	for n, b := range s.backends {
		command = strings.ReplaceAll(command, fmt.Sprint("$", n), b)
	}
	s.do(command)
}

func (s *scene) override(id string, pairs ...string) {
	s.t.Helper()
	if a := s.call(http.MethodPatch, "/v1/instances/"+id, form(pairs...)); a.status != http.StatusOK {
		s.t.Fatal(a)
	}
}

// tries is the number of requests: enough that the edge selects each of a few backends.
const tries = 60

// visit sends a Host header many times, and returns the status of the proxy's own answers, and the
// backends that answered.
func (s *scene) visit(t *testing.T, header string) (statuses []int, backends []string) {
	t.Helper()
	c, err := net.Dial("tcp", s.edge)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(harness.Patience))
	answers := bufio.NewReader(c)
	own, asked := map[int]bool{}, map[string]bool{}
	for range tries {
		if _, err := fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", header); err != nil {
			t.Fatal(err)
		}
		resp, err := http.ReadResponse(answers, nil)
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		if strings.HasPrefix(string(body), "http://") {
			asked[string(body)] = true
		} else {
			own[resp.StatusCode] = true
		}
	}
	return slices.Sorted(maps.Keys(own)), slices.Sorted(maps.Keys(asked))
}

// TestExplainSaysWhatTheEdgeDoes puts a vhost into every possible state.
func TestExplainSaysWhatTheEdgeDoes(t *testing.T) {
	t.Parallel()
	const a = "a.test"
	for _, c := range []struct {
		name   string
		set    func(*scene)
		header string
		status int    // status of the proxy's own answer
		asks   string // numbers of the backends that it asks
		why    string // part of the reason for one of them
	}{
		{"exact", func(s *scene) { s.up(0, a) }, a, 0, "0", "healthy"},
		{"several", func(s *scene) { s.up(0, a); s.up(1, a); s.up(2, a) }, a, 0, "012", ""},
		{"weights", func(s *scene) { s.up(0, a, "weight", "3"); s.up(1, a) }, a, 0, "01", ""},
		{"exact before wildcard", func(s *scene) { s.up(0, a); s.up(1, "*.test", "service", "other") }, a, 0, "0", ""},
		{"wildcard", func(s *scene) { s.up(0, "*.a.test") }, "x.a.test", 0, "0", ""},
		{"wildcard, two levels up", func(s *scene) { s.up(0, "*.a.test") }, "y.x.a.test", 0, "0", ""},
		{"wildcard of one label", func(s *scene) { s.up(0, "*.test") }, "y.x.a.test", 0, "0", ""},
		{"the longest wildcard", func(s *scene) {
			s.up(0, "*.test", "service", "short")
			s.up(1, "*.a.test", "service", "long")
		}, "x.a.test", 0, "1", ""},
		{"a wildcard's own name", func(s *scene) { s.up(0, "*.a.test") }, a, 400, "", ""},
		{"a wildcard of five labels", func(s *scene) { s.up(0, "*.e.d.c.b.test") }, "x.e.d.c.b.test", 0, "0", ""},
		{"a wildcard of six labels", func(s *scene) { s.say("RPUSH frontend:*.f.e.d.c.b.test id $0") }, "x.f.e.d.c.b.test", 400, "", ""},
		{"seven labels and a wildcard of five", func(s *scene) { s.up(0, "*.e.d.c.b.test") }, "y.x.e.d.c.b.test", 0, "0", ""},
		{"catch-all", func(s *scene) { s.up(0, "*") }, a, 0, "0", ""},
		{"nothing", func(*scene) {}, a, 400, "", ""},
		{"a marked slot", func(s *scene) { s.up(0, a); s.up(1, a); s.say("SADD dead:a.test 0") }, a, 0, "1", "a proxy has marked it"},
		{"all marked", func(s *scene) { s.up(0, a); s.up(1, a); s.say("SADD dead:a.test 0 1") }, a, 502, "", ""},
		{"the only one marked", func(s *scene) { s.up(0, a); s.say("SADD dead:a.test 0") }, a, 502, "", ""},
		{"marks of no slot", func(s *scene) { s.up(0, a); s.say("SADD dead:a.test 1 7 -1 x") }, a, 0, "0", ""},
		{"marks that only begin as a number", func(s *scene) { s.up(0, a); s.up(1, a); s.say("SADD dead:a.test 0abc") }, a, 0, "1", ""},
		{"hexadecimal marks", func(s *scene) { s.up(0, a); s.up(1, a); s.say("SADD dead:a.test 0x1") }, a, 0, "0", ""},
		{"a mark under a wildcard", func(s *scene) { s.up(0, "*.a.test"); s.up(1, "*.a.test"); s.say("SADD dead:x.a.test 1") }, "x.a.test", 0, "0", ""},
		{"a mark of another name under it", func(s *scene) { s.up(0, "*.a.test"); s.say("SADD dead:y.a.test 0") }, "x.a.test", 0, "0", ""},
		{"a mark in the wildcard's name", func(s *scene) { s.up(0, "*.a.test"); s.say("SADD dead:*.a.test 0") }, "x.a.test", 0, "0", ""},
		{"a foreign entry", func(s *scene) { s.say("RPUSH frontend:a.test theirs $2"); s.up(0, a) }, a, 0, "02", "not Rollcall's: left alone"},
		{"foreign entries only", func(s *scene) { s.say("RPUSH frontend:a.test theirs $0 $1 $1") }, a, 0, "01", "not Rollcall's: left alone"},
		{"a foreign entry marked", func(s *scene) { s.say("RPUSH frontend:a.test theirs $2 $1"); s.say("SADD dead:a.test 0") }, a, 0, "1", "not Rollcall's; a proxy"},
		{"draining", func(s *scene) {
			s.up(0, a)
			s.up(1, a)
			_, _, _ = s.registry.Drain(s.t.Context(), "i0", "", time.Minute)
		}, a, 0, "1", "draining: marked, and about to leave the list"},
		{"gone, and not out of the list yet", func(s *scene) {
			s.up(0, a)
			s.up(1, a)
			_, _, _ = s.registry.Deregister(s.t.Context(), "i0", "")
		}, a, 0, "1", "no longer registered: marked"},
		{"gone", func(s *scene) { s.up(0, a); _, _, _ = s.registry.Deregister(s.t.Context(), "i0", "") }, a, 400, "", ""},
		{"gone, above a wildcard", func(s *scene) {
			s.up(0, a)
			s.up(1, "*.test", "service", "other")
			_, _, _ = s.registry.Deregister(s.t.Context(), "i0", "")
		}, a, 0, "1", ""},
		{"an identifier only", func(s *scene) { s.say("RPUSH frontend:a.test id") }, a, 502, "", ""},
		{"an identifier only, above a wildcard", func(s *scene) { s.say("RPUSH frontend:a.test id"); s.up(0, "*.test") }, a, 502, "", ""},
		{"a wildcard with an identifier only", func(s *scene) { s.say("RPUSH frontend:*.test id"); s.up(0, "*") }, a, 502, "", ""},
		{"no identifier", func(s *scene) { s.say("RPUSH frontend:a.test $0 $1") }, a, 0, "1", ""},
		{"a list that is none", func(s *scene) { s.say("SET frontend:a.test $0") }, a, 502, "", ""},
		{"a list that is none, above a wildcard", func(s *scene) { s.say("SADD frontend:a.test $0"); s.up(0, "*.test") }, a, 502, "", ""},
		{"a wildcard that is no list", func(s *scene) { s.say("SET frontend:*.test x"); s.up(0, "*") }, a, 0, "0", ""},
		{"marks that are no set", func(s *scene) { s.up(0, a); s.say("SET dead:a.test 0") }, a, 0, "0", ""},
		{"upper case", func(s *scene) { s.up(0, a) }, "A.TEST", 400, "", ""},
		{"upper case with a port", func(s *scene) { s.up(0, a) }, "A.Test:80", 0, "0", ""},
		{"a port", func(s *scene) { s.up(0, a) }, "a.test:8080", 0, "0", ""},
		{"a port that is none", func(s *scene) { s.up(0, a) }, "a.test:", 0, "0", ""},
		{"a trailing dot", func(s *scene) { s.up(0, a) }, "a.test.", 400, "", ""},
		{"a trailing dot and a catch-all", func(s *scene) { s.up(0, a); s.up(1, "*", "service", "all") }, "a.test.", 0, "1", ""},
		{"no host", func(s *scene) { s.up(0, "*") }, "", 400, "", ""},
		{"no host but a port", func(s *scene) { s.up(0, "*") }, ":80", 400, "", ""},
		{"an IPv6 address", func(s *scene) { s.up(0, "*") }, "[::1]:80", 0, "0", ""},
		{"a name that is too long", func(s *scene) { s.up(0, "*") }, strings.Repeat("a", 256), 400, "", ""},
		{"a semicolon", func(s *scene) { s.up(0, "*") }, "a;b", 400, "", ""},
		{"the proxy's own name", func(s *scene) { s.up(0, "*") }, "__ping__", 200, "", ""},
		{"the proxy's own name with a port", func(s *scene) { s.up(0, "*") }, "__ping__:80", 0, "0", ""},
		{"an entry that is no URL", func(s *scene) { s.say("RPUSH frontend:a.test id nonsense $1") }, a, 0, "1", "not a URL that a request can be sent to"},
		{"an entry without a scheme", func(s *scene) { s.say("RPUSH frontend:a.test id 127.0.0.1:80 $1") }, a, 0, "1", ""},
		{"another scheme", func(s *scene) { s.say("RPUSH frontend:a.test id https://127.0.0.1:443") }, a, 502, "", ""},
		{"a port that is too high", func(s *scene) { s.say("RPUSH frontend:a.test id http://127.0.0.1:99999") }, a, 502, "", ""},
		{"the usable one marked", func(s *scene) { s.say("RPUSH frontend:a.test id nonsense $1"); s.say("SADD dead:a.test 1") }, a, 502, "", ""},
		{"one in maintenance", func(s *scene) {
			s.up(0, a)
			s.up(1, a)
			s.override("i0", "maintenance", "true", "for", "10m")
		}, a, 0, "1", "in maintenance until "},
		{"the only one in maintenance", func(s *scene) { s.up(0, a); s.override("i0", "maintenance", "true", "for", "10m") }, a, 502, "", "in maintenance until "},
		{"a lower weight", func(s *scene) { s.up(0, a, "weight", "3"); s.override("i0", "weight", "1", "for", "10m") }, a, 0, "0", "its weight was lowered"},
		{"not checked yet", func(s *scene) { s.up(0, a, "health", "tcp") }, a, 400, "", ""},
		{"one sick", func(s *scene) { s.up(0, a); s.checked(1, a, "++--", "health", "tcp") }, a, 0, "0", "unhealthy (connection refused): marked"},
		{"the last one, sick", func(s *scene) { s.checked(0, a, "++--", "health", "tcp") }, a, 0, "0", "the last one stays"},
		{"the last one, sick and marked", func(s *scene) {
			s.checked(0, a, "++--", "health", "tcp")
			s.say("SADD dead:a.test 0")
		}, a, 502, "", "unhealthy (connection refused), and a proxy has marked it"},
		{"the last one, sick, that may not stay", func(s *scene) { s.checked(0, a, "++--", "health", "tcp", "fail_open", "false") }, a, 502, "", "unhealthy (connection refused): marked"},
		{"one sick under a wildcard", func(s *scene) { s.up(0, "*.test"); s.checked(1, "*.test", "++--", "health", "tcp") }, a, 0, "0", "unhealthy"},
		{"the last one, sick, under a wildcard", func(s *scene) { s.checked(0, "*.test", "++--", "health", "tcp") }, a, 0, "0", "the last one stays"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newScene(t)
			c.set(s)
			s.reads(t)
			e := decode[explained](t, s.get("/v1/explain?host="+url.QueryEscape(c.header), http.StatusOK).body)
			statuses, backends := s.visit(t, c.header)
			var want []string
			for n := range s.backends {
				if strings.Contains(c.asks, fmt.Sprint(n)) {
					want = append(want, s.backends[n])
				}
			}
			slices.Sort(want)
			var wantStatuses []int
			if c.status != 0 {
				wantStatuses = []int{c.status}
			}
			if e.Status != c.status || !slices.Equal(e.routed(), want) || e.Verdict == "" || !strings.Contains(e.why(), c.why) {
				t.Errorf("explain says %+v, want status %d, backends %v, because %q", e, c.status, want, c.why)
			}
			if !slices.Equal(statuses, wantStatuses) || !slices.Equal(backends, want) {
				t.Errorf("the edge answers %v by itself and asks %v, want %v and %v", statuses, backends, wantStatuses, want)
			}
			wins := 0
			for _, n := range e.LookedUp {
				if n.Wins {
					wins++
				}
			}
			if wins > 1 || (wins == 1) != (e.Frontend != nil) {
				t.Errorf("%d lists answer, frontend %+v", wins, e.Frontend)
			}
			s.agrees(t, e)
		})
	}
}

// reads waits until the process has read the last write.
func (s *scene) reads(t *testing.T) {
	t.Helper()
	newest, err := s.rdb.XRevRangeN(t.Context(), s.prefix+"events", "+", "-", 1).Result()
	if err != nil || len(newest) == 0 {
		return // no registration
	}
	harness.Await(t, "it reads its own writes", func() error {
		if s.replica.Revision().Compare(app.Revision(newest[0].ID)) < 0 {
			return fmt.Errorf("it stands on %s", s.replica.Revision())
		}
		return nil
	})
}

// agrees compares the answer with the list of all vhosts, for the same host.
func (s *scene) agrees(t *testing.T, e explained) {
	t.Helper()
	type vhosts struct {
		Frontends []struct {
			Host  string
			Slots []struct {
				URL, Why string
				Routed   bool
			}
		}
	}
	for _, f := range decode[vhosts](t, s.get("/v1/frontends", http.StatusOK).body).Frontends {
		if e.Frontend == nil || f.Host != e.Frontend.Host || strings.HasPrefix(f.Host, "*") {
			continue // marks of a wildcard are under the requested host
		}
		for n, slot := range f.Slots {
			if slot != e.Frontend.Slots[n] {
				t.Errorf("/v1/frontends has %+v, /v1/explain %+v", slot, e.Frontend.Slots[n])
			}
		}
	}
}
