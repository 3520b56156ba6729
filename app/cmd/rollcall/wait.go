package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"
)

type waitCmd struct {
	remote

	Services []string      `arg:"" help:"Services that must have a healthy instance."`
	Timeout  time.Duration `default:"30s" help:"How long to wait."`
}

// Run returns as soon as every service has a healthy instance, or says why one has
// not when the time is over.
func (c waitCmd) Run(s *session) error {
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	waited := make([]error, len(c.Services))
	var all sync.WaitGroup
	for n, name := range c.Services {
		all.Go(func() { waited[n] = c.await(ctx, name) })
	}
	all.Wait()
	if err := s.ctx.Err(); err != nil {
		return err
	}
	asking, cancel := context.WithTimeout(s.ctx, reasonWithin)
	defer cancel()
	var missing []string
	for n, name := range c.Services {
		if waited[n] != nil {
			missing = append(missing, c.unhealthy(asking, name, waited[n]))
		}
	}
	if missing != nil {
		return fmt.Errorf("not healthy after %s: %s", c.Timeout, strings.Join(missing, "; "))
	}
	return nil
}

// reasonWithin is how long finding out why may take when the time is over.
const reasonWithin = 2 * time.Second

// await asks until the service has a healthy instance. Rollcall may be away, too.
func (c waitCmd) await(ctx context.Context, name string) error {
	var tag string
	for {
		healthy, next, err := c.changes(ctx, name, tag)
		if err == nil && len(healthy) > 0 {
			return nil
		}
		if tag = next; err != nil {
			tag = ""
			select {
			case <-time.After(300 * time.Millisecond):
			case <-ctx.Done():
			}
		}
		if ctx.Err() != nil {
			return errors.Join(ctx.Err(), err)
		}
	}
}

// unhealthy says what is wrong with a service that was waited for in vain.
func (r remote) unhealthy(ctx context.Context, name string, waited error) string {
	var list struct{ Instances []instance }
	err := r.get(ctx, "/v1/services/"+url.PathEscape(name)+"?state=any", &list)
	switch {
	case isStatus(err, http.StatusNotFound):
		return name + ": nothing is registered"
	case err != nil:
		return name + ": " + err.Error()
	case len(list.Instances) == 0:
		return name + ": " + waited.Error()
	}
	var each []string
	for _, i := range list.Instances {
		text := i.ID + " is " + i.standing()
		if r.get(ctx, "/v1/instances/"+url.PathEscape(i.ID), &i) == nil && i.Last != nil {
			text += " (" + i.Last.Reason + ")"
		}
		each = append(each, text)
	}
	return name + ": " + strings.Join(each, ", ")
}
