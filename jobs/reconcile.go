package jobs

import (
	"context"
	"log/slog"
	"time"

	"rollcall/app"
)

// Reconcile returns the job that compares the registry with the lists, queues and
// indexes made from it, and says what it had to mend.
func Reconcile(reconcile func(context.Context) (app.Repairs, error), log *slog.Logger) Job {
	run := func(ctx context.Context) error {
		repairs, err := reconcile(ctx)
		if !repairs.None() {
			log.WarnContext(ctx, "registry and routing lists differed and were mended", "lists", repairs.Lists,
				"wrong_type", repairs.WrongType, "instances", repairs.Instances, "orphans", repairs.Orphans)
		}
		return err
	}
	return Job{Name: "reconcile", Every: 30 * time.Second, Timeout: time.Minute, Run: run}
}
