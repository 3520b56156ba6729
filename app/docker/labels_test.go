package docker

import (
	"encoding/json"
	"errors"
	"maps"
	"net/netip"
	"strings"
	"testing"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"
)

// box returns a running container on one network.
func box(labels map[string]string, change func(c *container.InspectResponse)) container.InspectResponse {
	c := container.InspectResponse{
		ID: "0123456789abcdef", Name: "/web-1",
		State:      &container.State{Running: true, StartedAt: "2026-11-28T10:00:00Z"},
		HostConfig: &container.HostConfig{},
		Config:     &container.Config{Labels: labels, ExposedPorts: network.PortSet{network.MustParsePort("8080/tcp"): {}}},
		NetworkSettings: &container.NetworkSettings{Networks: map[string]*network.EndpointSettings{
			"shop_default": on("10.0.0.5"),
		}},
	}
	if change != nil {
		change(&c)
	}
	return c
}

func on(address string) *network.EndpointSettings {
	ip := netip.MustParseAddr(address)
	if ip.Is6() {
		return &network.EndpointSettings{GlobalIPv6Address: ip}
	}
	return &network.EndpointSettings{IPAddress: ip}
}

func publish(port, at, hostPort string) func(c *container.InspectResponse) {
	return func(c *container.InspectResponse) {
		c.NetworkSettings.Ports = network.PortMap{network.MustParsePort(port): {{HostIP: netip.MustParseAddr(at), HostPort: hostPort}}}
	}
}

func TestLabelsGiveOneAddressOrOneReason(t *testing.T) {
	t.Parallel()
	two := func(c *container.InspectResponse) { c.NetworkSettings.Networks["proxy"] = on("10.1.0.5") }
	compose := func(c *container.InspectResponse) {
		two(c)
		c.NetworkSettings.Networks["shop_proxy"] = c.NetworkSettings.Networks["proxy"]
		delete(c.NetworkSettings.Networks, "proxy")
		c.Config.Labels["com.docker.compose.project"] = "shop"
	}
	host := func(c *container.InspectResponse) { c.HostConfig.NetworkMode = "host" }
	for _, row := range []struct {
		name   string
		labels string // besides service
		change func(c *container.InspectResponse)
		place  Placement
		want   string // address or part of the error
	}{
		{name: "the only exposed TCP port", want: "10.0.0.5:8080"},
		{name: "a port label", labels: "port=9000", want: "10.0.0.5:9000"},
		{name: "no exposed port", change: func(c *container.InspectResponse) { c.Config.ExposedPorts = nil }, want: "exposes no TCP port"},
		{name: "UDP does not count", change: func(c *container.InspectResponse) {
			c.Config.ExposedPorts[network.MustParsePort("53/udp")] = struct{}{}
		}, want: "10.0.0.5:8080"},
		{name: "two exposed ports", change: func(c *container.InspectResponse) {
			c.Config.ExposedPorts[network.MustParsePort("9090/tcp")] = struct{}{}
		}, want: "the TCP ports 8080, 9090; choose one"},
		{name: "a wrong port", labels: "port=http", want: `port is "http"`},
		{name: "an address label", labels: "address=10.9.9.9", change: two, want: "10.9.9.9:8080"},
		{name: "an address label with its port", labels: "address=10.9.9.9:1", want: "10.9.9.9:1"},
		{name: "a network label", labels: "network=proxy", change: two, want: "10.1.0.5:8080"},
		{name: "the agent's network", change: two, place: Placement{Network: "proxy"}, want: "10.1.0.5:8080"},
		{name: "the label before the agent's network", labels: "network=shop_default", change: two, place: Placement{Network: "proxy"}, want: "10.0.0.5:8080"},
		{name: "several networks", change: two, want: "the networks proxy, shop_default; choose one"},
		{name: "a network without the prefix of compose", labels: "network=proxy", change: compose, want: "10.1.0.5:8080"},
		{name: "another network", labels: "network=dmz", want: `not on network "dmz", but on: shop_default`},
		{name: "the host's network", change: host, place: Placement{HostIP: "192.0.2.1"}, want: "192.0.2.1:8080"},
		{name: "the host's network without its address", change: host, want: "--host-ip ADDRESS"},
		{name: "IPv6 only", change: func(c *container.InspectResponse) { c.NetworkSettings.Networks["shop_default"] = on("fd00::5") }, want: "[fd00::5]:8080"},
		{name: "a published port", change: publish("8080/tcp", "192.0.2.7", "32768"), place: Placement{Published: true}, want: "192.0.2.7:32768"},
		{name: "published everywhere", change: publish("8080/tcp", "0.0.0.0", "32768"), place: Placement{Published: true, HostIP: "192.0.2.1"}, want: "192.0.2.1:32768"},
		{name: "published everywhere without the host's address", change: publish("8080/tcp", "0.0.0.0", "32768"), place: Placement{Published: true}, want: "--host-ip ADDRESS"},
		{name: "not published", place: Placement{Published: true, HostIP: "192.0.2.1"}, want: "8080 is not published"},
		{name: "an unknown label", labels: "colour=web", want: "label rollcall.colour is unknown"},
		{name: "reserved metadata", labels: "meta.docker_node=other", want: "is reserved"},
		{name: "docker without a HEALTHCHECK", labels: "health=docker", want: "no HEALTHCHECK"},
	} {
		t.Run(row.name, func(t *testing.T) {
			t.Parallel()
			labels := map[string]string{"rollcall.service": "web"}
			if name, value, given := strings.Cut(row.labels, "="); given {
				labels["rollcall."+name] = value
			}
			row.place.Prefix = "rollcall"
			c := box(labels, row.change)
			entries, err := row.place.Entries(c, c)
			if err != nil {
				if !strings.Contains(err.Error(), row.want) {
					t.Errorf("the error is %q, want a part %q", err, row.want)
				}
				return
			}
			if len(entries) != 1 || entries[0]["address"] != row.want {
				t.Errorf("got %v, want the address %s", entries, row.want)
			}
		})
	}
}

func TestEveryFieldOfARegistrationIsALabel(t *testing.T) {
	t.Parallel()
	if !fields["service"] || !fields["fail_open"] {
		t.Fatalf("the fields are %v", fields)
	}
	for field := range fields {
		if field == "meta" {
			field = "meta.team"
		}
		if err := (Placement{Prefix: "rollcall"}).known("rollcall."+field, field); err != nil {
			t.Error(err)
		}
	}
}

func TestAnEntryCarriesLabelsStartAndNode(t *testing.T) {
	t.Parallel()
	place := Placement{Prefix: "rollcall", Node: "n1"}
	c := box(map[string]string{
		"rollcall.service": "web", "rollcall.host": "a.example, b.example", "rollcall.expect": "200,204", "rollcall.health": "docker",
		"rollcall.meta.team": "shop",
	}, func(c *container.InspectResponse) { c.State.Health = &container.Health{Status: container.Starting} })
	entries, err := place.Entries(c, c)
	if err != nil {
		t.Fatal(err)
	}
	got, _ := json.Marshal(entries[0])
	want := `{"address":"10.0.0.5:8080","boot":"2026-11-28T10:00:00Z","expect":"200,204","health":"heartbeat","host":["a.example","b.example"],` +
		`"id":"0123456789ab","meta":{"docker_container":"0123456789abcdef","docker_name":"web-1","docker_node":"n1","team":"shop"},"service":"web"}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestALineOfALabelIsAHeaderWhoseValueIsNotShown(t *testing.T) {
	t.Parallel()
	c := box(map[string]string{"rollcall.service": "web", "rollcall.health_header": "Authorization: Bearer a,b\nX-Token: c\n"}, func(*container.InspectResponse) {})
	entries, err := Placement{Prefix: "rollcall"}.Entries(c, c)
	if err != nil {
		t.Fatal(err)
	}
	for want, entry := range map[string]Entry{
		`"health_header":["Authorization: Bearer a,b","X-Token: c"]`: entries[0],
		`"health_header":["Authorization: ***","X-Token: ***"]`:      entries[0].Shown(),
	} {
		if got, _ := json.Marshal(entry); !strings.Contains(string(got), want) {
			t.Errorf("got %s, want %s in it", got, want)
		}
	}
}

func TestPlainLabelsAreDefaultsOfPorts(t *testing.T) {
	t.Parallel()
	place := Placement{Prefix: "rollcall"}
	c := box(map[string]string{"rollcall.tag": "blue", "rollcall.80.service": "web", "rollcall.81.service": "admin", "rollcall.81.tag": "red"}, nil)
	entries, err := place.Entries(c, c)
	if err != nil || len(entries) != 2 {
		t.Fatalf("got %v, %v", entries, err)
	}
	got, _ := json.Marshal([]any{entries[0]["address"], entries[0]["tag"], entries[0]["id"], entries[1]["service"], entries[1]["tag"], entries[1]["id"]})
	if want := `["10.0.0.5:80",["blue"],"0123456789ab-80","admin",["red"],"0123456789ab-81"]`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestAContainerUsesTheAddressOfItsNetworksOwner(t *testing.T) {
	t.Parallel()
	c := box(map[string]string{"rollcall.service": "web"}, func(c *container.InspectResponse) { c.NetworkSettings.Networks = nil })
	owner := box(nil, func(c *container.InspectResponse) {
		c.NetworkSettings.Networks = map[string]*network.EndpointSettings{"net": on("10.7.0.1")}
	})
	entries, err := Placement{Prefix: "rollcall"}.Entries(c, owner)
	if err != nil || entries[0]["address"] != "10.7.0.1:8080" {
		t.Errorf("got %v, %v", entries, err)
	}
	if _, err = (Placement{Prefix: "rollcall"}).Entries(c, c); !errors.Is(err, errNoAddress) {
		t.Errorf("without a network the error is %v", err)
	}
}

func TestOneOffContainersAndOtherPrefixesDoNotRegister(t *testing.T) {
	t.Parallel()
	labels := map[string]string{"rollcall.service": "web"}
	oneOff := maps.Clone(labels)
	oneOff["com.docker.compose.oneoff"] = "True"
	if p := (Placement{Prefix: "rollcall"}); !p.labelled(labels) || p.labelled(oneOff) || p.labelled(nil) {
		t.Error("labelled containers are wrong")
	}
	if (Placement{Prefix: "shop"}).labelled(labels) {
		t.Error("another prefix registers")
	}
}

func TestOnlyTheStopSignalDrains(t *testing.T) {
	t.Parallel()
	for _, row := range []struct {
		sent, configured string
		want             bool
	}{
		{"15", "", true}, {"1", "", false}, {"9", "", false}, {"3", "SIGQUIT", true}, {"15", "SIGQUIT", false}, {"", "", false}, {"37", "SIGRTMIN+3", true},
	} {
		if got := isStopSignal(row.sent, row.configured); got != row.want {
			t.Errorf("signal %s, configured %q: %v", row.sent, row.configured, got)
		}
	}
}
