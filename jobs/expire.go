package jobs

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"rollcall/app"
)

// Expire returns the job that ends states whose deadline has passed. tick advances
// the clock that deadlines are kept on and returns the outage that has just ended,
// by which they have been extended.
func Expire(deadlines app.Queue, registry *app.Registry, now func() time.Time, tick func(context.Context) (time.Duration, error), log *slog.Logger) Job {
	run := func(ctx context.Context) error {
		outage, err := tick(ctx)
		if err != nil {
			return err
		}
		if outage > 0 {
			log.WarnContext(ctx, "deadlines extended: the registry could not be reached", "outage", outage)
		}
		for {
			claims, err := deadlines.Claim(ctx, now(), claimed)
			if err != nil {
				return err
			}
			for _, c := range claims {
				// Lost or changed meanwhile: somebody renewed it or wrote it, which is well.
				err := registry.Expire(ctx, c)
				if err != nil && !errors.Is(err, app.ErrClaimLost) && !errors.Is(err, app.ErrConflict) {
					return err
				}
			}
			if len(claims) < claimed {
				return nil
			}
		}
	}
	return Job{Name: "expire", Every: time.Second, Timeout: 10 * time.Second, Run: run}
}
