package jobs

import (
	"context"
	"log/slog"
	"time"

	"rollcall/app"
)

// compared bounds how many vhosts one run of Compare goes through: 20,000 are compared
// within 4 s, and more take longer.
const compared = 10_000

// Reconcile returns the job that compares the registry with the lists, queues and
// indexes made from it, and says what it had to mend.
func Reconcile(reconcile func(context.Context) (app.Repairs, error), log *slog.Logger) Job {
	return Job{Name: "reconcile", Every: 30 * time.Second, Timeout: time.Minute, Run: mending(reconcile, log)}
}

// Compare returns the job that looks for lists that somebody else changed, and says what
// it had to mend. next compares so many vhosts with each call, and begins after the last.
func Compare(next func(ctx context.Context, budget int) (app.Repairs, error), log *slog.Logger) Job {
	run := func(ctx context.Context) (app.Repairs, error) { return next(ctx, compared) }
	return Job{Name: "compare", Every: 2 * time.Second, Timeout: 10 * time.Second, Run: mending(run, log)}
}

func mending(mend func(context.Context) (app.Repairs, error), log *slog.Logger) func(context.Context) error {
	return func(ctx context.Context) error {
		repairs, err := mend(ctx)
		if !repairs.None() {
			log.WarnContext(ctx, "registry and routing lists differed and were mended", "lists", repairs.Lists,
				"wrong_type", repairs.WrongType, "instances", repairs.Instances, "orphans", repairs.Orphans)
		}
		return err
	}
}
