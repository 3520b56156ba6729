package migrations

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// probeFromMemory ends the processes of schema 2, which claim due instances from queues. Since schema 3 each worker owns
// shards of the registry. The scripts of schema 2 read the hash ticks before they write, and end at the string in its place with
// WRONGTYPE. The step deletes the queues, because the owner of an instance knows its due time. Grace, lease, drain and
// forget periods begin anew, so that none is shortened.
func probeFromMemory(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	if err := rdb.Set(ctx, prefix+"ticks", "no longer used since schema 3", 0).Err(); err != nil {
		return fmt.Errorf("block ticks: %w", err)
	}
	if err := rdb.Unlink(ctx, prefix+"due", prefix+"deadlines", prefix+"overrides").Err(); err != nil {
		return fmt.Errorf("delete the queues: %w", err)
	}
	return nil
}
