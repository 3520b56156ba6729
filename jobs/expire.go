package jobs

import (
	"context"
	"errors"
	"log/slog"
	"math/rand/v2"
	"time"

	"rollcall/app"
)

// Ending is a queue of what ends by itself, and the verb that ends it.
type Ending struct {
	Queue app.Queue
	End   func(context.Context, app.Claim) error
}

// leaveFor is how long the ending of an instance that this version does not understand is left
// to newer workers. It is random because their ticks come at the same time as this one's.
func leaveFor() time.Duration { return time.Second/2 + rand.N(time.Second) } //nolint:gosec // nothing secret

// Expire returns the job that ends what has a deadline: states and overrides. tick
// advances the clock that the deadlines of states are kept on and returns the outage
// that has just ended, by which they have been extended.
func Expire(endings []Ending, now func() time.Time, tick func(context.Context) (time.Duration, error), log *slog.Logger) Job {
	extending := false // said so already; no run overlaps another
	run := func(ctx context.Context) error {
		outage, err := tick(ctx)
		if err != nil {
			return err
		}
		if outage > 0 && !extending {
			log.WarnContext(ctx, "deadlines extended: the registry could not be reached", "outage", outage)
		}
		extending = outage > 0
		for _, e := range endings {
			if err := e.run(ctx, now()); err != nil {
				return err
			}
		}
		return nil
	}
	return Job{Name: "expire", Every: time.Second, Timeout: 10 * time.Second, Run: run}
}

func (e Ending) run(ctx context.Context, now time.Time) error {
	for {
		claims, err := e.Queue.Claim(ctx, now, claimed)
		if err != nil {
			return err
		}
		for _, c := range claims {
			if !c.Instance.Understood() {
				if err := e.Queue.Settle(ctx, []app.Settlement{{Claim: c, Due: now.Add(leaveFor())}}); err != nil {
					return err
				}
				continue
			}
			// Lost or changed meanwhile: somebody renewed it or wrote it, which is well.
			err := e.End(ctx, c)
			if err != nil && !errors.Is(err, app.ErrClaimLost) && !errors.Is(err, app.ErrConflict) {
				return err
			}
		}
		if len(claims) < claimed {
			return nil
		}
	}
}
