package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"

	moby "github.com/moby/moby/client"

	"rollcall/app/client"
	"rollcall/app/docker"
)

type dockerCmd struct {
	remote

	Node        string `env:"ROLLCALL_NODE" help:"Unique name of this engine; the agent removes only instances with its name (default: the host name) (${env})."`
	LabelPrefix string `default:"rollcall" help:"Prefix of the labels."`
	Advertise   string `placeholder:"ADDRESS" xor:"address" help:"Register published ports at this address of the host: --published --host-ip ADDRESS."`
	HostIP      string `name:"host-ip" placeholder:"ADDRESS" xor:"address" help:"Address of the host, for containers on the host's network and for published ports."`
	Published   bool   `help:"Register published ports instead of the containers' own addresses."`
	Network     string `help:"Network of the containers' own addresses, if they are on several."`
	DryRun      bool   `help:"Print the registrations of the running containers, and the reasons of refusals; register none."`
}

// Help returns the text of rollcall docker --help.
func (dockerCmd) Help() string {
	return "Reads DOCKER_HOST, DOCKER_TLS_VERIFY and DOCKER_CERT_PATH. A container is registered if it has labels such as rollcall.service=web. docs/docker.md lists the labels."
}

// Run registers containers until the process ends.
func (c dockerCmd) Run(s *session) error {
	place, err := c.placement()
	if err != nil {
		return err
	}
	engine, err := moby.New(moby.FromEnv)
	if err != nil {
		return fmt.Errorf("docker: DOCKER_HOST: %w", err)
	}
	defer engine.Close()
	calls, err := client.New(c.URL, c.Token, client.Options{Once: true}) // the agent repeats its calls
	if err != nil {
		return err
	}
	agent := &docker.Agent{Placement: place, Engine: engine, API: calls, Log: slog.New(slog.NewJSONHandler(s.err, nil))}
	if c.DryRun {
		return dryRun(s.ctx, agent, s.out)
	}
	return agent.Run(s.ctx)
}

func (c dockerCmd) placement() (docker.Placement, error) {
	host := cmp.Or(c.Advertise, c.HostIP)
	if host != "" && !isReachable(host) {
		return docker.Placement{}, fmt.Errorf("docker: --advertise or --host-ip is %q; give an IP address of the host that Rollcall and the proxy can reach", host)
	}
	name, _ := os.Hostname()
	node := cmp.Or(c.Node, name)
	if node == "" {
		return docker.Placement{}, errors.New("docker: the host has no name; give --node NAME")
	}
	return docker.Placement{Prefix: c.LabelPrefix, Node: node, HostIP: host, Network: c.Network, Published: c.Published || c.Advertise != ""}, nil
}

// isReachable reports whether text is an IP address that other machines can reach.
func isReachable(text string) bool {
	ip, err := netip.ParseAddr(text)
	return err == nil && !ip.IsLoopback() && !ip.IsUnspecified()
}

func dryRun(ctx context.Context, agent *docker.Agent, out io.Writer) error {
	seen, err := agent.Look(ctx)
	if err != nil {
		return err
	}
	for _, container := range seen {
		if container.Err != nil {
			fmt.Fprintf(out, "%s: not registered: %v\n", container.Name, container.Err)
			continue
		}
		for _, entry := range container.Entries {
			text, err := json.Marshal(entry.Shown())
			if err != nil {
				return err
			}
			fmt.Fprintf(out, "%s: %s\n", container.Name, text)
		}
	}
	return nil
}
