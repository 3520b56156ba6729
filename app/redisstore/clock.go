package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
)

// A reading is the time of the Redis server's clock at a moment of this process's clock.
type reading struct{ theirs, ours time.Time }

// at returns the server's time at another local moment. It uses the monotonic clock, so a step of this machine's clock
// has no effect.
func (r reading) at(ours time.Time) time.Time { return r.theirs.Add(ours.Sub(r.ours)) }

// Now returns the Redis server's time as of the last reading. Before SyncClock it returns this machine's time.
func (s *Store) Now() time.Time {
	if r := s.clock.Load(); r != nil {
		return r.at(s.now())
	}
	return s.now()
}

// readClock reads the Redis server's time. It also returns the duration of the call.
func (s *Store) readClock(ctx context.Context) (r reading, took time.Duration, err error) {
	before := s.now()
	r.theirs, err = s.rdb.Time(ctx).Result()
	took = s.now().Sub(before)
	r.ours = before.Add(took / 2)
	return r, took, err
}

// SyncClock measures the offset between the Redis server's clock and this machine's clock. It uses the quickest of three
// answers, because the first call may wait for a connection.
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

// Alive records that a web process takes calls. While no web process does, instances cannot report and the periods of
// instances stand still. Call it once a second.
func (s *Store) Alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	before := s.now()
	var clock *redis.TimeCmd
	if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock = p.Time(ctx)
		p.Incr(ctx, s.keys.web())
		return nil
	}); err != nil {
		return s.noteRefusal(wrap("raise the counter of the web processes", err))
	}
	s.noteClock(clock.Val(), before)
	return s.noteRefusal(nil)
}

// noteRefusal stores the result of a call that is made once a second: nil after a success, and err if Redis refused
// to write. It returns err.
func (s *Store) noteRefusal(err error) error {
	switch {
	case err == nil:
		s.refusal.Store(nil)
	case refused(err):
		s.refusal.Store(&err)
	}
	return err
}

// noteClock takes over the Redis server's time from the answer to a call that began at before. All processes thus follow
// a step of the server's clock.
func (s *Store) noteClock(theirs, before time.Time) {
	took := s.now().Sub(before)
	r := reading{theirs: theirs, ours: before.Add(took / 2)}
	if known := s.clock.Load(); known != nil && r.theirs.Sub(known.at(r.ours)).Abs() > took+time.Millisecond {
		s.clock.Store(&r)
	}
}

// Writable returns the error of the last call of Alive or Own if Redis answered and refused
// to write: a primary without enough replicas, a replica, a full memory or disk. It is
// app.ErrUnavailable. Writable returns nil before the first call, and does not call Redis.
func (s *Store) Writable() error {
	if err := s.refusal.Load(); err != nil {
		return *err
	}
	return nil
}
