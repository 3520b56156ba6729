package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// beginning is the revision before the first event.
const beginning app.Revision = "0-0"

const (
	pollFor    = 500 * time.Millisecond // how long one read of the stream waits for news
	batch      = 1000                   // entries or documents read at once
	retryAfter = 200 * time.Millisecond // after Redis was away
)

var (
	// errOther means that this is another registry than the one that was loaded:
	// emptied, or restored from a copy.
	errOther = errors.New("the registry was replaced")
	// errMissed means that the event that the snapshot stands on is not there any more:
	// the stream was cut while we were away, or lost its end in a failover.
	errMissed = errors.New("events are missing")
)

// Follow keeps a snapshot up to date until the context is over. It reads everything
// once, then the events; it reads everything again whenever it may have missed one.
func (s *Store) Follow(ctx context.Context, snapshot *app.Snapshot) {
	for first := true; ctx.Err() == nil; first = false {
		loaded, err := s.follow(ctx, snapshot)
		if ctx.Err() != nil {
			return
		}
		if loaded || first { // not with every attempt
			s.log.WarnContext(ctx, "the registry is read anew", "err", err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}

func (s *Store) follow(ctx context.Context, snapshot *app.Snapshot) (loaded bool, err error) {
	epoch, err := s.epoch(ctx)
	if err != nil {
		return false, err
	}
	last, err := s.lastEvent(ctx)
	if err != nil {
		return false, err
	}
	events, err := s.history(ctx, last)
	if err != nil {
		return false, err
	}
	instances, err := s.All(ctx)
	if err != nil {
		return false, err
	}
	// What was written while we read is in the stream after last: it is applied
	// before the first Heard.
	snapshot.Reset(instances, last, events...)
	for wait := time.Duration(-1); ; wait = pollFor { // the first read does not wait: reads are answered after it
		asked := time.Now()
		entries, err := s.read(ctx, last, wait)
		if err != nil {
			return true, err
		}
		if err := s.unbroken(ctx, epoch, last); err != nil {
			return true, err
		}
		if n := len(entries); n > 0 {
			snapshot.Apply(entries)
			last = entries[n-1].Event.Revision
		}
		if len(entries) < batch {
			snapshot.Heard(asked)
		}
	}
}

// unbroken makes sure that what was just read is the continuation of what was read
// before: from the same registry, and without a gap.
func (s *Store) unbroken(ctx context.Context, epoch string, last app.Revision) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var now *redis.StringCmd
	var there *redis.XMessageSliceCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		now = p.Get(ctx, s.keys.epoch())
		there = p.XRange(ctx, s.keys.events(), string(last), string(last))
		return nil
	})
	switch err := failed(cmds, err, noValue); {
	case err != nil:
		return wrap("read the epoch", err)
	case now.Val() != epoch:
		return errOther
	case last != beginning && len(there.Val()) == 0:
		return errMissed
	}
	return nil
}

// read returns the events after a revision, for which it waits a moment; not at all when
// wait is negative.
func (s *Store) read(ctx context.Context, after app.Revision, wait time.Duration) ([]app.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, pollFor+s.timeout)
	defer cancel()
	streams, err := s.rdb.XRead(ctx, &redis.XReadArgs{
		Streams: []string{s.keys.events(), string(after)}, Count: batch, Block: wait,
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
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	newest, err := s.rdb.XRevRangeN(ctx, s.keys.events(), "+", "-", 1).Result()
	if err != nil {
		return "", wrap("read the last event", err)
	}
	if len(newest) == 0 {
		return beginning, nil
	}
	return app.Revision(newest[0].ID), nil
}

// history reads some of the events until a revision, oldest first and without a gap.
func (s *Store) history(ctx context.Context, until app.Revision) (events []app.Event, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	newest, err := s.rdb.XRevRangeN(ctx, s.keys.events(), string(until), "-", batch).Result()
	if err != nil {
		return nil, wrap("read the last events", err)
	}
	for _, m := range newest {
		e, err := decodeEntry(m.ID, map[string]any{"event": m.Values["event"]})
		if err != nil {
			break // nobody depends on what came before it
		}
		events = append(events, e.Event)
	}
	slices.Reverse(events)
	return events, nil
}

// epoch names the registry.
func (s *Store) epoch(ctx context.Context) (string, error) { return s.random(ctx, s.keys.epoch()) }

// random is a text that nobody can guess; it is made when there is none.
func (s *Store) random(ctx context.Context, key string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	text, err := s.rdb.Get(ctx, key).Result()
	if errors.Is(err, redis.Nil) {
		if err = s.rdb.SetNX(ctx, key, rand.Text()+rand.Text(), 0).Err(); err == nil {
			text, err = s.rdb.Get(ctx, key).Result()
		}
	}
	if err != nil {
		return "", wrap("read "+key, err)
	}
	return text, nil
}

// All reads every instance, without due times and deadlines.
func (s *Store) All(ctx context.Context) ([]app.Instance, error) {
	ids, err := s.ids(ctx)
	if err != nil {
		return nil, err
	}
	var instances []app.Instance
	for chunk := range slices.Chunk(ids, batch) {
		docs, err := s.documents(ctx, chunk)
		if err != nil {
			return nil, err
		}
		for j, doc := range docs {
			text, ok := doc.(string)
			if !ok {
				continue // gone between the two reads
			}
			i, err := decode(chunk[j], text)
			if err != nil { // the others are not to wait for it
				s.log.ErrorContext(ctx, "an instance cannot be read and is left out", "instance", chunk[j], "err", err)
				continue
			}
			instances = append(instances, i)
		}
	}
	return instances, nil
}

// ids lists the ids of all instances.
func (s *Store) ids(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	services, err := s.rdb.SMembers(ctx, s.keys.services()).Result()
	if err != nil {
		return nil, wrap("list services", err)
	}
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range services {
			p.SMembers(ctx, s.keys.service(name))
		}
		return nil
	})
	if err != nil {
		return nil, wrap("list instances", err)
	}
	var ids []string
	for _, cmd := range cmds {
		ids = append(ids, cmd.(*redis.StringSliceCmd).Val()...)
	}
	return ids, nil
}

func (s *Store) documents(ctx context.Context, ids []string) ([]any, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	names := make([]string, len(ids))
	for n, id := range ids {
		names[n] = s.keys.instance(id)
	}
	docs, err := s.rdb.MGet(ctx, names...).Result()
	if err != nil {
		return nil, wrap("get instances", err)
	}
	return docs, nil
}

// Wakes calls wake whenever something becomes due at once, until the context is
// over. A call may be missing while Redis is away, and there may be one too many.
func (s *Store) Wakes(ctx context.Context, wake func()) {
	sub := s.rdb.Subscribe(ctx, s.keys.wake())
	defer sub.Close()
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
