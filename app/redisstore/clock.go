package redisstore

import (
	"context"
	_ "embed"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long workers or web processes may be silent before deadlines
// count it as an outage.
const patience = 3 * time.Second

var (
	//go:embed lua/tick.lua
	tickSource string

	tickScript = redis.NewScript(tickSource)
)

// Role is who advances the clock that deadlines are kept on.
type Role string

// The roles. Once is a worker that an outside scheduler runs now and then.
const (
	Worker Role = "worker"
	Web    Role = "web"
	Once   Role = "once"
)

// Now is the Redis server's time, as far as this process knows.
func (s *Store) Now() time.Time { return s.now().Add(time.Duration(s.offset.Load())) }

// SyncClock measures how far the Redis server's clock is from ours. The quickest of
// a few answers counts: the first may have had to wait for a connection.
func (s *Store) SyncClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var offset, best time.Duration
	for n := range 3 {
		before := s.now()
		theirs, err := s.rdb.Time(ctx).Result()
		if err != nil {
			return wrap("read the time", err)
		}
		if took := s.now().Sub(before); n == 0 || took < best {
			best, offset = took, theirs.Sub(before.Add(took/2))
		}
	}
	s.offset.Store(int64(offset))
	return nil
}

// Tick says that this process is at work, and returns the outage that has ended with
// it: deadlines have been extended by that much. Zero means there was none.
func (s *Store) Tick(ctx context.Context, as Role) (outage time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// What is sent to a server that hangs is carried out when it wakes up, and would have
	// it believe that somebody was at work all the while: it is only told when it answers.
	if err := s.rdb.Ping(ctx).Err(); err != nil {
		return 0, wrap("tick", err)
	}
	ms, err := tickScript.Run(ctx, s.rdb, []string{s.keys.clock()},
		s.Now().UnixMilli(), patience.Milliseconds(), string(as)).Int64()
	if err != nil {
		return 0, wrap("tick", err)
	}
	return milliseconds(ms), nil
}
