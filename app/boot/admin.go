package boot

import (
	"context"
	"errors"
	"fmt"
	"io"

	"rollcall/app"
	"rollcall/migrations"
)

// ErrUnwell means that the doctor has found errors; they have been printed.
var ErrUnwell = errors.New("not well")

// Doctor prints what is wrong with the Redis and the keys in it, and what to do.
func Doctor(ctx context.Context, environ []string, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		var findings []app.Finding
		_, err := migrations.Version(ctx, p.rdb, p.config.Prefix)
		if errors.Is(err, migrations.ErrNewer) {
			findings = append(findings, app.Finding{Severity: app.Error, What: err.Error(), Fix: "deploy the newer Rollcall everywhere"})
		} else if err != nil {
			return err
		}
		more, err := p.store.Examine(ctx)
		if err != nil {
			return err
		}
		sick := 0
		for _, f := range append(findings, more...) {
			if f.Severity == app.Error {
				sick++
			}
			if _, err := fmt.Fprintf(out, "%-7s  %s\n         -> %s\n", f.Severity, f.What, f.Fix); err != nil {
				return err
			}
		}
		if sick > 0 {
			return fmt.Errorf("%w: %d of %d findings are errors", ErrUnwell, sick, len(findings)+len(more))
		}
		_, err = fmt.Fprintf(out, "no errors; remember that Rollcall cannot see Hipache's settings: leave its lruCache off\n")
		return err
	})
}

// Export prints every instance as a line of JSON.
func Export(ctx context.Context, environ []string, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		_, err := p.store.Export(ctx, out)
		return err
	})
}

// Import adds the instances of an export that are not known.
func Import(ctx context.Context, environ []string, in io.Reader, out, logs io.Writer) error {
	return withRedis(ctx, environ, logs, func(p *Process) error {
		added, read, err := p.store.Import(ctx, in)
		if err != nil {
			return fmt.Errorf("import: %w", err)
		}
		_, err = fmt.Fprintf(out, "%d of %d instances added\n", added, read)
		return err
	})
}

// withRedis does something with the parts of a process that has no role.
func withRedis(ctx context.Context, environ []string, logs io.Writer, do func(*Process) error) error {
	c, err := Load(environ)
	if err != nil {
		return err
	}
	if c.RedisURL == "" {
		return errors.New("config: REDIS_URL is not set: this works on the Redis itself")
	}
	p, err := open(ctx, c, newLog(logs, c, true))
	if err != nil {
		return err
	}
	defer p.Close()
	return do(p)
}
