package docker

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	api "rollcall/app/client"
	"rollcall/tests/harness"
)

// simulated is a Docker engine on a unix socket, with containers in memory.
type simulated struct {
	sync.Mutex
	boxes   map[string]*container.InspectResponse
	streams map[chan events.Message]bool
	opened  int             // event streams
	down    bool            // lists no containers
	silent  bool            // sends no events
	denied  map[string]bool // parts of the API that a socket proxy refuses
	oldest  int             // versions 1.x of the API
	newest  int
	asked   map[int]bool // versions of the calls
	server  *httptest.Server
	socket  string
}

func simulate(t *testing.T) *simulated {
	t.Helper()
	s := &simulated{
		boxes: map[string]*container.InspectResponse{}, streams: map[chan events.Message]bool{}, denied: map[string]bool{}, oldest: 24, newest: 51,
		asked: map[int]bool{},
	}
	s.socket = filepath.Join(t.TempDir(), "s")
	l, err := (&net.ListenConfig{}).Listen(t.Context(), "unix", s.socket)
	if err != nil {
		t.Fatal(err)
	}
	s.server = httptest.NewUnstartedServer(s)
	s.server.Listener = l
	s.server.Start()
	t.Cleanup(s.server.Close)
	return s
}

func (s *simulated) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if s.refuses(w, r) {
		return
	}
	switch at := r.URL.Path; {
	case strings.HasSuffix(at, "/_ping"):
	case strings.HasSuffix(at, "/events"):
		s.stream(w, r)
	case strings.HasSuffix(at, "/containers/json"):
		s.list(w)
	default:
		s.Lock()
		defer s.Unlock()
		if c := s.boxes[path.Base(path.Dir(at))]; c != nil {
			_ = json.NewEncoder(w).Encode(c)
			return
		}
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, `{"message":"No such container"}`)
	}
}

// refuses answers a call that a socket proxy denies, or whose version of the API the engine does not speak.
func (s *simulated) refuses(w http.ResponseWriter, r *http.Request) bool {
	s.Lock()
	defer s.Unlock()
	w.Header().Set("Content-Type", "application/json")
	for part := range s.denied {
		if strings.Contains(r.URL.Path, "/_"+part) || strings.Contains(r.URL.Path, "/"+part) {
			w.WriteHeader(http.StatusForbidden)
			return true
		}
	}
	w.Header().Set("Api-Version", fmt.Sprintf("1.%d", s.newest))
	var version int
	if n, _ := fmt.Sscanf(r.URL.Path, "/v1.%d/", &version); n == 0 {
		return false
	}
	s.asked[version] = true
	if version >= s.oldest && version <= s.newest {
		return false
	}
	w.WriteHeader(http.StatusBadRequest)
	_, _ = fmt.Fprintf(w, `{"message":"client version 1.%d is not supported, only 1.%d to 1.%d"}`, version, s.oldest, s.newest)
	return true
}

func (s *simulated) list(w http.ResponseWriter) {
	s.Lock()
	defer s.Unlock()
	if s.down {
		w.WriteHeader(http.StatusInternalServerError)
		return
	}
	list := []container.Summary{}
	for id, c := range s.boxes {
		if c.State.Running {
			list = append(list, container.Summary{ID: id, Labels: c.Config.Labels})
		}
	}
	_ = json.NewEncoder(w).Encode(list)
}

func (s *simulated) stream(w http.ResponseWriter, r *http.Request) {
	var filters map[string]map[string]bool
	_ = json.Unmarshal([]byte(r.URL.Query().Get("filters")), &filters)
	mine := make(chan events.Message, 100)
	s.Lock()
	s.streams[mine] = true
	s.opened++
	s.Unlock()
	_ = http.NewResponseController(w).Flush()
	for {
		select {
		case e, open := <-mine:
			if !open {
				return
			}
			if kind, _, _ := strings.Cut(string(e.Action), ":"); filters["event"][kind] && filters["type"][string(e.Type)] {
				_ = json.NewEncoder(w).Encode(e)
			}
			_ = http.NewResponseController(w).Flush()
		case <-r.Context().Done():
			s.Lock()
			delete(s.streams, mine)
			s.Unlock()
			return
		}
	}
}

// change changes a container, and emits an event unless the action is empty.
func (s *simulated) change(id string, action events.Action, change func(c *container.InspectResponse), attributes ...string) {
	s.Lock()
	defer s.Unlock()
	c := s.boxes[id]
	if change != nil {
		change(c)
	}
	e := events.Message{Type: events.ContainerEventType, Action: action, Actor: events.Actor{ID: id, Attributes: maps.Clone(c.Config.Labels)}}
	if action == events.ActionConnect {
		e.Type, e.Actor.ID = events.NetworkEventType, "net"
		e.Actor.Attributes["container"] = id
	}
	for n := 0; n < len(attributes); n += 2 {
		e.Actor.Attributes[attributes[n]] = attributes[n+1]
	}
	for stream := range s.streams {
		if action != "" && !s.silent {
			stream <- e
		}
	}
}

// disconnect ends the event streams. While down, the engine lists no containers.
func (s *simulated) disconnect(down bool) {
	s.Lock()
	defer s.Unlock()
	s.down = down
	for stream := range s.streams {
		close(stream)
	}
	clear(s.streams)
}

// start adds a running container, with its event.
func (s *simulated) start(id string, change func(c *container.InspectResponse), labels ...string) {
	all := map[string]string{"rollcall.service": "web"}
	for n := 0; n < len(labels); n += 2 {
		all["rollcall."+labels[n]] = labels[n+1]
	}
	c := box(all, change)
	c.ID = id
	s.Lock()
	s.boxes[id] = &c
	s.Unlock()
	s.change(id, events.ActionStart, nil)
}

// rollcall answers the calls of the agent, from memory.
type rollcall struct {
	sync.Mutex
	instances map[string]map[string]any
	calls     []string                         // that end or report
	hang      func(*http.Request, string) bool // calls, with their bodies, that get no answer
	hanging   int
	fail      map[string]int // method → number of calls that get status 503
}

// hung reports whether a call hangs.
func (r *rollcall) hung() bool {
	r.Lock()
	defer r.Unlock()
	return r.hanging > 0
}

func newRollcall() *rollcall {
	return &rollcall{instances: map[string]map[string]any{}, fail: map[string]int{}}
}

// refuses hangs until the call ends, or answers with 503, if the test wants that.
func (r *rollcall) refuses(w http.ResponseWriter, req *http.Request) bool {
	body, _ := io.ReadAll(req.Body)
	req.Body = io.NopCloser(bytes.NewReader(body))
	r.Lock()
	hangs, fails := r.hang != nil && r.hang(req, string(body)), r.fail[req.Method] > 0
	if hangs {
		r.hanging++
	} else if fails {
		r.fail[req.Method]--
	}
	r.Unlock()
	if hangs {
		<-req.Context().Done()
	} else if fails {
		w.WriteHeader(http.StatusServiceUnavailable)
	}
	return hangs || fails
}

func (r *rollcall) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	if r.refuses(w, req) {
		return
	}
	r.Lock()
	defer r.Unlock()
	w.Header().Set("Content-Type", "application/json")
	id := path.Base(strings.TrimSuffix(strings.TrimSuffix(req.URL.Path, "/drain"), "/heartbeat"))
	switch {
	case req.URL.Path == "/v1/register":
		r.register(w, req)
	case req.URL.Path == "/v1/services":
		_, _ = io.WriteString(w, `{"revision":"1","services":[{"name":"web"}]}`)
	case strings.HasPrefix(req.URL.Path, "/v1/services/"):
		_ = json.NewEncoder(w).Encode(map[string]any{"instances": slices.Collect(maps.Values(r.instances))})
	case req.Method == http.MethodDelete:
		if i := r.instances[id]; i != nil && i["boot"] != req.URL.Query().Get("boot") {
			w.WriteHeader(http.StatusConflict)
			return
		}
		delete(r.instances, id)
		r.calls = append(r.calls, "remove "+id)
		w.WriteHeader(http.StatusNoContent)
	case strings.HasSuffix(req.URL.Path, "/drain"):
		r.calls = append(r.calls, "drain "+id)
		_, _ = io.WriteString(w, "{}")
	default:
		body, _ := io.ReadAll(req.Body)
		r.calls = append(r.calls, "report "+id+" "+string(body))
		w.WriteHeader(http.StatusNoContent)
	}
}

// beyond returns the field of a registration that the agent's scopes do not permit.
func beyond(registration map[string]any) string {
	hosts, _ := registration["host"].([]any)
	switch {
	case registration["service"] == "foreign":
		return "service"
	case slices.Contains(hosts, any("foreign.example")):
		return "host"
	}
	return ""
}

func (r *rollcall) register(w http.ResponseWriter, req *http.Request) {
	var entries []map[string]any
	_ = json.NewDecoder(req.Body).Decode(&entries)
	verdicts := []map[string]any{}
	for _, e := range entries {
		if field := beyond(e); field != "" {
			verdicts = append(verdicts, map[string]any{"status": 403, "problem": map[string]any{"status": 403, "title": "Forbidden", "type": "t", "field": field}})
			continue
		}
		if e["weight"] == "heavy" {
			verdicts = append(verdicts, map[string]any{"status": 422, "problem": map[string]any{"status": 422, "title": "weight is heavy", "type": "t", "field": "weight"}})
			continue
		}
		r.instances[fmt.Sprint(e["id"])] = e
		verdicts = append(verdicts, map[string]any{"status": 201})
	}
	w.WriteHeader(http.StatusMultiStatus)
	_ = json.NewEncoder(w).Encode(verdicts)
}

func (r *rollcall) has(ids ...string) func() bool {
	return func() bool {
		r.Lock()
		defer r.Unlock()
		return slices.Equal(slices.Sorted(maps.Keys(r.instances)), ids)
	}
}

func (r *rollcall) called(call string) func() bool {
	return func() bool {
		r.Lock()
		defer r.Unlock()
		return slices.ContainsFunc(r.calls, func(c string) bool { return strings.HasPrefix(c, call) })
	}
}

// watch runs an agent of node n1 until its cancel function is called, or the test ends.
func watch(t *testing.T, s *simulated, r *rollcall) (stop func()) {
	t.Helper()
	return watchAt(t, usual, s, r, t.Output())
}

// watchAt is watch with another pace, and with a log.
func watchAt(t *testing.T, p pace, s *simulated, r *rollcall, log io.Writer) (stop func()) {
	t.Helper()
	server := httptest.NewServer(r)
	engine, err := client.New(client.WithHost("unix://" + s.socket))
	if err != nil {
		t.Fatal(err)
	}
	calls, err := api.New(server.URL, "", api.Options{Once: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	a := &Agent{Placement: Placement{Prefix: "rollcall", Node: "n1"}, Engine: engine, API: calls, Log: slog.New(slog.NewTextHandler(log, nil))}
	a.pace = p
	var running sync.WaitGroup
	running.Go(func() { _ = a.Run(ctx) })
	stop = sync.OnceFunc(func() {
		cancel()
		running.Wait()
		_ = engine.Close()
		server.Close()
	})
	t.Cleanup(stop)
	return stop
}

func TestAgentFollowsTheLifeOfContainers(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	s.start("a", nil)
	s.start("bad", nil, "weight", "heavy")
	s.start("odd", nil, "colour", "blue")
	watch(t, s, r)
	harness.Await(t, "the container that runs is registered, beside two refused ones", r.has("a"))

	s.start("b", nil)
	harness.Await(t, "a started container is registered", r.has("a", "b"))
	s.change("b", events.ActionPause, func(c *container.InspectResponse) { c.State.Paused = true })
	harness.Await(t, "a paused container is out", r.has("a"))
	s.change("b", events.ActionUnPause, func(c *container.InspectResponse) { c.State.Paused = false })
	harness.Await(t, "it is back", r.has("a", "b"))

	s.change("a", events.ActionKill, nil, "signal", "1")
	s.change("b", events.ActionKill, nil, "signal", "15")
	harness.Await(t, "a stopping container is drained", r.called("drain b"))
	if r.called("drain a")() {
		t.Error("SIGHUP drained an instance")
	}
	s.change("b", events.ActionDie, func(c *container.InspectResponse) { c.State.Running = false })
	harness.Await(t, "a dead container is removed", r.has("a"))
	s.change("b", events.ActionStart, func(c *container.InspectResponse) { c.State.Running, c.State.StartedAt = true, "later" })
	harness.Await(t, "its next start is registered", r.has("a", "b"))
}

func TestAgentLooksAgainForAnAddress(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	watch(t, s, r)
	s.start("late", func(c *container.InspectResponse) { c.NetworkSettings.Networks = nil })
	s.start("later", func(c *container.InspectResponse) { c.NetworkSettings.Networks = nil })
	networks := func(c *container.InspectResponse) {
		c.NetworkSettings.Networks = map[string]*network.EndpointSettings{"net": on("10.0.0.9")}
	}
	s.change("late", "", networks)
	s.change("later", events.ActionConnect, networks)
	harness.Await(t, "both have an address and are registered", r.has("late", "later"))
}

func TestAgentReportsDockersHealth(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	watch(t, s, r)
	health := func(h container.HealthStatus) func(c *container.InspectResponse) {
		return func(c *container.InspectResponse) { c.State.Health = &container.Health{Status: h} }
	}
	s.start("a", health(container.Starting), "health", "docker")
	harness.Await(t, "it is registered at once", r.has("a"))
	s.change("a", "health_status: healthy", health(container.Healthy))
	harness.Await(t, "it passes", r.called(`report a {"status":"pass"`))
	s.change("a", "health_status: unhealthy", health(container.Unhealthy))
	harness.Await(t, "it fails", r.called(`report a {"status":"fail"`))
}

func TestAgentRemovesOnlyInstancesOfItsNode(t *testing.T) {
	t.Parallel()
	instance := func(id, node string) map[string]any {
		return map[string]any{"id": id, "boot": "b", "meta": map[string]any{metaNode: node, metaContainer: id}}
	}
	s, r := simulate(t), newRollcall()
	r.instances = map[string]map[string]any{
		"other": instance("other", "n2"), "former": instance("former", "n1"), "own": {"id": "own", "boot": "b"},
	}
	s.start("a", nil)
	stop := watch(t, s, r)
	harness.Await(t, "the former instance is removed, and no other", r.has("a", "other", "own"))
	stop()

	s.Lock()
	delete(s.boxes, "a")
	s.Unlock()
	s.start("b", nil)
	watch(t, s, r)
	harness.Await(t, "a restarted agent corrects the changes that it missed", r.has("b", "other", "own"))
}

func TestEngineAwayChangesNothing(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	s.start("a", nil)
	s.start("b", nil)
	watch(t, s, r)
	harness.Await(t, "both are registered", r.has("a", "b"))
	s.disconnect(true)
	s.change("a", "", func(c *container.InspectResponse) { c.State.Running = false })
	s.start("c", nil)
	harness.Await(t, "the agent connects again", func() bool {
		s.Lock()
		defer s.Unlock()
		return len(s.streams) > 0
	})
	if !r.has("a", "b")() {
		t.Error("registrations changed while the engine listed no containers")
	}
	s.disconnect(false)
	harness.Await(t, "the changes of the meantime are seen", r.has("b", "c"))
}

func TestAgentListsTwoThousandContainers(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	for n := range 2000 {
		s.start(fmt.Sprintf("c%04d", n), nil)
	}
	began := time.Now()
	watch(t, s, r)
	harness.Await(t, "all are registered", func() bool {
		r.Lock()
		defer r.Unlock()
		return len(r.instances) == 2000
	})
	t.Logf("2,000 containers after %s", time.Since(began).Round(time.Millisecond))
}

func TestASlowRollcallDelaysNoOtherContainer(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	watch(t, s, r)
	s.start("a", nil)
	s.start("b", nil)
	harness.Await(t, "both are registered", r.has("a", "b"))
	r.Lock()
	r.hang = func(req *http.Request, body string) bool {
		return req.Method == http.MethodPost && (strings.Contains(body, `"c"`) || strings.HasSuffix(req.URL.Path, "/a/drain"))
	}
	r.Unlock()
	s.start("c", nil)
	harness.Await(t, "the registration of c hangs", r.hung)
	s.change("a", events.ActionKill, nil, "signal", "15")
	s.change("b", events.ActionKill, nil, "signal", "15")
	harness.Await(t, "b is drained while the registration of c and the drain of a hang", r.called("drain b"))
	stopped := func(c *container.InspectResponse) { c.State.Running = false }
	s.change("a", events.ActionDie, stopped)
	s.change("b", events.ActionDie, stopped)
	harness.Await(t, "a and b are removed meanwhile", r.has())
	s.start("d", nil)
	harness.Await(t, "another container is registered meanwhile", r.has("d"))
}

func TestFailedCallsAreRepeated(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	r.fail[http.MethodPost] = 3
	s.start("a", nil)
	watch(t, s, r)
	harness.Await(t, "a is registered after three failures", r.has("a"))

	r.Lock()
	r.fail[http.MethodPost], r.fail[http.MethodDelete] = 1, 3
	r.Unlock()
	s.change("a", events.ActionKill, nil, "signal", "15")
	harness.Await(t, "a is drained after a failure", r.called("drain a"))
	s.change("a", events.ActionDie, func(c *container.InspectResponse) { c.State.Running = false })
	harness.Await(t, "a is removed after three failures", r.has())
}

func TestTheLastStateOfAContainerReachesRollcallAfterAnOutage(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	watch(t, s, r)
	s.start("a", nil)
	s.start("b", nil)
	harness.Await(t, "both are registered", r.has("a", "b"))
	r.Lock()
	r.fail[http.MethodPost], r.fail[http.MethodDelete] = 1000, 1000
	r.Unlock()
	for n := range 20 {
		s.change("a", events.ActionDie, func(c *container.InspectResponse) { c.State.Running = false })
		s.change("a", events.ActionStart, func(c *container.InspectResponse) {
			c.State.Running, c.State.StartedAt = true, fmt.Sprintf("start %d", n)
		})
	}
	s.change("b", events.ActionKill, nil, "signal", "15")
	s.change("b", events.ActionDie, func(c *container.InspectResponse) { c.State.Running = false })
	failed := func() int {
		r.Lock()
		defer r.Unlock()
		return 2000 - r.fail[http.MethodPost] - r.fail[http.MethodDelete]
	}
	harness.Await(t, "calls for both have failed", func() bool { return failed() > 1 })
	made := failed()
	r.Lock()
	clear(r.fail)
	r.Unlock()
	harness.Await(t, "the last start is registered, and the stopped container is gone", func() bool {
		r.Lock()
		defer r.Unlock()
		return len(r.instances) == 1 && r.instances["a"]["boot"] == "start 19"
	})
	if made > 20 {
		t.Errorf("%d calls during the outage", made)
	}
}

func TestARefusedContainerIsReportedOnce(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	named := func(name string) func(c *container.InspectResponse) {
		return func(c *container.InspectResponse) { c.Name = "/" + name }
	}
	s.start("a", named("shop-web-1"), "colour", "blue")
	watch(t, s, r)
	harness.Await(t, "the first report has the label at fault and the remedy", r.called(`report n1 {"age":"`))
	if !r.called(`report n1 {"age":"0s","containers":1,"refused":{"shop-web-1":"label rollcall.colour is unknown; use rollcall.FIELD or `)() {
		t.Errorf("the report is %q", r.calls)
	}
	for n := range 30 {
		s.change("a", events.ActionDie, func(c *container.InspectResponse) { c.State.Running = false })
		s.change("a", events.ActionStart, func(c *container.InspectResponse) {
			c.State.Running, c.State.StartedAt = true, fmt.Sprint("start ", n)
		})
	}
	s.start("b", named("shop-db-1"), "weight", "heavy")
	harness.Await(t, "a later refusal is reported, with the label of Rollcall's answer", func() bool {
		r.Lock()
		defer r.Unlock()
		return slices.ContainsFunc(r.calls, func(c string) bool { return strings.Contains(c, `"shop-db-1":"label rollcall.weight: weight is heavy`) })
	})
	r.Lock()
	defer r.Unlock()
	if reports := slices.DeleteFunc(slices.Clone(r.calls), func(c string) bool { return !strings.HasPrefix(c, "report n1") }); len(reports) != 2 {
		t.Errorf("the restart loop made reports: %q", reports)
	}
}
