package redisstore

import (
	"context"
	"time"

	"github.com/redis/go-redis/v9"
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

// Alive says that a web process is there that takes calls: while there is none, instances
// cannot report, and no period of an instance runs. Call it once a second.
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
		return s.noteRefusal(wrap("say that this process is there", err))
	}
	s.noteClock(clock.Val(), before)
	return s.noteRefusal(nil)
}

// noteRefusal remembers whether Redis answered the last call that is made once a second, and
// refused to write. It returns err.
func (s *Store) noteRefusal(err error) error {
	switch {
	case err == nil:
		s.refusal.Store(nil)
	case refused(err):
		s.refusal.Store(&err)
	}
	return err
}

// noteClock takes the time of the Redis server, which came with the answer to a call that
// began at before. A step of the server's clock must not find processes with different
// opinions of it.
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
