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

// reading is what the Redis server's clock said at a moment of ours.
type reading struct{ theirs, ours time.Time }

// at is what it says at another moment of ours, by the monotonic clock: when this
// machine's clock is set, nothing happens.
func (r reading) at(ours time.Time) time.Time { return r.theirs.Add(ours.Sub(r.ours)) }

// Now is the Redis server's time, as far as this process knows: its own, before SyncClock.
func (s *Store) Now() time.Time {
	if r := s.clock.Load(); r != nil {
		return r.at(s.now())
	}
	return s.now()
}

// readClock asks for the Redis server's time, and returns how long that took.
func (s *Store) readClock(ctx context.Context) (r reading, took time.Duration, err error) {
	before := s.now()
	r.theirs, err = s.rdb.Time(ctx).Result()
	took = s.now().Sub(before)
	r.ours = before.Add(took / 2)
	return r, took, err
}

// SyncClock measures how far the Redis server's clock is from ours. The quickest of
// a few answers counts: the first may have had to wait for a connection.
func (s *Store) SyncClock(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var best reading
	var least time.Duration
	for n := range 3 {
		r, took, err := s.readClock(ctx)
		if err != nil {
			return wrap("read the time", err)
		}
		if n == 0 || took < least {
			least, best = took, r
		}
	}
	s.clock.Store(&best)
	return nil
}

// Tick says that this process is at work, and returns the outage that has ended with
// it: deadlines have been extended by that much. Zero means there was none.
func (s *Store) Tick(ctx context.Context, as Role) (outage time.Duration, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	// What is sent to a server that hangs is carried out when it wakes up, and would have
	// it believe that somebody was at work all the while: it is only told when it answers.
	r, took, err := s.readClock(ctx)
	if err != nil {
		return 0, wrap("tick", err)
	}
	// A step of the server's clock must not find processes with different opinions of it.
	if known := s.clock.Load(); known != nil && r.theirs.Sub(known.at(r.ours)).Abs() > took {
		s.clock.Store(&r)
	}
	ms, err := tickScript.Run(ctx, s.rdb, []string{s.keys.clock()},
		s.Now().UnixMilli(), patience.Milliseconds(), string(as)).Int64()
	if err != nil {
		err = wrap("tick", err)
		if refused(err) {
			s.refusal.Store(&err)
		}
		return 0, err
	}
	s.refusal.Store(nil)
	return milliseconds(ms), nil
}

// Writable returns the error of the last Tick if Redis answered and refused to write: a primary
// without enough replicas, a replica, a full memory or disk. It is app.ErrUnavailable.
// Writable returns nil before the first Tick, and does not call Redis.
func (s *Store) Writable() error {
	if err := s.refusal.Load(); err != nil {
		return *err
	}
	return nil
}
