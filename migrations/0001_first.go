package migrations

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// first is the schema of the first release. It changes no key; Run records its version.
func first(context.Context, redis.UniversalClient, string) error { return nil }
