package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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
			missing = append(missing, c.why(asking, name, waited[n]))
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
	path := "/v1/services/" + url.PathEscape(name) + "?wait=20s"
	var tag string
	for {
		n, next, err := c.healthy(ctx, path, tag)
		if err == nil && n > 0 {
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

// healthy waits for a change of the service since tag, and counts its healthy
// instances.
func (c waitCmd) healthy(ctx context.Context, path, tag string) (n int, next string, err error) {
	headers := map[string]string{}
	if tag != "" {
		headers["If-None-Match"] = tag
	}
	resp, err := c.do(ctx, path, headers)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return 0, tag, nil
	}
	var list struct{ Instances []instance }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&list); err != nil {
		return 0, "", fmt.Errorf("read the answer: %w", err)
	}
	return len(list.Instances), resp.Header.Get("ETag"), nil
}

// why says what is wrong with a service.
func (c waitCmd) why(ctx context.Context, name string, waited error) string {
	var list struct{ Instances []instance }
	err := c.get(ctx, "/v1/services/"+url.PathEscape(name)+"?state=any", &list)
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
		if c.get(ctx, "/v1/instances/"+url.PathEscape(i.ID), &i) == nil && i.Last != nil {
			text += " (" + i.Last.Reason + ")"
		}
		each = append(each, text)
	}
	return name + ": " + strings.Join(each, ", ")
}
