package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"rollcall/app"
	"rollcall/app/client"
)

type waitCmd struct {
	remote

	Services []string      `arg:"" predictor:"service" help:"Services that must have a healthy instance."`
	Timeout  time.Duration `default:"30s" help:"How long to wait."`
	Quiet    bool          `short:"q" help:"Print no progress."`
}

// progressEvery is how often wait reads why services are not healthy.
const progressEvery = time.Second

// Run returns as soon as every service has a healthy instance. At the timeout it returns an error with the reason for
// each service that has none. An answer that no wait can change, such as an invalid or misspelt name, ends it at once.
func (c waitCmd) Run(s *session) error {
	if err := app.ValidServices(c.Services); err != nil {
		return usageError{err}
	}
	api, err := c.api()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(s.ctx, c.Timeout)
	defer cancel()
	w := waiting{api: api, missing: map[string]bool{}}
	var all sync.WaitGroup
	errs := make([]error, len(c.Services))
	for n, name := range c.Services {
		w.missing[name] = true
		all.Go(func() {
			if errs[n] = api.AwaitHealthy(ctx, name); errs[n] == nil {
				w.found(name)
			} else if ctx.Err() == nil {
				cancel() // no wait changes this answer
			}
		})
	}
	var wrong error
	all.Go(func() {
		if wrong = misspelt(ctx, api, c.Services); wrong != nil {
			cancel()
		}
	})
	if !c.Quiet {
		all.Go(func() { w.progress(ctx, cancel, s) })
	}
	all.Wait()
	if wrong != nil && errors.Join(errs...) != nil && s.ctx.Err() == nil {
		return wrong
	}
	return c.result(s, api, errs)
}

// result returns nil, the context's error, a final answer of the API, or the reasons of the missing services.
func (c waitCmd) result(s *session, api *client.Client, errs []error) error {
	if s.ctx.Err() != nil || errors.Join(errs...) == nil {
		return s.ctx.Err()
	}
	for n, name := range c.Services {
		if refused := refusalIn(errs[n]); refused != nil {
			return fmt.Errorf("%s: %w", name, refused)
		}
	}
	var missing []string
	for n, name := range c.Services {
		if errs[n] != nil {
			missing = append(missing, api.Unhealthy(s.ctx, name, errs[n]))
		}
	}
	return answerNo{fmt.Errorf("not healthy after %s: %s", c.Timeout, strings.Join(missing, "; "))}
}

// refusalIn returns the answer that ended a wait, or nil if the time or the command ended it.
func refusalIn(err error) error {
	refused, ok := errors.AsType[*client.Error](err)
	if !ok || errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return refused
}

// waiting is the progress of wait.
type waiting struct {
	api *client.Client

	mu      sync.Mutex
	missing map[string]bool
}

func (w *waiting) found(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.missing, name)
}

func (w *waiting) names() (names []string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for name := range w.missing {
		names = append(names, name)
	}
	return names
}

// progress prints the missing services with their reasons: on a terminal in one line that it updates, else a line for
// each change. It ends when no service is missing.
func (w *waiting) progress(ctx context.Context, done func(), s *session) {
	defer done()
	last := ""
	for app.Sleep(ctx, progressEvery) == nil {
		names := w.names()
		if len(names) == 0 {
			break
		}
		if text := w.reasons(ctx, names); text != last && ctx.Err() == nil {
			last = text
			s.update(text)
		}
	}
	if last != "" {
		s.clear()
	}
}

// clear removes the line of progress from a terminal.
func (s *session) clear() {
	if s.terminal {
		fmt.Fprint(s.err, "\r\x1b[K")
	}
}

func (w *waiting) reasons(ctx context.Context, names []string) string {
	known, _ := serviceNames(ctx, w.api)
	var reasons []string
	for _, name := range names {
		reason := w.api.Unhealthy(ctx, name, errors.New("no healthy instance"))
		if near := nearest(name, known); near != "" && strings.HasSuffix(reason, "no instance is registered") {
			reason += "; did you mean " + near + "?"
		}
		reasons = append(reasons, reason)
	}
	return "waiting for " + strings.Join(reasons, "; ")
}

// update prints a line of progress. On a terminal it replaces the last one.
func (s *session) update(line string) {
	if !s.terminal {
		fmt.Fprintln(s.err, "rollcall:", line)
		return
	}
	if s.width > 0 {
		line = shorten(line, s.width-1)
	}
	fmt.Fprint(s.err, "\r\x1b[K"+line)
}
