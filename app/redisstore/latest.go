package redisstore

import (
	"context"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
)

// LastResults returns the last flushed result of each of the instances. An instance without one, such as one that sends
// heartbeats, is absent. It reads the records of their shards in one round trip and does not ask the owners to flush them,
// so a result may be as old as the interval of the flushes.
func (s *Store) LastResults(ctx context.Context, ids []string) (map[string]app.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	wanted, records := make(map[string]bool, len(ids)), map[int]*redis.StringCmd{}
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, id := range ids {
			wanted[id] = true
			if shard := ownership.ShardOf(id); records[shard] == nil {
				records[shard] = p.Get(ctx, s.keys.record(shard))
			}
		}
		return nil
	})
	if err := failed(cmds, err, func(err error) bool { return noValue(err) || wrongType(err) }); err != nil {
		return nil, wrap("read the last results", err)
	}
	last := make(map[string]app.Result, len(ids))
	for _, record := range records {
		addLastResults(last, []byte(record.Val()), wanted)
	}
	return last, nil
}

// addLastResults adds the last results of the wanted instances in a record. The owner logs a record that it cannot read.
func addLastResults(last map[string]app.Result, record []byte, wanted map[string]bool) {
	_, entries, _ := ownership.ReadRecord(record)
	for p := range entries {
		if !wanted[p.ID] || len(p.History) == 0 {
			continue
		}
		var h app.History
		h.Unpack(p.History)
		if results := h.Results(); len(results) > 0 {
			last[p.ID] = results[len(results)-1]
		}
	}
}
