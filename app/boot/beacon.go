package boot

import (
	"context"
	"time"

	"rollcall/jobs/schedule"
)

// beacon returns the job that renews the ping by which the proxies see that Rollcall checks
// health. The job does not renew it while the last finished sweep is older than every. The ping
// then expires, and the proxies mark backends themselves.
func beacon(every time.Duration, swept, now func() time.Time, renew func(context.Context, time.Time) error) schedule.Job {
	return schedule.Job{Name: "beacon", Every: every, Timeout: 5 * time.Second, Run: func(ctx context.Context) error {
		if now().Sub(swept()) > every {
			return nil
		}
		return renew(ctx, now())
	}}
}
