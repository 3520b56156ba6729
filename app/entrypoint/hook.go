//go:build unix

package entrypoint

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"
)

// Options describe one run. Command is required.
type Options struct {
	Command []string
	Environ []string  // NAME=value; the ROLLCALL_ variables configure the registration
	Log     io.Writer // gets a line for each change

	Links        []string      // services whose variables the command gets, as SERVICE[:ALIAS[:PORT]]
	LinksTimeout time.Duration // how long to wait for them
	LinksFile    string        // file that has the variables too; empty: a temporary file if OnChange is set
	OnChange     string        // name of the signal that tells the command that the file has changed; empty: none
}

// Run runs the command to its end and returns its exit code, 127 if it does not exist, 126 if it cannot be started. It
// returns an error if the options are wrong or the linked services are not healthy in time; then the command did not run.
// Without ROLLCALL_URL or ROLLCALL_SERVICE, and without a file to keep, Run replaces the process by the command.
func Run(ctx context.Context, o Options) (code int, err error) {
	log := newLog(o.Log)
	s := readSettings(o.Environ, log)
	api, err := newRegistrar(s)
	if err != nil {
		return 0, fmt.Errorf("ROLLCALL_URL: %w", err)
	}
	h := hook{settings: s, api: api, log: log, environ: withoutSecrets(o.Environ), unregistered: missingSetting(o.Environ)}
	if err := h.link(ctx, o); err != nil {
		return 0, err
	}
	if h.unregistered != "" && h.links == nil {
		log("%s: running without Rollcall", h.unregistered)
		return replace(o.Command, h.environ, log), nil
	}
	return h.run(o.Command), nil //nolint:contextcheck // signals end the command and its agent, not a context
}

// hook runs one command as a container's entrypoint.
type hook struct {
	settings

	api     registrar
	log     logFunc
	environ []string
	reaper  reaper

	registering  chan struct{} // has an element while the agent registers the command, or must not register it
	unregistered string        // why the command is not registered; empty: it is
	links        *links        // nil: the command does not follow changes of its links
	onChange     os.Signal     // sent to the command after a change of its links; nil: none
}

// link waits for the linked services and adds their variables to the command's environment.
func (h *hook) link(ctx context.Context, o Options) error {
	follow := o.OnChange != "" || o.LinksFile != ""
	if len(o.Links) == 0 {
		if follow {
			return errors.New("--on-change and --env-file are about the services of --env, and there is none")
		}
		return nil
	}
	if h.url == "" {
		return errors.New("--env needs ROLLCALL_URL, which is not set")
	}
	l := newLinks(h.api.once, o.Links, h.log)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGQUIT)
	defer stop()
	if err := l.await(ctx, o.LinksTimeout); err != nil {
		return err
	}
	if follow {
		if err := l.open(o.LinksFile); err != nil {
			return err
		}
		h.links, h.onChange = l, changeSignals[o.OnChange]
	}
	h.environ = l.environ(h.environ)
	return nil
}

// logFunc writes one line to a log.
type logFunc func(format string, args ...any)

// newLog returns a logFunc that writes to w.
func newLog(w io.Writer) logFunc {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = brokenPipes.write(fmt.Appendf(nil, "rollcall: "+format+"\n", args...), w.Write)
	}
}

// replace becomes the command. It returns an exit code only if that fails.
func replace(command, environ []string, log logFunc) int {
	path, err := exec.LookPath(command[0])
	if err == nil {
		err = syscall.Exec(path, command, environ)
	}
	return notStarted(err, log)
}

// notStarted returns a shell's exit code for a command that cannot be started.
func notStarted(err error, log logFunc) int {
	log("%v", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// run starts the command and the agent that keeps it registered, and returns the command's exit code.
func (h *hook) run(command []string) int {
	if h.links != nil {
		defer h.links.close()
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, forwarded()...)
	defer signal.Stop(signals)
	if os.Getpid() == 1 {
		defer h.reaper.reapOrphans()()
	}
	tty := openTerminal()
	app := h.command(command)
	if err := h.reaper.start(app); err != nil {
		return notStarted(err, h.log)
	}
	defer tty.close(app.Process.Pid)
	ended := make(chan syscall.WaitStatus, 1)
	go func() {
		ended <- h.reaper.await(app, func(s syscall.Signal) { tty.stopped(app.Process.Pid, s) })
	}()
	changed, unfollow := h.follow()
	defer unfollow()
	s := supervisor{hook: h, process: app.Process, tty: tty, stopAgent: h.startAgent(), endTurn: func() {}}
	defer func() { s.endTurn() }()
	return s.supervise(signals, changed, ended)
}

func (h *hook) command(command []string) *exec.Cmd {
	app := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // the purpose of the hook; signals end it, not a context
	app.Stdin, app.Stdout, app.Stderr = os.Stdin, os.Stdout, os.Stderr
	app.Env = slices.Clone(h.environ)
	if h.unregistered == "" {
		app.Env = append(app.Env, "ROLLCALL_ID="+h.id)
	}
	app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to our group does not reach the command
	return app
}

// follow keeps the command's links up to date until stop is called.
func (h *hook) follow() (changed <-chan struct{}, stop func()) {
	if h.links == nil {
		return nil, func() {}
	}
	stop = h.links.follow()
	if h.onChange == nil {
		return nil, stop
	}
	return h.links.changed, stop
}

// startAgent keeps the command registered until stop is called.
func (h *hook) startAgent() (stop func()) {
	if h.unregistered != "" {
		h.log("%s: the command is not registered", h.unregistered)
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := newAgent(h.settings, h.api, h.log)
	h.registering = a.registering
	if h.healthCommand != "" {
		a.check = (&healthCommand{command: h.healthCommand, timeout: h.healthTimeout, environ: h.environ, reaper: &h.reaper}).run
	}
	var done sync.WaitGroup
	done.Go(func() { a.run(ctx) })
	return func() {
		cancel()
		done.Wait()
		h.id = a.id // the agent may have chosen a free one
	}
}
