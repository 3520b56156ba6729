package redisstore

import (
	"context"
	"crypto/rand"
	"errors"
	"iter"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/replica"
)

// beginning is the revision before the first event.
const beginning app.Revision = "0-0"

const (
	pollFor    = 500 * time.Millisecond // longest wait of one read of the stream; well below a client's ReadTimeout
	batch      = 1000                   // entries or documents read at once
	retryAfter = 200 * time.Millisecond // pause after an error
	restFor    = time.Millisecond       // pause after a read with events, so that one read gets many events of a burst
)

var (
	// errOther means that the registry is not the loaded one: Redis was emptied, or restored from a copy.
	errOther = errors.New("the registry was replaced")
	// errMissed means that the stream no longer holds the replica's last event. The stream was trimmed while this process
	// was disconnected, or a failover lost its newest events.
	errMissed = errors.New("events are missing")
)

// Follow keeps a replica up to date until ctx is done. It loads the registry once and then reads the events. It loads the
// registry again whenever it may have missed an event.
func (s *Store) Follow(ctx context.Context, rep *replica.Replica) {
	for first := true; ctx.Err() == nil; first = false {
		loaded, err := s.follow(ctx, rep)
		if ctx.Err() != nil {
			return
		}
		if loaded || first { // further failed attempts are not logged
			s.log.WarnContext(ctx, "reading the whole registry again", "err", err)
		}
		select {
		case <-time.After(retryAfter):
		case <-ctx.Done():
		}
	}
}

func (s *Store) follow(ctx context.Context, rep *replica.Replica) (loaded bool, err error) {
	epoch, last, err := s.present(ctx)
	if err != nil {
		return false, err
	}
	events, err := s.history(ctx, last)
	if err != nil {
		return false, err
	}
	var instances []*replica.Compact
	for chunk, err := range s.chunks(ctx) {
		if err != nil {
			return false, err
		}
		for _, i := range chunk {
			instances = append(instances, replica.NewCompact(i))
		}
	}
	// The stream holds the changes made during the load, after last. They are applied before the first SetCurrent.
	rep.Load(instances, last, events...)
	for wait := time.Duration(-1); ; wait = pollFor { // the first read does not wait, because the replica becomes current only after it
		asked := time.Now()
		entries, err := s.read(ctx, epoch, last, wait)
		if err != nil {
			return true, err
		}
		if n := len(entries); n > 0 {
			rep.Apply(entries)
			last = entries[n-1].Event.Revision
		}
		if len(entries) < batch {
			rep.SetCurrent(asked)
		}
		if n := len(entries); n > 0 && n < batch {
			time.Sleep(restFor)
		}
	}
}

// read returns the events after a revision. It waits up to wait for the first event; a negative wait means no wait. In the
// same round trip it verifies that the events continue the previous ones: they come from the same registry, without a
// gap.
func (s *Store) read(ctx context.Context, epoch string, after app.Revision, wait time.Duration) ([]app.Entry, error) {
	ctx, cancel := context.WithTimeout(ctx, pollFor+s.timeout)
	defer cancel()
	var streams *redis.XStreamSliceCmd
	var now *redis.StringCmd
	var there *redis.XMessageSliceCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		streams = p.XRead(ctx, &redis.XReadArgs{Streams: []string{s.keys.events(), string(after)}, Count: batch, Block: wait})
		now = p.Get(ctx, s.keys.epoch())
		there = p.XRange(ctx, s.keys.events(), string(after), string(after))
		return nil
	})
	switch err := failed(cmds, err, noValue); {
	case err != nil:
		return nil, wrap("read events", err)
	case now.Val() != epoch:
		return nil, errOther
	case after != beginning && len(there.Val()) == 0:
		return nil, errMissed
	case len(streams.Val()) == 0:
		return nil, nil
	}
	messages := streams.Val()[0].Messages
	entries := make([]app.Entry, len(messages))
	for n, m := range messages {
		if entries[n], err = decodeEntry(m.ID, m.Values); err != nil { // an unreadable event must not stop the followers
			s.log.ErrorContext(ctx, "an event cannot be read, or the instance in it", "revision", m.ID, "err", err)
		}
	}
	return entries, nil
}

// present returns the epoch of the registry and the revision of its last event.
func (s *Store) present(ctx context.Context) (epoch string, last app.Revision, err error) {
	if epoch, err = s.epoch(ctx); err == nil {
		last, err = s.lastEvent(ctx)
	}
	return epoch, last, err
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

// history reads up to batch events until a revision, oldest first and without a gap.
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
			break // older events are optional
		}
		events = append(events, e.Event)
	}
	slices.Reverse(events)
	return events, nil
}

// epoch returns the random name of the registry.
func (s *Store) epoch(ctx context.Context) (string, error) { return s.random(ctx, s.keys.epoch()) }

// random returns the random secret in a key. It creates the secret if the key does not exist.
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
	var all []app.Instance
	for instances, err := range s.chunks(ctx) {
		if err != nil {
			return nil, err
		}
		all = append(all, instances...)
	}
	return all, nil
}

// chunks reads every instance, in chunks of up to batch. An error ends the sequence.
func (s *Store) chunks(ctx context.Context) iter.Seq2[[]app.Instance, error] {
	return func(yield func([]app.Instance, error) bool) {
		ids, err := s.ids(ctx)
		if err != nil {
			yield(nil, err)
			return
		}
		for chunk := range slices.Chunk(ids, batch) {
			docs, err := s.documents(ctx, chunk)
			if err != nil {
				yield(nil, err)
				return
			}
			if !yield(s.readable(ctx, chunk, docs), nil) {
				return
			}
		}
	}
}

// readable decodes the documents of ids. It logs and skips a document that cannot be read.
func (s *Store) readable(ctx context.Context, ids []string, docs []any) []app.Instance {
	instances := make([]app.Instance, 0, len(docs))
	for n, doc := range docs {
		text, ok := doc.(string)
		if !ok {
			continue // removed between the two reads
		}
		i, err := decode(ids[n], text)
		if err != nil {
			s.log.ErrorContext(ctx, "an instance cannot be read and is left out", "instance", ids[n], "err", err)
			continue
		}
		instances = append(instances, i)
	}
	return instances
}

// ids lists the ids of all instances.
func (s *Store) ids(ctx context.Context) ([]string, error) {
	listing, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	services, err := s.rdb.SMembers(listing, s.keys.services()).Result()
	if err != nil {
		return nil, wrap("list services", err)
	}
	var ids []string
	for some := range slices.Chunk(services, 100) { // services may be large: each chunk has its own timeout
		if ids, err = s.idsOf(ctx, some, ids); err != nil {
			return nil, err
		}
	}
	return ids, nil
}

// idsOf appends the ids of the instances of services.
func (s *Store) idsOf(ctx context.Context, services, ids []string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, name := range services {
			p.SMembers(ctx, s.keys.service(name))
		}
		return nil
	})
	if err != nil {
		return nil, wrap("list instances", err)
	}
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
