package redisstore

import (
	"context"
	"hash/maphash"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

// A Comparison goes through the vhosts of a store, round after round, and has the lists
// written anew that changed since the round before: somebody deleted or edited a key by
// hand, or a proxy marked every backend and its announcement was lost. It remembers a
// hash of each list, so that a round that finds nothing reads two keys for each vhost and
// calls no script. The first round has the script compare everything. A list that Rollcall itself changed is compared by the script, too,
// which then writes nothing. It is not safe for concurrent use.
type Comparison struct {
	store  *Store
	seed   maphash.Seed
	cursor uint64
	before map[string]uint64 // hashes of the lists in the round before, by vhost
	seen   map[string]uint64 // and in this one so far
}

// Compare returns a comparison that has seen nothing.
func (s *Store) Compare() *Comparison {
	return &Comparison{store: s, seed: maphash.MakeSeed(), before: map[string]uint64{}, seen: map[string]uint64{}}
}

// Next compares about budget vhosts (all of a registry that has few), beginning after the
// last ones, and returns what it mended.
func (c *Comparison) Next(ctx context.Context, budget int) (app.Repairs, error) {
	var done app.Repairs
	for left := budget; left > 0; {
		hosts, next, err := c.scan(ctx, min(left, batch))
		if err != nil {
			return done, err
		}
		for len(hosts) > 0 {
			chunk := hosts[:min(len(hosts), projected)]
			hosts = hosts[len(chunk):]
			suspects, sums, err := c.suspects(ctx, chunk)
			if err != nil {
				return done, err
			}
			wrote, mended, repaired, err := c.store.project(ctx, suspects)
			done.Lists += mended
			done.WrongType = append(done.WrongType, repaired...)
			if err != nil {
				return done, err
			}
			for n, h := range suspects {
				if wrote == 0 { // else they are compared once more in the next round
					c.seen[h] = sums[n]
				}
			}
			left -= len(chunk)
		}
		if c.cursor = next; next == 0 {
			c.before, c.seen = c.seen, make(map[string]uint64, len(c.seen))
			return done, nil
		}
	}
	return done, nil
}

// scan lists some vhosts after the cursor.
func (c *Comparison) scan(ctx context.Context, n int) (hosts []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.store.timeout)
	defer cancel()
	fields, next, err := c.store.rdb.HScan(ctx, c.store.keys.vhosts(), c.cursor, "", int64(n)).Result()
	if err != nil {
		return nil, 0, wrap("list vhosts", err)
	}
	for n := 0; n < len(fields); n += 2 {
		hosts = append(hosts, fields[n])
	}
	return hosts, next, nil
}

// suspects picks the vhosts whose list or marks may have been written by somebody else, with
// the hashes of their lists; it remembers those of the others.
func (c *Comparison) suspects(ctx context.Context, hosts []string) (suspects []string, sums []uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.store.timeout)
	defer cancel()
	lists, marks := make([]*redis.StringSliceCmd, len(hosts)), make([]*redis.StringSliceCmd, len(hosts))
	cmds, err := c.store.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, h := range hosts {
			lists[n] = p.LRange(ctx, c.store.keys.proxy.Frontend(h), 0, -1)
			marks[n] = p.SMembers(ctx, c.store.keys.proxy.Dead(h))
		}
		return nil
	})
	if err := failed(cmds, err, wrongType); err != nil {
		return nil, nil, wrap("read lists", err)
	}
	for n, h := range hosts {
		list, dead := lists[n].Val(), len(marks[n].Val())
		sum := c.hash(list)
		before, known := c.before[h]
		closed := !hipache.Wildcard(h) && (marks[n].Err() != nil || dead > 0 && dead >= len(list)-1)
		if known && sum == before && lists[n].Err() == nil && !closed {
			c.seen[h] = sum
			continue
		}
		suspects, sums = append(suspects, h), append(sums, sum)
	}
	return suspects, sums, nil
}

func (c *Comparison) hash(list []string) uint64 {
	var h maphash.Hash
	h.SetSeed(c.seed)
	for _, entry := range list {
		_, _ = h.WriteString(entry)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}
