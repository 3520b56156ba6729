//go:build unix

package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"rollcall/app/client"
)

// links are the services that a command finds by the variables of Docker links. Each link keeps its instance for as long
// as that is healthy.
type links struct {
	api *client.Client

	names   []string // service, service:alias or service:alias:port
	say     func(string, ...any)
	file    string        // is kept up to date; empty: there is none
	own     string        // directory of the file, if we made it
	changed chan struct{} // has something in it when the file has changed

	mu        sync.Mutex
	variables map[string]map[string]string // by the link's name
}

func newLinks(api *client.Client, names []string, say func(string, ...any)) *links {
	return &links{api: api, names: names, say: say, changed: make(chan struct{}, 1), variables: map[string]map[string]string{}}
}

const (
	lookUpAgain   = 500 * time.Millisecond // after the first failure, and while the command waits
	longestLookUp = 2 * time.Second
	lookUpWithin  = 10 * time.Second
)

// await looks all links up until each has a healthy instance, or says why one has not
// when the time is over.
func (l *links) await(ctx context.Context, timeout time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		missing := map[string]error{}
		for _, name := range l.names {
			v, err := l.lookUp(waiting, name)
			if isRefusal(err) {
				return fmt.Errorf("--env %s: %w", name, err)
			}
			if l.variables[name] = v; err != nil {
				missing[name] = err
			}
		}
		if len(missing) == 0 {
			return nil
		}
		select {
		case <-time.After(lookUpAgain):
			continue
		case <-waiting.Done():
		}
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("told to end before the command was started: %w", err)
		}
		var why []string
		for _, name := range slices.Sorted(maps.Keys(missing)) {
			why = append(why, l.api.Unhealthy(ctx, serviceOf(name), missing[name]))
		}
		return fmt.Errorf("not healthy after %s: %s", timeout, strings.Join(why, "; "))
	}
}

// serviceOf is the service that a link is to.
func serviceOf(name string) string {
	service, _, _ := strings.Cut(name, ":")
	return service
}

func (l *links) lookUp(ctx context.Context, name string) (v map[string]string, err error) {
	ctx, cancel := context.WithTimeout(ctx, lookUpWithin)
	defer cancel()
	format := client.LinkManyParamsFormatJson
	return client.Read[map[string]string](l.api.LinkMany(ctx, &client.LinkManyParams{Link: []string{name}, Format: &format}))
}

// isRefusal reports whether the same call will never succeed.
func isRefusal(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return ok && refused.Status != http.StatusNotFound && !(answer{status: refused.Status}).temporary()
}

// all is the variables of all links; of two links with one alias, those of the later one.
func (l *links) all() map[string]string {
	all := map[string]string{}
	for _, name := range l.names {
		maps.Copy(all, l.variables[name])
	}
	return all
}

// lines are variables as NAME=value, sorted.
func lines(v map[string]string) []string {
	var lines []string
	for name, value := range v {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	return lines
}

// environ is an environment with the variables in place of those of the same names.
func (l *links) environ(others []string) []string {
	set := l.all()
	if l.file != "" {
		set["ROLLCALL_ENV_FILE"] = l.file
	}
	others = slices.DeleteFunc(slices.Clone(others), func(e string) bool {
		name, _, _ := strings.Cut(e, "=")
		_, ours := set[name]
		return ours
	})
	return append(others, lines(set)...)
}

// open writes the file: at a path, or in a directory of its own. A container without
// /tmp has a /dev/shm, even if the rest of it may not be written.
func (l *links) open(path string) (err error) {
	if path == "" {
		if l.own, err = os.MkdirTemp("", "rollcall-"); err != nil {
			var second error
			if l.own, second = os.MkdirTemp("/dev/shm", "rollcall-"); second != nil {
				return fmt.Errorf("no place for the file with the variables, set TMPDIR or give --env-file: %w", err)
			}
		}
		path = filepath.Join(l.own, "env")
		if err := os.Chmod(l.own, 0o755); err != nil { //nolint:gosec // the command may become another user
			return err
		}
	}
	if l.file, err = filepath.Abs(path); err != nil {
		return err
	}
	return l.write()
}

func (l *links) close() {
	if l.own != "" {
		_ = os.RemoveAll(l.own)
	}
}

// write replaces the file: who reads it has the old one or the new one.
func (l *links) write() error {
	next, err := os.CreateTemp(filepath.Dir(l.file), ".rollcall-env-")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name()) // which it is no more when it has become the file
	_, err = fmt.Fprintln(next, strings.Join(lines(l.all()), "\n"))
	if err := errors.Join(err, next.Chmod(0o644), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), l.file)
}

// follow keeps the file up to date until it is told to stop.
func (l *links) follow() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	for _, name := range l.names {
		all.Go(func() { l.followOne(ctx, name) })
	}
	return func() {
		cancel()
		all.Wait()
	}
}

// followOne follows a link as its service changes. What is known stays as long as there
// is nothing better: no healthy instance, or no answer.
func (l *links) followOne(ctx context.Context, name string) {
	tag, told, pause := "", false, lookUpAgain
	stays := func(why error) {
		if !told {
			l.say("the variables of %s stay as they are: %v", name, why)
		}
		told = true
	}
	for {
		healthy, next, err := l.api.Changes(ctx, serviceOf(name), tag)
		if err == nil && len(healthy) > 0 {
			err = l.choose(ctx, name, healthy)
		}
		switch {
		case ctx.Err() != nil:
			return
		case err != nil:
			stays(err)
			select {
			case <-time.After(spread(pause)):
			case <-ctx.Done():
			}
			next, pause = "", min(2*pause, longestLookUp)
		case next == tag: // nothing has changed
		case len(healthy) == 0:
			stays(errors.New("no instance is healthy"))
		default:
			told, pause = false, lookUpAgain
		}
		tag = next
	}
}

// choose has a link stay at the instance that it has, if that is one of the healthy ones,
// or else go to another one.
func (l *links) choose(ctx context.Context, name string, healthy []client.Instance) error {
	l.mu.Lock()
	now := l.variables[name]
	l.mu.Unlock()
	if among(healthy, address(now)) {
		return nil
	}
	v, err := l.lookUp(ctx, name)
	if err != nil {
		return err
	}
	if !among(healthy, address(v)) {
		return errors.New("it is changing")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.variables[name] = v
	if err := l.write(); err != nil {
		l.variables[name] = now
		return err
	}
	l.say("%s is at %s now", name, address(v))
	select {
	case l.changed <- struct{}{}:
	default: // the command has not been told of the last one yet
	}
	return nil
}

func among(some []client.Instance, address string) bool {
	return slices.ContainsFunc(some, func(i client.Instance) bool { return i.Address == address })
}

// address is the one in a link's variables.
func address(v map[string]string) string {
	for _, value := range v {
		if at, found := strings.CutPrefix(value, "tcp://"); found {
			return at
		}
	}
	return ""
}
