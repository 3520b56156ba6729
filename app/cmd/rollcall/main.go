// Command rollcall is the health and registration service, its edge and its tools.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/alecthomas/kong"
	completion "github.com/jotaen/kong-completion"

	"rollcall/app/boot"
)

// cli is the subcommands. Servers are configured by the environment only; commands
// that talk to a running Rollcall take ROLLCALL_URL and ROLLCALL_TOKEN.
type cli struct {
	Dev     devCmd     `cmd:"" help:"Everything in one process, with an embedded Redis: for trying out."`
	Web     webCmd     `cmd:"" help:"Answer the API."`
	Cron    cronCmd    `cmd:"" help:"Probe, end what has a deadline, keep the proxy's lists."`
	Serve   serveCmd   `cmd:"" help:"web and cron in one process."`
	Edge    edgeCmd    `cmd:"" help:"Route end users' requests by the keys that Hipache reads."`
	DNS     dnsCmd     `cmd:"" name:"dns" help:"Answer DNS queries for the healthy instances of services."`
	Migrate migrateCmd `cmd:"" help:"Bring Rollcall's keys to the schema of this version."`
	Jobs    jobsCmd    `cmd:"" help:"Run jobs by hand or by an outside scheduler."`
	Run     runCmd     `cmd:"" help:"Run a command as a container's entrypoint, registered for as long as it runs."`
	Docker  dockerCmd  `cmd:"" help:"Register the labelled containers of a Docker engine."`

	Ls          lsCmd          `cmd:"" help:"List instances, the worst first."`
	Show        showCmd        `cmd:"" help:"Show an instance: its state, the reason, its results and its events."`
	History     historyCmd     `cmd:"" help:"Show the availability, checks and latencies of a service over time."`
	Events      eventsCmd      `cmd:"" help:"List past events."`
	Watch       watchCmd       `cmd:"" help:"Print events as they occur."`
	Frontends   frontendsCmd   `cmd:"" help:"List the vhosts, or the backends of one."`
	Explain     explainCmd     `cmd:"" help:"Explain how the proxy routes a Host header."`
	Register    registerCmd    `cmd:"" help:"Register an instance."`
	Deregister  deregisterCmd  `cmd:"" help:"Remove instances at once."`
	Drain       drainCmd       `cmd:"" help:"Take instances out of their frontends, and remove them after the drain period."`
	Maintenance maintenanceCmd `cmd:"" help:"Put instances into maintenance, or end it."`
	Weight      weightCmd      `cmd:"" help:"Override the weight of instances for a while."`
	Wait        waitCmd        `cmd:"" help:"Wait until services have a healthy instance."`
	Pick        pickCmd        `cmd:"" help:"Print the address of one healthy instance."`
	Env         envCmd         `cmd:"" help:"Print the variables that Docker links would have set."`
	Webhook     webhookCmd     `cmd:"" help:"Create, test and manage webhooks."`
	Token       tokenCmd       `cmd:"" help:"Create, list and revoke tokens."`

	Doctor doctorCmd `cmd:"" help:"Look for what is wrong with the Redis and its keys."`
	Export exportCmd `cmd:"" help:"Print every instance as a line of JSON."`
	Import importCmd `cmd:"" help:"Add the instances of an export that are not known."`
	Health healthCmd `cmd:"" help:"Ask the web or edge of this container whether it is alive; for HEALTHCHECK."`

	Completion completionCmd `cmd:"" help:"Print how to turn on completion in bash, zsh or fish."`
	Help       helpCmd       `cmd:"" help:"Show the help of a command."`
	Version    versionCmd    `cmd:"" help:"Print the version."`

	VersionFlag kong.VersionFlag `name:"version" help:"Print the version and exit."`
}

// session is what a command gets of the process it runs in.
type session struct {
	ctx      context.Context //nolint:containedctx // kong hands commands values, not a context
	environ  []string
	out, err io.Writer
	terminal bool // out is a terminal
	width    int  // of the terminal, in characters; 0: none
	color    bool
}

func main() {
	quietLibraries()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout, os.Stderr)
	code := exitCode(ctx, err)
	stop()
	if err != nil && code != exitInterrupted {
		fmt.Fprintln(os.Stderr, "rollcall:", err)
	}
	os.Exit(code)
}

// quietLibraries turns messages of package log into debug messages, which the default level
// hides. net/http writes such a message for each unknown HTTP/2 frame of a probed server.
func quietLibraries() {
	slog.SetLogLoggerLevel(slog.LevelDebug)
	slog.SetDefault(slog.New(slog.NewJSONHandler(os.Stderr, nil)))
}

func run(ctx context.Context, args, environ []string, out, logs io.Writer) error {
	var commands cli
	exited := false
	parser, err := kong.New(&commands, kong.Name("rollcall"),
		kong.Description("Health and registration for containers behind Hipache."),
		kong.Vars{"version": "rollcall " + boot.Version()},
		kong.Writers(out, logs), kong.Exit(func(int) { exited = true }), kong.UsageOnError())
	if err != nil {
		return err
	}
	completion.Register(parser, predictors(ctx)...)
	switch {
	case exited: // a shell has its completions
		return nil
	case len(args) == 0:
		return usageError{errors.New("no command is given; rollcall --help lists them")}
	case args[0] == "help":
		args = append(args[1:len(args):len(args)], "--help")
	}
	command, err := parser.Parse(args)
	if exited { // the help or the version was printed
		return nil
	}
	if err != nil {
		return usageError{err}
	}
	s := &session{ctx: ctx, environ: environ, out: out, err: logs}
	s.setTerminal(out, environ)
	return command.Run(s)
}

type helpCmd struct {
	Command []string `arg:"" optional:"" help:"A command."`
}

type devCmd struct{}

func (devCmd) Run(s *session) error { return boot.Dev.Run(s.ctx, s.environ, s.out, s.err) }

type webCmd struct{}

func (webCmd) Run(s *session) error { return boot.Web.Run(s.ctx, s.environ, s.out, s.err) }

type cronCmd struct{}

func (cronCmd) Run(s *session) error { return boot.Cron.Run(s.ctx, s.environ, s.out, s.err) }

type serveCmd struct{}

func (serveCmd) Run(s *session) error { return boot.Serve.Run(s.ctx, s.environ, s.out, s.err) }

type edgeCmd struct{}

func (edgeCmd) Run(s *session) error { return boot.Edge.Run(s.ctx, s.environ, s.out, s.err) }

type dnsCmd struct{}

func (dnsCmd) Run(s *session) error { return boot.DNS.Run(s.ctx, s.environ, s.out, s.err) }

type migrateCmd struct{}

func (migrateCmd) Run(s *session) error { return boot.Migrate(s.ctx, s.environ, s.out, s.err) }

type jobsCmd struct {
	Run jobsRunCmd `cmd:"" help:"Run one job once: probe, deliver, expire, compact, compare or reconcile."`
}

type jobsRunCmd struct {
	Name string `arg:"" help:"probe, deliver, expire, compact, compare or reconcile."`
}

func (c jobsRunCmd) Run(s *session) error { return boot.RunJob(s.ctx, c.Name, s.environ, s.err) }

type versionCmd struct{}

func (versionCmd) Run(s *session) error {
	_, err := fmt.Fprintln(s.out, "rollcall", boot.Version())
	return err
}
