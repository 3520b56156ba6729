package redisstore

import (
	"context"

	"rollcall/app"
)

// Events returns up to limit events after a revision, oldest first. The revisions "0"
// and "0-0" stand for the beginning of what is kept; for any other one that is older
// than that, the answer is an *app.TrimmedError.
func (s *Store) Events(ctx context.Context, after app.Revision, limit int) ([]app.Event, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if after.Compare("0-0") > 0 {
		first, err := s.rdb.XRangeN(ctx, s.keys.events(), "-", "+", 1).Result()
		if err != nil {
			return nil, wrap("read the first event", err)
		}
		if len(first) > 0 && after.Compare(app.Revision(first[0].ID)) < 0 {
			return nil, &app.TrimmedError{First: app.Revision(first[0].ID)}
		}
	}
	messages, err := s.rdb.XRangeN(ctx, s.keys.events(), "("+string(after), "+", int64(limit)).Result()
	if err != nil {
		return nil, wrap("read events", err)
	}
	events := make([]app.Event, len(messages))
	for n, m := range messages {
		entry, err := decodeEntry(m.ID, m.Values)
		if err != nil {
			return nil, err
		}
		events[n] = entry.Event
	}
	return events, nil
}
