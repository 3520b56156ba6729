package migrations

import (
	"context"
	"fmt"

	"github.com/redis/go-redis/v9"
)

// keepOldVersionsOut renames the keys that processes of schema 1 read before they write, and leaves strings under the old
// names. Processes of schema 1 drop unknown fields of a document, and fail an instance if its check has no kind. They refuse
// to start on schema 2, but a running one does not read the schema again. Each of its scripts that claims, commits, renews a
// lease, rewrites a list or delivers to a webhook ends at the string with WRONGTYPE, before its first write.
func keepOldVersionsOut(ctx context.Context, rdb redis.UniversalClient, prefix string) error {
	for _, key := range []struct{ was, is string }{
		{"clock", "ticks"},
		{"vhosts", "hosts"},
		{"webhooks", "subscriptions"},
	} {
		if err := renameAndBlock.Run(ctx, rdb, []string{prefix + key.was, prefix + key.is}).Err(); err != nil {
			return fmt.Errorf("rename %s to %s: %w", key.was, key.is, err)
		}
	}
	return nil
}

// KEYS[1]  the old name: a key of another type than string, or none, or the string already
// KEYS[2]  the new name
var renameAndBlock = redis.NewScript(`
local kind = redis.call('TYPE', KEYS[1]).ok
if kind == 'string' then return 0 end
if kind ~= 'none' then redis.call('RENAME', KEYS[1], KEYS[2]) end
redis.call('SET', KEYS[1], 'moved to ' .. KEYS[2] .. ' with schema 2')
return 1`)
