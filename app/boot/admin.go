package boot

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rollcall/app/diagnose"
	"rollcall/migrations"
)

// ErrUnwell means that the doctor has found and printed errors.
var ErrUnwell = errors.New("not well")

// Doctor prints the faults of Redis and of the keys in it, and how to repair them.
func Doctor(ctx context.Context, environ []string, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		findings, err := p.examineSchema(ctx)
		if err != nil {
			return err
		}
		more, err := diagnose.Doctor{Source: p.store}.Examine(ctx)
		if err != nil {
			return err
		}
		return printFindings(out, append(findings, more...))
	})
}

// printFindings returns ErrUnwell if a finding is an error.
func printFindings(out io.Writer, findings []diagnose.Finding) error {
	sick := 0
	for _, f := range findings {
		if f.Severity == diagnose.Error {
			sick++
		}
		if _, err := fmt.Fprintf(out, "%-7s  %s\n         -> %s\n", f.Severity, f.Problem, f.Fix); err != nil {
			return err
		}
	}
	if sick > 0 {
		return fmt.Errorf("%w: %d of %d findings are errors", ErrUnwell, sick, len(findings))
	}
	_, err := fmt.Fprintf(out, "no errors; remember that Rollcall cannot see Hipache's settings: leave its lruCache off\n")
	return err
}

func (p *Process) examineSchema(ctx context.Context) ([]diagnose.Finding, error) {
	v, err := migrations.Version(ctx, p.rdb, p.config.Prefix)
	switch {
	case errors.Is(err, migrations.ErrNewer):
		return []diagnose.Finding{{Severity: diagnose.Error, Problem: err.Error(), Fix: "deploy the newer Rollcall everywhere"}}, nil
	case err != nil:
		return nil, err
	case v > 0 && v < migrations.Latest:
		problem := fmt.Sprintf("the schema has version %d, this program works with %d", v, migrations.Latest)
		return []diagnose.Finding{{Severity: diagnose.Warning, Problem: problem, Fix: "run rollcall migrate"}}, nil
	}
	return nil, nil
}

// Export prints every instance as a line of JSON; see redisstore.Store.Export.
func Export(ctx context.Context, environ []string, secrets bool, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		if _, err := migrations.Version(ctx, p.rdb, p.config.Prefix); err != nil {
			return fmt.Errorf("export: %w", err)
		}
		_, err := p.store.Export(ctx, out, secrets)
		return err
	})
}

// Import adds the instances of an export that the registry does not have.
func Import(ctx context.Context, environ []string, in io.Reader, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		if err := p.checkSchema(ctx); err != nil {
			return fmt.Errorf("import: %w", err)
		}
		added, read, err := p.store.Import(ctx, in, p.registry.Import)
		if _, said := fmt.Fprintf(out, "%d of %d instances added\n", added, read); err == nil {
			err = said
		}
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		return nil
	})
}

// withRedis calls do with a process without a role.
func withRedis(ctx context.Context, environ []string, logs io.Writer, do func(*Process) error) error {
	c, err := Load(environ)
	if err != nil {
		return err
	}
	if c.RedisURL == "" {
		return errors.New("config: REDIS_URL is not set: this command reads the Redis itself; set it to the Redis of Rollcall, as in REDIS_URL=redis://127.0.0.1:6390 for make run")
	}
	p, err := open(ctx, c, askRedis, newLog(logs, c, true))
	if err != nil {
		return err
	}
	defer p.Close()
	return do(p)
}
