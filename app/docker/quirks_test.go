package docker

import (
	"bytes"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/events"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"rollcall/tests/harness"
)

const never = time.Hour

func TestASilentEngineIsListedAgain(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	s.silent = true
	s.start("a", nil)
	watchAt(t, pace{reconcile: 50 * time.Millisecond, poll: never, idle: never}, s, r, t.Output())
	harness.Await(t, "a is registered", r.has("a"))
	s.start("b", nil)
	harness.Await(t, "b is registered without an event", r.has("a", "b"))
	s.change("a", "", func(c *container.InspectResponse) { c.State.Running = false })
	harness.Await(t, "a is removed without an event", r.has("b"))
	s.Lock()
	defer s.Unlock()
	if s.opened != 1 {
		t.Errorf("the agent opened %d event streams, want 1", s.opened)
	}
}

func TestASilentEventStreamIsOpenedAgain(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	s.silent = true
	s.start("a", nil)
	watchAt(t, pace{reconcile: never, poll: never, idle: 300 * time.Millisecond}, s, r, t.Output())
	harness.Await(t, "a is registered", r.has("a"))
	s.start("b", nil)
	harness.Await(t, "another stream is open, and b is registered", func() bool {
		s.Lock()
		defer s.Unlock()
		return s.opened > 1 && r.has("a", "b")()
	})
	harness.Await(t, "the silent stream is closed", func() bool {
		s.Lock()
		defer s.Unlock()
		return len(s.streams) == 1
	})
}

func TestARenamedContainerKeepsItsID(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	watch(t, s, r)
	s.start("a", nil)
	name := func() string {
		r.Lock()
		defer r.Unlock()
		meta, _ := r.instances["a"]["meta"].(map[string]any)
		name, _ := meta[metaName].(string)
		return name
	}
	harness.Await(t, "a has its first name", func() bool { return name() == "web-1" })
	s.change("a", events.ActionRename, func(c *container.InspectResponse) { c.Name = "/web-blue" }, "oldName", "/web-1")
	harness.Await(t, "the metadata has the new name", func() bool { return name() == "web-blue" })
	if !r.has("a")() || r.called("remove")() || r.called("drain")() {
		t.Error("the rename has removed or drained an instance, or added one")
	}
}

func TestTheOwnerOfTheNetworkIsInspected(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	vpn := box(nil, func(c *container.InspectResponse) {
		c.ID = "vpn"
		c.NetworkSettings.Networks = map[string]*network.EndpointSettings{"net": on("10.7.0.1")}
	})
	s.boxes["vpn"] = &vpn
	joins := func(owner string) func(c *container.InspectResponse) {
		return func(c *container.InspectResponse) {
			c.Name = "/joins-" + owner
			c.HostConfig.NetworkMode, c.NetworkSettings.Networks = container.NetworkMode("container:"+owner), nil
		}
	}
	s.start("a", joins("vpn"))
	s.start("b", joins("gone"))
	watch(t, s, r)
	harness.Await(t, "a is registered, and b is refused", func() bool {
		return r.has("a")() && r.called("report n1 ")()
	})
	r.Lock()
	defer r.Unlock()
	if got := r.instances["a"]["address"]; got != "10.7.0.1:8080" {
		t.Errorf("the address is %v, want that of vpn", got)
	}
	if want := `"joins-gone":"the network belongs to container gone, which does not exist; recreate this container"`; !strings.Contains(r.calls[0], want) {
		t.Errorf("the report is %s, want %s", r.calls[0], want)
	}
}

// page is a log that a test reads.
type page struct {
	sync.Mutex
	text bytes.Buffer
}

func (p *page) Write(line []byte) (int, error) {
	p.Lock()
	defer p.Unlock()
	return p.text.Write(line)
}

func (p *page) has(text string) func() bool {
	return func() bool {
		p.Lock()
		defer p.Unlock()
		return strings.Contains(p.text.String(), text)
	}
}

func TestARefusalOfTheSocketProxyNamesTheMissingParts(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		denied, want string // parts
	}{
		{"events", "permit events\""},
		{"containers", "permit containers\""},
		{"events containers", "permit events, containers\""},
		{"ping events containers", "permit ping, events, containers\""},
		{"ping", "permit ping\""}, // the engine refuses the newest version
	} {
		t.Run(row.denied, func(t *testing.T) {
			t.Parallel()
			s, r, log := simulate(t), newRollcall(), &page{}
			for part := range strings.FieldsSeq(row.denied) {
				s.denied[part] = true
			}
			s.start("a", nil)
			watchAt(t, usual, s, r, log)
			harness.Await(t, "the log has: "+row.want, log.has(row.want))
			s.Lock()
			clear(s.denied)
			s.Unlock()
			harness.Await(t, "a is registered once the proxy permits all", r.has("a"))
		})
	}
}

func TestARefusedInspectionChangesNothing(t *testing.T) {
	t.Parallel()
	s, r, log := simulate(t), newRollcall(), &page{}
	s.boxes["vpn"] = new(box(nil, func(c *container.InspectResponse) { c.ID = "vpn" }))
	s.start("a", func(c *container.InspectResponse) { c.HostConfig.NetworkMode = "container:vpn" })
	watchAt(t, usual, s, r, log)
	harness.Await(t, "a is registered", r.has("a"))
	s.Lock()
	s.denied["containers/vpn"] = true
	s.Unlock()
	s.change("a", events.ActionRename, nil)
	harness.Await(t, "the refusal is one of the engine", log.has(`msg="containers not read; registrations stay" err="inspect container vpn`))
	if log.has("container not registered")() {
		t.Error("a is refused because of an error of the engine")
	}
}

func TestTheVersionOfTheAPIIsNegotiated(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		name                 string
		oldest, newest, want int
	}{
		{"an engine that refuses clients below 1.44", 44, 52, 52},
		{"an old engine", 12, 41, 41},
		{"an engine newer than the client", 44, 99, 57},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			s, r := simulate(t), newRollcall()
			s.oldest, s.newest = row.oldest, row.newest
			s.start("a", nil)
			watch(t, s, r)
			harness.Await(t, "a is registered", r.has("a"))
			s.Lock()
			defer s.Unlock()
			if len(s.asked) != 1 || !s.asked[row.want] && row.newest < 99 {
				t.Errorf("the agent spoke the versions %v, want %d", s.asked, row.want)
			}
		})
	}
	s, r, log := simulate(t), newRollcall(), &page{}
	s.oldest, s.newest = 12, 30
	watchAt(t, usual, s, r, log)
	harness.Await(t, "the log names both versions and the remedy of an engine that is too old",
		log.has("API version 1.30 is not supported by this client: the minimum supported API version is "+client.MinAPIVersion+"; update the engine"))
}

// Podman gives a network's name as its id, and may send no events about health.
func TestPodmanIsPolledForHealth(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	podman := func(h container.HealthStatus) func(c *container.InspectResponse) {
		return func(c *container.InspectResponse) {
			c.State.Health = &container.Health{Status: h}
			c.NetworkSettings.Networks = map[string]*network.EndpointSettings{"podman": on("10.88.0.2"), "proxy": on("10.89.0.2")}
			for name, endpoint := range c.NetworkSettings.Networks {
				endpoint.NetworkID = name
			}
		}
	}
	watchAt(t, pace{reconcile: never, poll: 50 * time.Millisecond, idle: never}, s, r, t.Output())
	s.start("a", podman(container.Starting), "health", "docker", "network", "proxy")
	harness.Await(t, "a is registered with its address on network proxy", func() bool {
		r.Lock()
		defer r.Unlock()
		return r.instances["a"]["address"] == "10.89.0.2:8080"
	})
	s.change("a", "", podman(container.Healthy))
	harness.Await(t, "a passes without an event", r.called(`report a {"status":"pass"`))
	s.change("a", "health_status", podman(container.Unhealthy))
	harness.Await(t, "a fails, after an event without the status", r.called(`report a {"status":"fail"`))
	r.Lock()
	r.calls = nil
	r.Unlock()
	s.change("a", "", podman(container.Healthy))
	harness.Await(t, "the engine is polled still", r.called(`report a {"status":"pass"`))
}

func TestAContainerBeyondTheScopesOfTheTokenIsRefusedAlone(t *testing.T) {
	t.Parallel()
	s, r := simulate(t), newRollcall()
	named := func(name string) func(c *container.InspectResponse) {
		return func(c *container.InspectResponse) { c.Name = "/" + name }
	}
	s.start("a", named("a"), "host", "own.example")
	s.start("b", named("b"), "host", "own.example,foreign.example")
	s.start("c", named("c"), "service", "foreign")
	watch(t, s, r)
	harness.Await(t, "the report names the labels of b and c", func() bool {
		r.Lock()
		defer r.Unlock()
		last := strings.Join(r.calls, "\n")
		return strings.Contains(last, `"b":"label rollcall.host: `) && strings.Contains(last, `"c":"label rollcall.service: `)
	})
	harness.Await(t, "a is registered beside them", r.has("a"))
}
