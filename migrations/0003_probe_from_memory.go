package migrations

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// probeFromMemory ends the processes of schema 2, which claim what is due from queues: since
// schema 3 each worker owns shards of the registry. Their scripts read the hash ticks before
// they write anything, and end at the string in its place with WRONGTYPE. The queues are
// deleted: the owner of an instance knows what is due. Grace, lease, drain and forget periods
// begin anew, so that none is shortened.
func probeFromMemory(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	if err := rdb.Set(ctx, prefix+"ticks", "no longer used since schema 3", 0).Err(); err != nil {
		return fmt.Errorf("block ticks: %w", err)
	}
	if err := rdb.Unlink(ctx, prefix+"due", prefix+"deadlines", prefix+"overrides").Err(); err != nil {
		return fmt.Errorf("delete the queues: %w", err)
	}
	return nil
}
