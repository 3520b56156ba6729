package jobs

import (
	"context"
	"time"
)

// Compact returns the job that takes backends out of the proxy's lists once they
// have been marked for the settle time.
func Compact(compact func(context.Context) (int, error)) Job {
	return Job{Name: "compact", Every: time.Second, Timeout: 10 * time.Second, Run: func(ctx context.Context) error {
		_, err := compact(ctx)
		return err
	}}
}
