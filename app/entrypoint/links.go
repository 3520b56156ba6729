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

	"rollcall/app"
	"rollcall/app/client"
)

// links are the services that a command finds by the variables of Docker links. Each link keeps its instance for as long
// as that is healthy.
type links struct {
	api *client.Client

	names   []string // service, service:alias or service:alias:port
	log     logFunc
	file    string        // contains the variables; empty: there is no file
	own     string        // temporary directory of the file; empty: the operator chose the place
	changed chan struct{} // receives when the file has changed

	mu        sync.Mutex
	variables map[string]map[string]string // by the link's name
}

func newLinks(api *client.Client, names []string, log logFunc) *links {
	return &links{api: api, names: names, log: log, changed: make(chan struct{}, 1), variables: map[string]map[string]string{}}
}

const (
	lookUpAgain   = 500 * time.Millisecond // after the first failure, and while the command waits
	longestLookUp = 2 * time.Second
	lookUpWithin  = 10 * time.Second
)

// await returns when each link has a healthy instance. After the timeout it returns the reasons.
func (l *links) await(ctx context.Context, timeout time.Duration) error {
	waiting, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	for {
		missing, err := l.lookUpAll(waiting)
		if err != nil || len(missing) == 0 {
			return err
		}
		if app.Sleep(waiting, lookUpAgain) == nil {
			continue
		}
		if err := context.Cause(ctx); err != nil {
			return fmt.Errorf("told to end before the command was started: %w", err)
		}
		return fmt.Errorf("not healthy after %s: %s", timeout, l.reasons(ctx, missing))
	}
}

// reasons describes why services have no healthy instance.
func (l *links) reasons(ctx context.Context, missing map[string]error) string {
	var each []string
	for _, name := range slices.Sorted(maps.Keys(missing)) {
		each = append(each, l.api.Unhealthy(ctx, serviceOf(name), missing[name]))
	}
	return strings.Join(each, "; ")
}

// lookUpAll looks up each link, and returns the errors of the links that a later look-up may find.
func (l *links) lookUpAll(ctx context.Context) (missing map[string]error, err error) {
	missing = map[string]error{}
	for _, name := range l.names {
		v, err := l.lookUp(ctx, name)
		if isRefusal(err) {
			return nil, fmt.Errorf("--env %s: %w", name, err)
		}
		if l.variables[name] = v; err != nil {
			missing[name] = err
		}
	}
	return missing, nil
}

// serviceOf returns the service of a link.
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

// isRefusal reports whether the same call never succeeds.
func isRefusal(err error) bool {
	refused, ok := errors.AsType[*client.Error](err)
	return ok && refused.Status != http.StatusNotFound && !(answer{status: refused.Status}).temporary()
}

// all returns the variables of all links. If two links have the same alias, the later one wins.
func (l *links) all() map[string]string {
	all := map[string]string{}
	for _, name := range l.names {
		maps.Copy(all, l.variables[name])
	}
	return all
}

// lines returns variables as NAME=value, sorted.
func lines(v map[string]string) []string {
	var lines []string
	for name, value := range v {
		lines = append(lines, name+"="+value)
	}
	slices.Sort(lines)
	return lines
}

// environ returns an environment in which the variables replace others of the same name.
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

// open writes the file, at a path or in a new temporary directory. A container without /tmp has /dev/shm, even if its
// root file system is read-only.
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

// write replaces the file. A reader gets either the old content or the new one.
func (l *links) write() error {
	next, err := os.CreateTemp(filepath.Dir(l.file), ".rollcall-env-")
	if err != nil {
		return err
	}
	defer os.Remove(next.Name()) // without effect after the rename
	_, err = fmt.Fprintln(next, strings.Join(lines(l.all()), "\n"))
	if err := errors.Join(err, next.Chmod(0o644), next.Close()); err != nil {
		return err
	}
	return os.Rename(next.Name(), l.file)
}

// follow keeps the file current until stop is called.
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

// followOne keeps the variables of a link current. They stay as they are while no instance is healthy or Rollcall does
// not answer.
func (l *links) followOne(ctx context.Context, name string) {
	tag, told, pause := "", false, lookUpAgain
	stays := func(why error) {
		if !told {
			l.log("the variables of %s stay as they are: %v", name, why)
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
			_ = app.Sleep(ctx, jitter(pause))
			next, pause = "", min(2*pause, longestLookUp)
		case next == tag: // no change
		case len(healthy) == 0:
			stays(errors.New("no instance is healthy"))
		default:
			told, pause = false, lookUpAgain
		}
		tag = next
	}
}

// choose keeps the instance of a link if it is healthy, or else chooses another one.
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
	l.log("%s is at %s now", name, address(v))
	select {
	case l.changed <- struct{}{}:
	default: // the supervisor has not received the last change yet
	}
	return nil
}

func among(some []client.Instance, address string) bool {
	return slices.ContainsFunc(some, func(i client.Instance) bool { return i.Address == address })
}

// address returns the address in the variables of a link.
func address(v map[string]string) string {
	for _, value := range v {
		if at, found := strings.CutPrefix(value, "tcp://"); found {
			return at
		}
	}
	return ""
}
