package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"time"

	"rollcall/app/boot"
	"rollcall/app/client"
)

// healthWithin is how long a process may take to answer.
const healthWithin = 2 * time.Second

type healthCmd struct {
	Program string `arg:"" optional:"" enum:"web,edge" default:"web" help:"web (also for serve and dev) or edge."`
}

// Run returns an error if the program beside it does not answer: a container's health check for images without curl.
func (c healthCmd) Run(s *session) error {
	load := boot.Load
	if c.Program == "edge" {
		load = boot.LoadEdge
	}
	config, err := load(s.environ)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, healthWithin)
	defer cancel()
	if c.Program == "edge" {
		return alive(ctx, config.Bind, config.EdgePort, "/", "__ping__") // the edge's own answer, to a host that no vhost can have
	}
	return alive(ctx, config.Bind, config.Port, "/livez", "")
}

func alive(ctx context.Context, bind netip.Addr, port int, path, host string) error {
	switch bind { // listening everywhere is listening here
	case netip.IPv4Unspecified():
		bind = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	case netip.IPv6Unspecified():
		bind = netip.IPv6Loopback()
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+net.JoinHostPort(bind.String(), strconv.Itoa(port))+path, nil)
	if err != nil {
		return err
	}
	req.Host = host
	resp, err := client.NewTransport(0, nil).RoundTrip(req)
	if err != nil {
		return fmt.Errorf("not alive: %w", err)
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("not alive: %s from %s", resp.Status, req.URL)
	}
	return nil
}
