package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// AppendEvent appends an event that does not concern an instance, and returns its revision.
func (s *Store) AppendEvent(ctx context.Context, e app.Event) (app.Revision, error) {
	doc, err := encodeEvent(e)
	if err != nil {
		return "", err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	id, err := s.rdb.XAdd(ctx, &redis.XAddArgs{
		Stream: s.keys.events(), MaxLen: keepEvents, Approx: true, Values: []string{"event", doc, "doc", ""},
	}).Result()
	if err != nil {
		return "", wrap("add an event", err)
	}
	return app.Revision(id), nil
}

// Events returns up to limit events after a revision, oldest first. The revisions "0" and "0-0" stand for the beginning
// of the stream. Events returns an *app.TrimmedError for any other revision that is older than the stream's first event
// or newer than its last one. A revision is too new if the registry was emptied or restored.
func (s *Store) Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var first, newest, messages *redis.XMessageSliceCmd
	_, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { // one transaction: the stream must not be trimmed in between
		first = p.XRangeN(ctx, s.keys.events(), "-", "+", 1)
		newest = p.XRevRangeN(ctx, s.keys.events(), "+", "-", 1)
		messages = p.XRangeN(ctx, s.keys.events(), "("+string(after), "+", int64(limit))
		return nil
	})
	if err != nil {
		return nil, wrap("read events", err)
	}
	if kept := first.Val(); after.Compare(beginning) > 0 && len(kept) > 0 && after.Compare(app.Revision(kept[0].ID).Before()) < 0 {
		return nil, &app.TrimmedError{First: app.Revision(kept[0].ID)}
	}
	if n := newest.Val(); after.Compare(beginning) > 0 && (len(n) == 0 || after.Compare(app.Revision(n[0].ID)) > 0) {
		lost := &app.TrimmedError{Lost: after}
		if kept := first.Val(); len(kept) > 0 {
			lost.First = app.Revision(kept[0].ID)
		}
		return nil, lost
	}
	events := make([]app.Event, len(messages.Val()))
	for n, m := range messages.Val() {
		entry, _ := decodeEntry(m.ID, m.Values) // Follow reports the error
		events[n] = entry.Event
	}
	return events, nil
}
