package migrations

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// first is the schema that the first release began with: there is nothing to change,
// only a version to write down.
func first(context.Context, redis.UniversalClient, string) error { return nil }
