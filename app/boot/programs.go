package boot

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rollcall/jobs/schedule"
	"rollcall/migrations"
)

// Program is a long-running program.
type Program struct {
	Roles    Roles
	MayEmbed bool // starts the embedded Redis without REDIS_URL
	Text     bool // logs as text, and prints a greeting
}

// The programs.
var (
	Web   = Program{Roles: Roles{Web: true}}
	Cron  = Program{Roles: Roles{Cron: true}}
	Edge  = Program{Roles: Roles{Edge: true}}
	DNS   = Program{Roles: Roles{DNS: true}}
	Serve = Program{Roles: Roles{Web: true, Cron: true}, MayEmbed: true}
	Dev   = Program{Roles: Roles{Web: true, Cron: true, Edge: true}, MayEmbed: true, Text: true}
)

// Run runs a program until its context is over.
func (g Program) Run(ctx context.Context, environ []string, out, logs io.Writer) error {
	c, err := g.load(environ)
	if err != nil {
		return err
	}
	p, err := New(ctx, c, g.rolesIn(c), g.MayEmbed, newLog(logs, c, g.Text))
	if err != nil {
		return unlessStopped(ctx, err)
	}
	if g.Text {
		if err := p.greet(out); err != nil {
			p.Close()
			return err
		}
	}
	return p.Run(ctx)
}

// unlessStopped returns the error of a start, or nil if the process was stopped before it served.
func unlessStopped(ctx context.Context, err error) error {
	if ctx.Err() != nil && errors.Is(err, ctx.Err()) {
		return nil
	}
	return err
}

func (g Program) load(environ []string) (Config, error) {
	if g.Roles == Edge.Roles {
		return LoadEdge(environ)
	}
	return Load(environ)
}

// rolesIn returns the program's roles. The programs serve and dev answer DNS if a port is configured.
func (g Program) rolesIn(c Config) Roles {
	roles := g.Roles
	roles.DNS = roles.DNS || g.MayEmbed && c.DNSPort != nil
	return roles
}

// greet prints the addresses and a first call.
func (p *Process) greet(out io.Writer) error {
	header := ""
	if p.tokens.Required() {
		header = ` -H "Authorization: Bearer $ROLLCALL_ADMIN_TOKEN"`
	}
	redis := "REDIS_URL"
	if a := p.RedisAddr(); a != "" {
		redis = a + "  (embedded: nothing is kept when this ends)"
	}
	_, err := fmt.Fprintf(out, `
Rollcall is up.

  API    http://%[1]s  (and the status page, for a browser)
  edge   http://%[2]s  (what browsers talk to)
  Redis  %[3]s

Register a server and reach it through the edge:

  python3 -m http.server 9000 &
  curl%[4]s -d service=files -d port=9000 -d host=files.localhost -d health=/ 'http://%[1]s/v1/register?wait=10s'
  curl -H 'Host: files.localhost' http://%[2]s/

`, p.WebAddr(), p.EdgeAddr(), redis, header)
	return err
}

// Migrate brings the keys to the schema of this program.
func Migrate(ctx context.Context, environ []string, out, logs io.Writer) error {
	c, err := Load(environ)
	if err != nil {
		return err
	}
	if c.RedisURL == "" {
		return fmt.Errorf("config: REDIS_URL is not set: set it to the Redis whose keys are to be migrated")
	}
	rdb, err := connect(ctx, c.RedisURL, awaitRedis, newLog(logs, c, false))
	if err != nil {
		return err
	}
	defer rdb.Close()
	from, to, err := migrations.Run(ctx, rdb, c.Prefix)
	if err != nil {
		return fmt.Errorf("migrate: %w", err)
	}
	_, err = fmt.Fprintf(out, "schema %d -> %d\n", from, to)
	return err
}

// RunJob runs one job once, for platforms without long-running workers.
func RunJob(ctx context.Context, name string, environ []string, logs io.Writer) error {
	c, err := Load(environ)
	if err != nil {
		return err
	}
	p, err := New(ctx, c, Roles{}, false, newLog(logs, c, false))
	if err != nil {
		return err
	}
	defer p.Close()
	runner := p.onDemand()
	if err := runner.RunOnce(ctx, name); err != nil {
		return fmt.Errorf("job %s: %w", name, err)
	}
	return nil
}

// ErrUnknownJob means that the job does not exist.
var ErrUnknownJob = schedule.ErrUnknownJob
