// Package migrations brings the keys of Rollcall in a Redis to the schema that this
// program works with. Most changes need none: a new field that is missing means what
// it meant before. A step is for keys that are renamed, re-indexed or restructured, or
// for a change that processes of older versions must not take part in.
//
// Steps are numbered, append-only and idempotent, and run one process at a time: the
// first web or cron of a new version, or rollcall migrate. A step ends the older versions:
// their processes refuse to start, and since schema 2 those that run end within some
// seconds. The proxy's keys are a contract and are never migrated.
package migrations

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// A step changes the keys under a prefix from one version to the next. It may find
// any part of its work done already.
type step func(ctx context.Context, rdb redis.UniversalClient, prefix string) error

// steps lists all there have ever been; steps[n] leads to version n+1.
var steps = []step{
	first,
	keepOldVersionsOut,
	probeFromMemory,
}

// Latest is the version this program works with.
var Latest = len(steps)

var (
	// ErrNewer means that the keys belong to a newer program than this one.
	ErrNewer = errors.New("the schema is newer than this program")
	// ErrBusy means that another process migrates right now.
	ErrBusy = errors.New("another process is migrating")
)

const lockFor = time.Minute

// Version is the version of the keys under a prefix; 0 where there are none.
func Version(ctx context.Context, rdb redis.UniversalClient, prefix string) (int, error) {
	v, err := rdb.Get(ctx, prefix+"schema").Result()
	if errors.Is(err, redis.Nil) {
		return 0, nil
	}
	if err != nil {
		return 0, fmt.Errorf("read the schema version: %w", err)
	}
	n, err := strconv.Atoi(v)
	if err != nil {
		return 0, fmt.Errorf("the schema version in %sschema is %.40q, not a number", prefix, v)
	}
	if n > Latest {
		return n, fmt.Errorf("version %d, this program knows up to %d: %w", n, Latest, ErrNewer)
	}
	return n, nil
}

// Run brings the keys to the latest version, and returns the versions before and
// after. It returns ErrNewer without touching anything, or ErrBusy.
func Run(ctx context.Context, rdb redis.UniversalClient, prefix string) (from, to int, err error) {
	lock, mine := prefix+"migrating", rand.Text()
	got, err := rdb.SetNX(ctx, lock, mine, lockFor).Result()
	if err != nil {
		return 0, 0, fmt.Errorf("lock the schema: %w", err)
	}
	if !got {
		return 0, 0, ErrBusy
	}
	defer func() {
		if e := unlock.Run(context.WithoutCancel(ctx), rdb, []string{lock}, mine).Err(); err == nil && e != nil {
			err = fmt.Errorf("unlock the schema: %w", e)
		}
	}()
	if from, err = Version(ctx, rdb, prefix); err != nil {
		return from, from, err
	}
	for to = from; to < Latest; {
		if err := steps[to](ctx, rdb, prefix); err != nil {
			return from, to, fmt.Errorf("step %d: %w", to+1, err)
		}
		to++
		if err := rdb.Set(ctx, prefix+"schema", to, 0).Err(); err != nil {
			return from, to - 1, fmt.Errorf("write the schema version: %w", err)
		}
	}
	return from, to, nil
}

var unlock = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)
