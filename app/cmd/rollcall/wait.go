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
	w := &waiting{api: api, services: c.Services, errs: make([]error, len(c.Services)), stop: cancel, missing: map[string]bool{}}
	for _, name := range c.Services {
		w.missing[name] = true
	}
	var all sync.WaitGroup
	for n := range c.Services {
		all.Go(func() { w.await(ctx, n) })
	}
	all.Go(func() { w.checkNames(ctx) })
	if !c.Quiet {
		all.Go(func() { w.progress(ctx, s) })
	}
	all.Wait()
	return w.result(s.ctx, c.Timeout)
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
	api      *client.Client
	services []string
	errs     []error // of the services, in their order
	misspelt error
	stop     func() // ends the wait

	mu      sync.Mutex
	missing map[string]bool
}

// await waits for one service. It ends the wait for all after an answer that no wait changes.
func (w *waiting) await(ctx context.Context, n int) {
	if w.errs[n] = w.api.AwaitHealthy(ctx, w.services[n]); w.errs[n] == nil {
		w.found(w.services[n])
	} else if ctx.Err() == nil {
		w.stop()
	}
}

// checkNames ends the wait if a name is probably misspelt.
func (w *waiting) checkNames(ctx context.Context) {
	if w.misspelt = misspelt(ctx, w.api, w.services); w.misspelt != nil {
		w.stop()
	}
}

// result returns nil, the context's error, a final answer, or the reasons of the missing services.
func (w *waiting) result(ctx context.Context, timeout time.Duration) error {
	if ctx.Err() != nil || errors.Join(w.errs...) == nil {
		return ctx.Err()
	}
	if w.misspelt != nil {
		return w.misspelt
	}
	for n, name := range w.services {
		if refused := refusalIn(w.errs[n]); refused != nil {
			return fmt.Errorf("%s: %w", name, refused)
		}
	}
	return answerNo{fmt.Errorf("not healthy after %s: %s", timeout, strings.Join(w.unhealthy(ctx), "; "))}
}

// unhealthy returns the reason of each missing service.
func (w *waiting) unhealthy(ctx context.Context) (reasons []string) {
	for n, name := range w.services {
		if w.errs[n] != nil {
			reasons = append(reasons, w.api.Unhealthy(ctx, name, w.errs[n]))
		}
	}
	return reasons
}

// found records that a service has a healthy instance. It ends the wait after the last one.
func (w *waiting) found(name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if delete(w.missing, name); len(w.missing) == 0 {
		w.stop()
	}
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
// each change. It ends with the context.
func (w *waiting) progress(ctx context.Context, s *session) {
	last := ""
	for app.Sleep(ctx, progressEvery) == nil {
		if text := w.reasons(ctx, w.names()); text != last && ctx.Err() == nil {
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
