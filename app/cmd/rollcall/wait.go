package main

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"rollcall/app/client"
)

type waitCmd struct {
	remote

	Services []string      `arg:"" help:"Services that must have a healthy instance."`
	Timeout  time.Duration `default:"30s" help:"How long to wait."`
}

// Run returns as soon as every service has a healthy instance. At the timeout it returns an error with the reason for
// each service that has none.
func (c waitCmd) Run(s *session) error {
	api, err := client.New(c.URL, c.Token, client.Options{})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	waited := make([]error, len(c.Services))
	var all sync.WaitGroup
	for n, name := range c.Services {
		all.Go(func() { waited[n] = api.AwaitHealthy(ctx, name) })
	}
	all.Wait()
	if err := s.ctx.Err(); err != nil {
		return err
	}
	var missing []string
	for n, name := range c.Services {
		if waited[n] != nil {
			missing = append(missing, api.Unhealthy(s.ctx, name, waited[n]))
		}
	}
	if missing != nil {
		return fmt.Errorf("not healthy after %s: %s", c.Timeout, strings.Join(missing, "; "))
	}
	return nil
}
