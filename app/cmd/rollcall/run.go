//go:build unix

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"sync"
	"syscall"
	"time"

	"rollcall/app/boot"
)

type runCmd struct {
	Env        []string      `sep:"none" placeholder:"SERVICE[:ALIAS[:PORT]]" help:"Start the command with the variables of this service, as rollcall env prints them; repeatable."`
	EnvTimeout time.Duration `default:"30s" help:"How long to wait for those services."`
	EnvFile    string        `placeholder:"PATH" help:"Keep the variables in this file, too."`
	OnChange   string        `enum:",HUP,INT,QUIT,TERM,USR1,USR2" default:"" placeholder:"SIGNAL" help:"Tell the command by HUP, USR1, USR2, INT, QUIT or TERM when the file has changed, which $$ROLLCALL_ENV_FILE names."`

	Command []string `arg:"" passthrough:"" help:"The command and its arguments."`
}

// Help says what there is to set.
func (runCmd) Help() string {
	return "Starts the command at once, keeps it registered while it runs, passes signals on, and on TERM, INT or QUIT takes " +
		"it out of service before it is told. Does what docker/rollcall.sh does, for images without a shell, and is " +
		"configured by the same variables: ROLLCALL_URL, ROLLCALL_SERVICE, ROLLCALL_PORT, ROLLCALL_HOST, ROLLCALL_HEALTH, ... " +
		"With --env it waits for other services first."
}

// Run does not return: the exit code is the command's, and not one of Rollcall's.
func (c runCmd) Run(s *session) error {
	command := c.Command
	if len(command) > 0 && command[0] == "--" {
		command = command[1:]
	}
	if len(command) == 0 {
		return errors.New("run: there is no command: rollcall run -- COMMAND [ARGUMENT...]")
	}
	say := sayer(s.err)
	set := readSettings(s.environ, say)
	for _, line := range boot.MisspeltClientVariables(s.environ) {
		say("%s", line)
	}
	h := hook{settings: set, api: newRegistrar(set), say: say, environ: withoutSecrets(s.environ), unregistered: missingSetting(s.environ)}
	if err := c.link(s.ctx, &h); err != nil {
		return fmt.Errorf("run: %w", err)
	}
	if h.unregistered != "" && h.links == nil {
		say("%s: running without Rollcall", h.unregistered)
		os.Exit(replace(command, h.environ, say))
	}
	os.Exit(h.run(command))
	return nil
}

// link waits for the services that the command needs, and puts their variables into its
// environment. The hook has to follow them if the command wants to hear of changes.
func (c runCmd) link(ctx context.Context, h *hook) error {
	follow := c.OnChange != "" || c.EnvFile != ""
	switch {
	case len(c.Env) == 0 && follow:
		return errors.New("--on-change and --env-file are about the services of --env, and there is none")
	case len(c.Env) == 0:
		return nil
	case h.url == "":
		return errors.New("--env needs ROLLCALL_URL, which is not set")
	}
	l := newLinks(remote{URL: h.url, Token: h.token}, c.Env, h.say)
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGQUIT)
	defer stop()
	if err := l.await(ctx, c.EnvTimeout); err != nil {
		return err
	}
	if follow {
		if err := l.open(c.EnvFile); err != nil {
			return err
		}
		h.links, h.onChange = l, telling[c.OnChange]
	}
	h.environ = l.environ(h.environ)
	return nil
}

// sayer returns what tells people of changes, a line each.
func sayer(w io.Writer) func(string, ...any) {
	var mu sync.Mutex
	return func(format string, args ...any) {
		mu.Lock()
		defer mu.Unlock()
		_, _ = brokenPipes.write(fmt.Appendf(nil, "rollcall: "+format+"\n", args...), w.Write)
	}
}

// replace becomes the command. It returns only if that is not possible.
func replace(command, environ []string, say func(string, ...any)) int {
	path, err := exec.LookPath(command[0])
	if err == nil {
		err = syscall.Exec(path, command, environ)
	}
	return notStarted(err, say)
}

// notStarted is the exit code that shells have for a command that cannot be started.
func notStarted(err error, say func(string, ...any)) int {
	say("%v", err)
	if errors.Is(err, exec.ErrNotFound) || errors.Is(err, fs.ErrNotExist) {
		return 127
	}
	return 126
}

// hook runs one command as a container's entrypoint.
type hook struct {
	settings

	api     registrar
	say     func(string, ...any)
	environ []string
	kin     kin

	asserting    chan struct{} // full while the agent registers the command, or must not
	unregistered string        // why the command is not to be registered; empty: it is
	links        *links        // nil: the command does not want to hear of changes
	onChange     os.Signal     // that tells it of them; nil: it looks by itself
}

// run starts the command and the agent that keeps it registered, and returns the
// command's exit code when it has ended.
func (h *hook) run(command []string) int {
	if h.links != nil {
		defer h.links.close()
	}
	signals := make(chan os.Signal, 64)
	signal.Notify(signals, passedOn()...)
	defer signal.Stop(signals)
	if os.Getpid() == 1 {
		defer h.kin.reapOthers()()
	}

	app := exec.Command(command[0], command[1:]...) //nolint:gosec,noctx // what we are for; signals end it, not a context
	app.Stdin, app.Stdout, app.Stderr = os.Stdin, os.Stdout, os.Stderr
	app.Env = slices.Clone(h.environ)
	if h.unregistered == "" {
		app.Env = append(app.Env, "ROLLCALL_ID="+h.id)
	}
	app.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // a signal to our group is for us alone
	tty := openTerminal()
	if err := h.kin.start(app); err != nil {
		return notStarted(err, h.say)
	}
	defer tty.close(app.Process.Pid)
	ended := make(chan syscall.WaitStatus, 1)
	go func() {
		ended <- h.kin.await(app, func(s syscall.Signal) { tty.stopped(app.Process.Pid, s) })
	}()
	changed, unfollow := h.follow()
	defer unfollow()
	l := leaving{hook: h, stopAgent: h.startAgent()}
	var turn <-chan struct{} // closed when the command may be restarted; nil: it is not waiting
	endTurn := func() {}
	defer func() { endTurn() }()
	tell := func(s os.Signal) {
		if !h.stops[s] || !l.begin(s) {
			tty.send(app.Process, s)
		}
	}
	for {
		select {
		case s := <-signals:
			if s != syscall.SIGPIPE || brokenPipes.sent() {
				tell(s)
			}
		case <-changed:
			switch {
			case l.first != nil || turn != nil: // about to end
			case h.stops[h.onChange] && h.unregistered == "":
				turn, endTurn = h.takeTurns()
			default:
				tell(h.onChange)
			}
		case <-turn:
			turn = nil
			if l.first == nil {
				tell(h.onChange)
			}
		case <-l.over:
			l.over = nil
			tty.send(app.Process, l.first)
		case status := <-ended:
			code := exitCode(status)
			l.end(code)
			return code
		}
	}
}

// follow keeps the command's links up to date until it is told to stop.
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

// startAgent keeps the command registered until it is told to stop.
func (h *hook) startAgent() (stop func()) {
	if h.unregistered != "" {
		h.say("%s: the command is not registered", h.unregistered)
		return func() {}
	}
	ctx, cancel := context.WithCancel(context.Background())
	a := newAgent(h.settings, h.api, h.say)
	h.asserting = a.asserting
	if h.healthCommand != "" {
		a.check = (&healthCommand{command: h.healthCommand, timeout: h.patience, environ: h.environ, kin: &h.kin}).run
	}
	var done sync.WaitGroup
	done.Go(func() { a.run(ctx) })
	return func() {
		cancel()
		done.Wait()
		h.id = a.id // it may have taken a free one
	}
}

// leaving is how a command goes out of service.
type leaving struct {
	*hook
	stopAgent func()

	first  os.Signal          // the first one that told it to end; nil: none yet
	over   chan struct{}      // closed when the drain is over, whatever came of it
	cancel context.CancelFunc // of the drain
	told   bool               // Rollcall knows; to be read when over is closed
	done   sync.WaitGroup
}

// begin drains the command, and reports whether it has begun to: a second signal is
// in a hurry, and one that is not registered has nothing to wait for.
func (l *leaving) begin(s os.Signal) bool {
	if l.first != nil || l.unregistered != "" {
		l.over = nil
		return false
	}
	ctx, cancel := context.WithTimeout(context.Background(), l.hold+3*time.Second)
	l.first, l.cancel = s, cancel
	over := make(chan struct{})
	l.over = over
	l.say("%s: draining %s", signalName(s), l.id)
	l.done.Go(func() {
		defer close(over)
		l.stopAgent()
		a := l.drain(ctx)
		switch {
		case a.good():
			l.say("drained %s", l.id)
		case !errors.Is(ctx.Err(), context.Canceled): // by the end of the command
			l.failed(a)
		}
	})
	return true
}

// drain drains the command, and asks again while Rollcall does not answer: the web that
// was asked may die, and another one takes over. It returns when the drain period is over,
// also when the drain failed: requests under way need the time in any case.
func (l *leaving) drain(ctx context.Context) (a answer) {
	end := time.Now().Add(l.hold)
	for {
		a = l.leave(ctx, func() answer {
			return l.api.drain(ctx, l.id, l.form.Get("boot"), max(0, time.Until(end).Round(time.Millisecond)))
		})
		if l.told = a.good() || a.status == http.StatusNotFound; l.told {
			return a
		}
		pause := time.Until(end)
		if a.away() {
			pause = min(pause, firstBackoff)
		}
		if pause <= 0 {
			return a
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return a
		}
		if !a.away() {
			return a
		}
	}
}

// end tells Rollcall, if it does not know yet, that the command has ended.
func (l *leaving) end(code int) {
	wait := 3 * time.Second
	if l.first == nil {
		l.stopAgent()
	} else {
		wait = time.Second // somebody is waiting for us
		l.cancel()
		l.done.Wait()
	}
	if l.told || l.unregistered != "" {
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), wait)
	defer cancel()
	a := l.leave(ctx, func() answer { return l.api.deregister(ctx, l.id, l.form.Get("boot")) })
	switch {
	case a.good():
		l.say("%s is gone: the command ended with %d", l.id, code)
	case l.first == nil:
		l.failed(a)
	}
}

// leave makes the call that takes the instance out of service, unless another container
// has registered with our id: what is there then stays.
func (l *leaving) leave(ctx context.Context, call func() answer) answer {
	asking, cancel := context.WithTimeout(ctx, 3*time.Second)
	defer cancel()
	a := l.api.get(asking, l.id)
	mayNotAsk := a.status == http.StatusUnauthorized || a.status == http.StatusForbidden
	switch {
	case a.good() && a.Boot == l.form.Get("boot"), mayNotAsk:
		if a = call(); a.status != http.StatusConflict {
			return a
		}
		fallthrough // it was started anew meanwhile
	case a.good():
		l.say("%s was started anew elsewhere: left alone", l.id)
		return answer{status: http.StatusNotFound}
	}
	return a
}

// failed says why the instance may still be in service.
func (l *leaving) failed(a answer) {
	if a.status != http.StatusNotFound { // that it never was there is no news
		l.say("could not drain %s: %s", l.id, a.why())
	}
}
