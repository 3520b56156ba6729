package jobs

import (
	"context"
	"time"
)

// Beacon returns the job that tells the proxies that health is being checked, as
// long as the sweeps of due probes finish on time: a checker that has stalled hands
// marking back to the proxies by falling silent.
func Beacon(every time.Duration, swept, now func() time.Time, shine func(context.Context, time.Time) error) Job {
	return Job{Name: "beacon", Every: every, Timeout: 5 * time.Second, Run: func(ctx context.Context) error {
		if now().Sub(swept()) > every {
			return nil
		}
		return shine(ctx, now())
	}}
}
