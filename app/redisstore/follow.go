package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

const (
	pollFor    = 500 * time.Millisecond // how long one read of the stream waits for news
	batch      = 1000                   // entries or documents read at once
	retryAfter = 200 * time.Millisecond // after Redis was away
)

// errOther means that this is another registry than the one that was loaded:
// emptied, restored or failed over to a replica that had not heard everything.
var errOther = errors.New("the registry was replaced")

// Follow keeps a snapshot up to date until the context is over. It reads everything
// once, then the events; it reads everything again whenever it may have missed one.
func (s *Store) Follow(ctx context.Context, snapshot *app.Snapshot) {
	for ctx.Err() == nil {
		err := s.follow(ctx, snapshot)
		if ctx.Err() != nil {
			return
		}
		s.log.WarnContext(ctx, "the registry is read anew", "err", err)
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}

func (s *Store) follow(ctx context.Context, snapshot *app.Snapshot) error {
	epoch, err := s.epoch(ctx)
	if err != nil {
		return err
	}
	last, err := s.lastEvent(ctx)
	if err != nil {
		return err
	}
	instances, err := s.All(ctx)
	if err != nil {
		return err
	}
	// What was written while we read is in the stream after last: it is applied
	// before the first Heard.
	snapshot.Reset(instances, last)
	for {
		asked := time.Now()
		entries, err := s.read(ctx, last)
		if err != nil {
			return err
		}
		if n := len(entries); n > 0 {
			snapshot.Apply(entries)
			last = entries[n-1].Event.Revision
		}
		if len(entries) < batch {
			now, err := s.epoch(ctx)
			if err != nil {
				return err
			}
			if now != epoch {
				return errOther
			}
			snapshot.Heard(asked)
		}
	}
}

// read waits a moment for events after a revision.
func (s *Store) read(ctx context.Context, after app.Revision) ([]app.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, pollFor+callTimeout)
	defer cancel()
	streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{
		Streams: []string{s.keys.events(), string(after)}, Count: batch, Block: pollFor,
	}).Result()
	if errors.Is(err, redis.Nil) {
		return nil, nil
	}
	if err != nil {
		return nil, wrap("read events", err)
	}
	var entries []app.Entry
	for _, m := range streams[0].Messages {
		e, err := decodeEntry(m.ID, m.Values)
		if err != nil {
			return nil, err
		}
		entries = append(entries, e)
	}
	return entries, nil
}

func (s *Store) lastEvent(ctx context.Context) (app.Revision, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	newest, err := s.rdb.XRevRangeN(ctx, s.keys.events(), "+", "-", 1).Result()
	if err != nil {
		return "", wrap("read the last event", err)
	}
	if len(newest) == 0 {
		return "0-0", nil
	}
	return app.Revision(newest[0].ID), nil
}

// epoch names the registry; it is made when there is none.
func (s *Store) epoch(ctx context.Context) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	epoch, err := s.rdb.Get(ctx, s.keys.epoch()).Result()
	if errors.Is(err, redis.Nil) {
		if err = s.rdb.SetNX(ctx, s.keys.epoch(), rand.Text(), 0).Err(); err == nil {
			epoch, err = s.rdb.Get(ctx, s.keys.epoch()).Result()
		}
	}
	if err != nil {
		return "", wrap("read the epoch", err)
	}
	return epoch, nil
}

// All reads every instance, without due times and deadlines.
func (s *Store) All(ctx context.Context) ([]app.Instance, error) {
	services, err := s.rdb.SMembers(ctx, s.keys.services()).Result()
	if err != nil {
		return nil, wrap("list services", err)
	}
	var ids []string
	for _, name := range services {
		members, err := s.rdb.HVals(ctx, s.keys.service(name)).Result()
		if err != nil {
			return nil, wrap("list instances of "+name, err)
		}
		ids = append(ids, members...)
	}
	var instances []app.Instance
	for len(ids) > 0 {
		n := min(len(ids), batch)
		names := make([]string, n)
		for j, id := range ids[:n] {
			names[j] = s.keys.instance(id)
		}
		docs, err := s.rdb.MGet(ctx, names...).Result()
		if err != nil {
			return nil, wrap("get instances", err)
		}
		for j, doc := range docs {
			text, ok := doc.(string)
			if !ok {
				continue // gone between the two reads
			}
			i, err := decode(ids[j], text)
			if err != nil {
				return nil, fmt.Errorf("get instances: %w", err)
			}
			instances = append(instances, i)
		}
		ids = ids[n:]
	}
	return instances, nil
}

// Wakes calls wake whenever something becomes due at once, until the context is
// over. A call may be missing while Redis is away, and there may be one too many.
func (s *Store) Wakes(ctx context.Context, wake func()) {
	sub := s.rdb.Subscribe(ctx, s.keys.wake())
	defer sub.Close() //nolint:errcheck // nothing to do about it
	for {
		select {
		case <-ctx.Done():
			return
		case _, open := <-sub.Channel():
			if !open {
				return
			}
			wake()
		}
	}
}
