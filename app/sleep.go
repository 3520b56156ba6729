package app

import (
	"context"
	"time"
)

// Sleep waits for a time. It returns the error of ctx if that is done earlier.
func Sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}
