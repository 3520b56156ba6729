// Package migrations brings the keys of Rollcall in a Redis to the schema of this program. Most changes need no step,
// because a missing new field means the previous behaviour. A step renames, re-indexes or restructures keys, or makes
// a change in which processes of older versions must not take part.
//
// Steps are numbered, append-only and idempotent. One process at a time runs them: the first web or cron of a new version, or
// rollcall migrate. A process refuses to start on a newer schema. A running process of an older version goes on if every step
// since its schema is additive, and ends within seconds otherwise. The keys of the proxy are a contract and are never migrated.
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

// A step changes the keys under a prefix from one version to the next. A part of its work may already be done.
type step struct {
	run func(ctx context.Context, rdb redis.UniversalClient, prefix string) error

	// additive means that running processes of the version before may go on: they read and write all keys as before.
	additive bool
}

// steps are all steps; steps[n] leads to version n+1.
var steps = []step{
	{run: first},
	{run: keepOldVersionsOut},
	{run: probeFromMemory},
}

// Latest is the schema version of this program.
var Latest = len(steps)

var (
	// ErrNewer means that the keys belong to a newer program than this one.
	ErrNewer = errors.New("the schema is newer than this program")
	// ErrBusy means that another process is migrating.
	ErrBusy = errors.New("another process is migrating")
)

const lockFor = time.Minute

// oldest returns the lowest version whose running processes may go on beside the schema of the given version.
func oldest(all []step, version int) int {
	for version > 1 && all[version-1].additive {
		version--
	}
	return version
}

// MayGoOn reports whether a running process of this program may go on beside a newer schema. Only the newer program knows:
// Run wrote the answer.
func MayGoOn(ctx context.Context, rdb redis.UniversalClient, prefix string) (bool, error) {
	v, err := rdb.Get(ctx, prefix+"schema:oldest").Int()
	if errors.Is(err, redis.Nil) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read the oldest version of the schema: %w", err)
	}
	return v <= Latest, nil
}

// Version returns the schema version of the keys under a prefix; 0 if there are no keys.
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

// Run brings the keys to the latest version, and returns the versions before and after. It returns ErrNewer without a
// change, or ErrBusy.
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
	return runSteps(ctx, rdb, prefix)
}

// runSteps runs the steps from the schema's version to Latest. The caller holds the lock.
func runSteps(ctx context.Context, rdb redis.UniversalClient, prefix string) (from, to int, err error) {
	if from, err = Version(ctx, rdb, prefix); err != nil {
		return from, from, err
	}
	for to = from; to < Latest; {
		if err := steps[to].run(ctx, rdb, prefix); err != nil {
			return from, to, fmt.Errorf("step %d: %w", to+1, err)
		}
		to++
		if err := rdb.MSet(ctx, prefix+"schema", to, prefix+"schema:oldest", oldest(steps, to)).Err(); err != nil {
			return from, to - 1, fmt.Errorf("write the schema version: %w", err)
		}
	}
	return from, to, nil
}

var unlock = redis.NewScript(`
if redis.call('GET', KEYS[1]) == ARGV[1] then return redis.call('DEL', KEYS[1]) end
return 0`)
