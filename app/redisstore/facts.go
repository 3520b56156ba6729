package redisstore

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app/diagnose"
	"rollcall/app/ownership"
	"rollcall/hipache"
)

// sentinelChannel is the channel that every sentinel subscribes to on the primary that it watches.
const sentinelChannel = "__sentinel__:hello"

// noExpiry is the time to live of a key that does not expire.
const noExpiry = -1

// Server reads the INFO of the server, two of its settings and the number of its sentinels.
func (s *Store) Server(ctx context.Context) (diagnose.Server, error) {
	text, err := s.rdb.Info(ctx).Result()
	if err != nil {
		return nil, wrap("read INFO", err)
	}
	server := diagnose.Server{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		server[name] = value
	}
	for _, setting := range []string{"save", "min-replicas-to-write"} {
		if value, err := s.rdb.ConfigGet(ctx, setting).Result(); err == nil { // managed servers refuse CONFIG
			server[setting] = value[setting]
		}
	}
	if watching, err := s.rdb.PubSubNumSub(ctx, sentinelChannel).Result(); err == nil {
		server["sentinels"] = strconv.FormatInt(watching[sentinelChannel], 10)
	}
	return server, nil
}

// Skew returns the time of Redis's clock minus that of this machine's clock.
func (s *Store) Skew(ctx context.Context) (time.Duration, error) {
	if err := s.SyncClock(ctx); err != nil {
		return 0, err
	}
	return s.Now().Sub(s.now()), nil
}

// Workers reads the counters of the workers and web processes, and the terms of the shards.
func (s *Store) Workers(ctx context.Context) (diagnose.Workers, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var workers, shards *redis.MapStringStringCmd
	var web *redis.StringCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		workers, shards, web = p.HGetAll(ctx, s.keys.workers()), p.HGetAll(ctx, s.keys.shards()), p.Get(ctx, s.keys.web())
		return nil
	})
	if err := failed(cmds, err, func(err error) bool { return noValue(err) || wrongType(err) }); err != nil {
		return diagnose.Workers{}, wrap("read the owners of the shards", err)
	}
	w := diagnose.Workers{Counters: workers.Val(), Terms: shards.Val(), Web: web.Val()}
	delete(w.Terms, "version")
	return w, nil
}

// Disputed returns the ids of the disputed instances, sorted. It reads them from the records of the shards, so the
// answer is as old as the last flush.
func (s *Store) Disputed(ctx context.Context) (ids []string, err error) {
	shards := make([]int, ownership.Shards)
	for n := range shards {
		shards[n] = n
	}
	records, err := s.Flushed(ctx, shards)
	if err != nil {
		return nil, err
	}
	for _, record := range records {
		_, entries, _ := ownership.ReadRecord(record) // the owner logs a record that it cannot read
		for p := range entries {
			if p.Dispute {
				ids = append(ids, p.ID)
			}
		}
	}
	slices.Sort(ids)
	return ids, nil
}

// Lists reads the registry and the proxy's lists. It reads key by key, so a write in between can make them disagree.
func (s *Store) Lists(ctx context.Context) (l diagnose.Lists, err error) {
	if l.Instances, err = s.All(ctx); err != nil {
		return l, err
	}
	vhosts, err := s.vhosts(ctx)
	if err != nil {
		return l, err
	}
	misplaced, err := s.incomplete(ctx, l.Instances, vhosts)
	if err != nil {
		return l, err
	}
	for _, i := range misplaced {
		l.Misplaced = append(l.Misplaced, i.ID)
	}
	frontends, err := s.Frontends(ctx)
	if err != nil {
		return l, err
	}
	for _, f := range frontends {
		list := diagnose.List{Frontend: f, Key: s.keys.proxy.Frontend(f.Host)}
		if list.Type, err = s.typeOf(ctx, list.Key); err != nil {
			return l, err
		}
		l.Lists = append(l.Lists, list)
	}
	return l, nil
}

// DeadSets reads every dead set of the proxy.
func (s *Store) DeadSets(ctx context.Context) ([]diagnose.DeadSet, error) {
	var keys []string
	scan := s.rdb.Scan(ctx, 0, s.keys.proxy.Dead("*"), batch).Iterator()
	for scan.Next(ctx) {
		keys = append(keys, scan.Val())
	}
	if err := scan.Err(); err != nil {
		return nil, wrap("scan the dead sets", err)
	}
	slices.Sort(keys)
	var sets []diagnose.DeadSet
	for _, key := range slices.Compact(keys) { // a scan may return a key twice
		set, exists, err := s.deadSet(ctx, key, strings.TrimPrefix(key, s.keys.proxy.Dead("")))
		if err != nil {
			return sets, err
		}
		if exists {
			sets = append(sets, set)
		}
	}
	return sets, nil
}

// deadSet reads the dead set of a host. It skips an expired key. It also skips the locks of PlanB's active health check,
// which have the same prefix.
func (s *Store) deadSet(ctx context.Context, key, host string) (set diagnose.DeadSet, exists bool, err error) {
	set.Key = key
	if set.Type, err = s.typeOf(ctx, key); err != nil {
		return set, false, err
	}
	if set.Type == "none" || set.Type == "string" && strings.Contains(host, ":") {
		return set, false, nil
	}
	if set.Type != "set" {
		return set, true, nil
	}
	if set.Marks, err = s.rdb.SMembers(ctx, key).Result(); err != nil {
		return set, false, wrap("read "+key, err)
	}
	if set.Slots, err = s.slotsFor(ctx, host); err != nil {
		return set, false, err
	}
	ttl, err := s.rdb.TTL(ctx, key).Result()
	set.Permanent = err == nil && ttl == noExpiry
	return set, true, nil
}

// slotsFor returns the number of backends in the list that answers for a host.
func (s *Store) slotsFor(ctx context.Context, host string) (int, error) {
	for _, name := range hipache.Lookup(host) {
		n, err := s.rdb.LLen(ctx, s.keys.proxy.Frontend(name)).Result()
		if err != nil && !wrongType(err) {
			return 0, wrap("read the list of "+name, err)
		}
		if n > 0 {
			return int(n) - 1, nil
		}
	}
	return 0, nil
}

func (s *Store) typeOf(ctx context.Context, key string) (string, error) {
	t, err := s.rdb.Type(ctx, key).Result()
	if err != nil {
		return "", wrap("read the type of "+key, err)
	}
	return t, nil
}

func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }
