// Package docker registers the labelled containers of a Docker engine.
package docker

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"reflect"
	"slices"
	"strconv"
	"strings"

	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/api/types/network"

	"rollcall/app/client"
)

// Placement says where the registered address of a container comes from.
type Placement struct {
	Prefix    string // of the labels
	Node      string // name of the engine; it marks the instances of an agent
	HostIP    string // address of the engine's host; empty: unknown
	Network   string // network of the containers' own addresses; empty: the only one
	Published bool   // register published ports of the host
}

// Entry is one registration, with the fields and values of the API.
type Entry map[string]any

// dockerHealth is the health of an instance whose check is Docker's HEALTHCHECK. The API gets heartbeats.
const dockerHealth = "docker"

// MarshalJSON returns the entry as the API reads it.
func (e Entry) MarshalJSON() ([]byte, error) {
	sent := maps.Clone(map[string]any(e))
	if sent["health"] == dockerHealth {
		sent["health"] = "heartbeat"
	}
	return json.Marshal(sent)
}

// ID returns the id of the instance.
func (e Entry) ID() string { return fmt.Sprint(e["id"]) }

// Shown returns the entry without the values of its headers, which are secret.
func (e Entry) Shown() Entry {
	shown := maps.Clone(map[string]any(e))
	if lines, given := shown["health_header"].([]string); given {
		names := make([]string, len(lines))
		for n, line := range lines {
			name, _, _ := strings.Cut(line, ":")
			names[n] = name + ": ***"
		}
		shown["health_header"] = names
	}
	return shown
}

func (e Entry) boot() string { return fmt.Sprint(e["boot"]) }

// name returns the name of the container.
func (e Entry) name() string {
	meta, _ := e["meta"].(map[string]string)
	return meta[metaName]
}

// Metadata that marks the instances of an agent.
const (
	metaNode      = "docker_node"
	metaContainer = "docker_container"
	metaName      = "docker_name"
)

const shortID = 12 // characters of a container's id, as docker ps prints it

// errNoAddress says that a container has no address yet.
var errNoAddress = errors.New("no address yet")

// fieldNames returns the fields of a registration, from the description of the API.
func fieldNames() map[string]bool {
	names := map[string]bool{}
	for field := range reflect.TypeFor[client.Registration]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		names[name] = true
	}
	return names
}

var fields = fieldNames()

// labelled reports whether labels ask for a registration. One-off containers of docker compose run do not count.
func (p Placement) labelled(labels map[string]string) bool {
	if strings.EqualFold(labels["com.docker.compose.oneoff"], "true") {
		return false
	}
	for name := range labels {
		if strings.HasPrefix(name, p.Prefix+".") {
			return true
		}
	}
	return false
}

// Entries returns the registrations that the labels of a container describe. owner is the container whose network it
// uses: c itself, unless its network mode is container:ID. The error names the label at fault. It is errNoAddress, wrapped,
// if the container has no address yet.
func (p Placement) Entries(c, owner container.InspectResponse) ([]Entry, error) {
	groups, err := p.groups(c.Config.Labels)
	if err != nil {
		return nil, err
	}
	var entries []Entry
	for _, port := range slices.Sorted(maps.Keys(groups)) {
		entry, err := p.entry(port, groups[port], c, owner)
		if err != nil {
			return nil, err
		}
		if entry["id"] == nil {
			entry["id"] = c.ID[:min(shortID, len(c.ID))]
			if port != "" && len(groups) > 1 {
				entry["id"] = entry.ID() + "-" + port
			}
		}
		entries = append(entries, entry)
	}
	return entries, nil
}

// groups returns the values of labels by port and field. The port is empty without labels of a port.
func (p Placement) groups(labels map[string]string) (map[string]map[string]string, error) {
	plain, ports := map[string]string{}, map[string]map[string]string{}
	for _, label := range slices.Sorted(maps.Keys(labels)) {
		rest, ours := strings.CutPrefix(label, p.Prefix+".")
		if !ours {
			continue
		}
		into, field := plain, rest
		if first, second, dotted := strings.Cut(rest, "."); dotted && isPort(first) {
			if ports[first] == nil {
				ports[first] = map[string]string{}
			}
			into, field = ports[first], second
		}
		if err := p.known(label, field); err != nil {
			return nil, err
		}
		into[field] = labels[label]
	}
	if len(ports) == 0 {
		return map[string]map[string]string{"": plain}, nil
	}
	for port, own := range ports {
		merged := maps.Clone(plain)
		merged["port"] = port
		maps.Copy(merged, own)
		ports[port] = merged
	}
	return ports, nil
}

func isPort(s string) bool {
	n, err := strconv.ParseUint(s, 10, 16)
	return err == nil && n > 0
}

// known returns an error for a label of no field.
func (p Placement) known(label, field string) error {
	if name, meta := strings.CutPrefix(field, "meta."); meta {
		if strings.HasPrefix(name, "docker_") {
			return fmt.Errorf("label %s is reserved; choose a name without docker_", label)
		}
		return nil
	}
	if fields[field] && field != "meta" || field == "network" {
		return nil
	}
	names := slices.Sorted(maps.Keys(fields))
	return fmt.Errorf("label %s is unknown; use %s.FIELD or %s.PORT.FIELD, where FIELD is meta.NAME, network, %s", label, p.Prefix, p.Prefix,
		strings.Join(slices.DeleteFunc(names, func(n string) bool { return n == "meta" }), ", "))
}

// entry returns the registration of one group of labels.
func (p Placement) entry(port string, labels map[string]string, c, owner container.InspectResponse) (Entry, error) {
	if labels["service"] == "" {
		return nil, fmt.Errorf("label %s is missing; it names the service", joined(p.Prefix, port, "service"))
	}
	address, err := p.address(labels, c, owner)
	if err != nil {
		return nil, err
	}
	if labels["health"] == dockerHealth && !hasHealthcheck(c) {
		return nil, fmt.Errorf("label %s is docker, but the container has no HEALTHCHECK; add one, or choose another check", joined(p.Prefix, port, "health"))
	}
	entry := values(labels)
	entry["address"], entry["meta"] = address, p.meta(labels, c)
	if entry["boot"] == nil {
		entry["boot"] = c.State.StartedAt
	}
	return entry, nil
}

func hasHealthcheck(c container.InspectResponse) bool {
	return c.State.Health != nil && c.State.Health.Status != container.NoHealthcheck
}

// values returns the fields of labels that a registration takes as they are, without the address and the metadata.
func values(labels map[string]string) Entry {
	entry := Entry{}
	for field, value := range labels {
		switch field {
		case "network", "port", "address":
		case "host", "tag":
			entry[field] = list(value)
		case "health_header":
			entry[field] = strings.FieldsFunc(value, func(r rune) bool { return r == '\n' })
		default:
			if !strings.HasPrefix(field, "meta.") {
				entry[field] = value
			}
		}
	}
	return entry
}

// meta returns the metadata of labels, and the marks of this agent.
func (p Placement) meta(labels map[string]string, c container.InspectResponse) map[string]string {
	meta := map[string]string{metaNode: p.Node, metaContainer: c.ID, metaName: strings.TrimPrefix(c.Name, "/")}
	for field, value := range labels {
		if name, isMeta := strings.CutPrefix(field, "meta."); isMeta {
			meta[name] = value
		}
	}
	return meta
}

func joined(prefix, port, field string) string {
	if port == "" {
		return prefix + "." + field
	}
	return prefix + "." + port + "." + field
}

// list splits a value at its commas.
func list(value string) []string {
	var all []string
	for part := range strings.SplitSeq(value, ",") {
		if part = strings.TrimSpace(part); part != "" {
			all = append(all, part)
		}
	}
	return all
}

// address returns host:port of a container.
func (p Placement) address(labels map[string]string, c, owner container.InspectResponse) (string, error) {
	given := labels["address"]
	if _, _, err := net.SplitHostPort(given); err == nil {
		return given, nil
	}
	port, err := p.port(labels, c, owner)
	switch {
	case err != nil:
		return "", err
	case given != "":
		return net.JoinHostPort(strings.Trim(given, "[]"), port), nil
	case owner.HostConfig.NetworkMode.IsHost():
		if p.HostIP == "" {
			return "", errors.New("the container uses the host's network; start the agent with --host-ip ADDRESS")
		}
		return net.JoinHostPort(p.HostIP, port), nil
	case p.Published:
		return p.published(port, owner)
	}
	host, err := p.own(labels["network"], owner)
	if err != nil {
		return "", err
	}
	return net.JoinHostPort(host, port), nil
}

// port returns the port in the container: that of the labels, else the only exposed TCP port.
func (p Placement) port(labels map[string]string, c, owner container.InspectResponse) (string, error) {
	if given := labels["port"]; given != "" {
		if !isPort(given) {
			return "", fmt.Errorf("label %s.port is %.80q; give a number from 1 to 65535", p.Prefix, given)
		}
		return given, nil
	}
	var exposed []string
	for port := range c.Config.ExposedPorts {
		exposed = appendTCP(exposed, port)
	}
	for port := range owner.NetworkSettings.Ports {
		exposed = appendTCP(exposed, port)
	}
	slices.Sort(exposed)
	switch exposed = slices.Compact(exposed); len(exposed) {
	case 1:
		return exposed[0], nil
	case 0:
		return "", fmt.Errorf("label %s.port is missing, and the container exposes no TCP port; add the label", p.Prefix)
	}
	return "", fmt.Errorf("label %s.port is missing, and the container exposes the TCP ports %s; choose one", p.Prefix, strings.Join(exposed, ", "))
}

func appendTCP(ports []string, port network.Port) []string {
	if port.Proto() != network.TCP {
		return ports
	}
	return append(ports, port.Port())
}

// published returns the host's address of a published port.
func (p Placement) published(port string, owner container.InspectResponse) (string, error) {
	var bindings []network.PortBinding
	for at, all := range owner.NetworkSettings.Ports {
		if at.Port() == port && at.Proto() == network.TCP {
			bindings = all
		}
	}
	if len(bindings) == 0 {
		return "", fmt.Errorf("port %s is not published; publish it, or start the agent without --published and --advertise", port)
	}
	for _, b := range bindings {
		if b.HostIP.IsValid() && !b.HostIP.IsUnspecified() {
			return net.JoinHostPort(b.HostIP.String(), b.HostPort), nil
		}
	}
	if p.HostIP == "" {
		return "", fmt.Errorf("port %s is published on every address of the host; start the agent with --host-ip ADDRESS", port)
	}
	return net.JoinHostPort(p.HostIP, bindings[0].HostPort), nil
}

// own returns the container's own address on the chosen network.
func (p Placement) own(wanted string, owner container.InspectResponse) (string, error) {
	networks := maps.Clone(owner.NetworkSettings.Networks)
	delete(networks, "ingress") // of a swarm
	names := slices.Sorted(maps.Keys(networks))
	if wanted = cmp.Or(wanted, p.Network); wanted != "" {
		project := owner.Config.Labels["com.docker.compose.project"]
		for _, name := range []string{wanted, project + "_" + wanted} {
			if networks[name] != nil {
				return addressOn(name, networks[name])
			}
		}
		return "", fmt.Errorf("the container is not on network %q, but on: %s", wanted, strings.Join(names, ", "))
	}
	switch len(names) {
	case 1:
		return addressOn(names[0], networks[names[0]])
	case 0:
		return "", fmt.Errorf("%w: the container is on no network", errNoAddress)
	}
	return "", fmt.Errorf("the container is on the networks %s; choose one with label %s.network or the agent's --network",
		strings.Join(names, ", "), p.Prefix)
}

func addressOn(name string, at *network.EndpointSettings) (string, error) {
	for _, ip := range []netip.Addr{at.IPAddress, at.GlobalIPv6Address} {
		if ip.IsValid() && !ip.IsUnspecified() {
			return ip.String(), nil
		}
	}
	return "", fmt.Errorf("%w: the container has none on network %q", errNoAddress, name)
}
