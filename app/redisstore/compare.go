package redisstore

import (
	"context"
	"hash/maphash"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

// refreshMarks is the time to live below which a dead set with Rollcall's own marks gets a new one. A proxy that marks a
// further backend shortens the time to live to its own, which is 30 s by default.
const refreshMarks = 20 * time.Second

// Compare goes through about budget vhosts of the caller, and begins after the vhosts of the last call. It repairs
// frontends and marks that another program has changed. Examples: a key was deleted or edited by hand, a proxy marked
// every backend and its announcement was lost, a mark was removed before its backend.
//
// Compare remembers a hash of each frontend. For an unchanged vhost it reads two keys and calls no script. The script
// compares every frontend in the first round, and each frontend that Rollcall itself has changed since the last round.
// In the latter case it writes no key.
func (v *Vhosts) Compare(ctx context.Context, owns app.Owner, budget int) (app.Comparison, error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	var found app.Comparison
	settling, err := v.settling(ctx)
	if err != nil {
		return found, err
	}
	for left := budget; left > 0; {
		hosts, next, err := v.scan(ctx, min(left, batch))
		if err != nil {
			return found, err
		}
		left -= len(hosts)
		for chunk := range slices.Chunk(owned(hosts, owns), projected) {
			if err := v.compare(ctx, chunk, settling, &found); err != nil {
				return found, err
			}
		}
		if v.cursor = next; next == 0 {
			v.before, v.seen = v.seen, make(map[string]uint64, len(v.seen))
			break
		}
	}
	return found, nil
}

// settling lists the vhosts that have departures.
func (v *Vhosts) settling(ctx context.Context) (map[string]bool, error) {
	ctx, cancel := context.WithTimeout(ctx, v.store.timeout)
	defer cancel()
	hosts, err := v.store.rdb.ZRange(ctx, v.store.keys.settling(), 0, -1).Result()
	if err != nil {
		return nil, wrap("list settling vhosts", err)
	}
	settling := make(map[string]bool, len(hosts))
	for _, h := range hosts {
		settling[h] = true
	}
	return settling, nil
}

// scan lists about n vhosts after the cursor.
func (v *Vhosts) scan(ctx context.Context, n int) (hosts []string, next uint64, err error) {
	ctx, cancel := context.WithTimeout(ctx, v.store.timeout)
	defer cancel()
	fields, next, err := v.store.rdb.HScan(ctx, v.store.keys.vhosts(), v.cursor, "", int64(n)).Result()
	if err != nil {
		return nil, 0, wrap("list vhosts", err)
	}
	for n := 0; n < len(fields); n += 2 {
		hosts = append(hosts, fields[n])
	}
	return hosts, next, nil
}

// A frontendReading holds the keys of one vhost.
type frontendReading struct {
	projectArg

	list, marks, children *redis.StringSliceCmd
	members               *redis.MapStringStringCmd // nil unless there are marks or departures
	ttl                   *redis.DurationCmd        // of the dead set; nil in the same cases as members
	childMarks            []*redis.StringSliceCmd   // of a wildcard
}

// compare reads a chunk of vhosts. It passes the vhosts that changed or have wrong marks to the script.
func (v *Vhosts) compare(ctx context.Context, vhosts []projectArg, settling map[string]bool, found *app.Comparison) error {
	readings, err := v.read(ctx, vhosts, settling)
	if err != nil {
		return err
	}
	var suspects []projectArg
	sums := make([]uint64, 0, len(readings))
	for _, r := range readings {
		sum := v.hash(r.list.Val())
		before, known := v.before[r.Host]
		if known && sum == before && r.list.Err() == nil && !r.marksDiffer() {
			v.seen[r.Host] = sum
		} else {
			suspects, sums = append(suspects, r.projectArg), append(sums, sum)
		}
		found.Marked = append(found.Marked, r.marked()...)
	}
	done, err := v.store.project(ctx, suspects)
	found.Repairs.Lists += done.mended
	found.Repairs.WrongType = append(found.Repairs.WrongType, done.repaired...)
	found.Refused = append(found.Refused, done.refused...)
	if err != nil {
		return err
	}
	for n, a := range suspects {
		if done.wrote == 0 { // otherwise the next round compares them once more
			v.seen[a.Host] = sums[n]
		}
	}
	return nil
}

// read reads the frontends and marks of vhosts in one batch. A second batch reads the members of vhosts that have marks
// or departures.
func (v *Vhosts) read(ctx context.Context, vhosts []projectArg, settling map[string]bool) ([]*frontendReading, error) {
	s := v.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	readings := make([]*frontendReading, len(vhosts))
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, a := range vhosts {
			r := &frontendReading{projectArg: a}
			r.list = p.LRange(ctx, s.keys.proxy.Frontend(a.Host), 0, -1)
			if hipache.Wildcard(a.Host) {
				r.children = p.SMembers(ctx, s.keys.marked(a.Host))
			} else {
				r.marks = p.SMembers(ctx, s.keys.proxy.Dead(a.Host))
			}
			readings[n] = r
		}
		return nil
	})
	if err := failed(cmds, err, wrongType); err != nil {
		return nil, wrap("read lists", err)
	}
	cmds, err = s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, r := range readings {
			switch {
			case r.children != nil && len(r.children.Val()) > 0:
				for _, requested := range r.children.Val() {
					r.childMarks = append(r.childMarks, p.SMembers(ctx, s.keys.proxy.Dead(requested)))
				}
			case r.marks == nil || len(r.marks.Val()) == 0 && !settling[r.Host]:
				continue
			default:
				r.ttl = p.PTTL(ctx, s.keys.proxy.Dead(r.Host))
			}
			r.members = p.HGetAll(ctx, s.keys.vhost(r.Host))
		}
		return nil
	})
	if err := failed(cmds, err, wrongType); err != nil {
		return nil, wrap("read marks", err)
	}
	return readings, nil
}

// positions parses the members of a dead set. valid reports whether each of them is a position of the frontend.
func (r *frontendReading) positions(marks []string) (marked map[int]bool, valid bool) {
	marked, valid = make(map[int]bool, len(marks)), true
	for _, m := range marks {
		n, ok := hipache.ParsePosition(m)
		if ok = ok && n < len(r.list.Val())-1 && m == position(n); ok {
			marked[n] = true
		}
		valid = valid && ok
	}
	return marked, valid
}

// marksDiffer reports whether the marks of a vhost need a repair: a mark is no position of the frontend, every position
// is marked, a backend that is leaving has no mark, or the dead set expires too early or too late.
func (r *frontendReading) marksDiffer() bool {
	if r.marks == nil || r.marks.Err() == nil && r.members == nil {
		return false
	}
	marked, valid := r.positions(r.marks.Val())
	if r.marks.Err() != nil || !valid || len(marked) > 0 && len(marked) == len(r.list.Val())-1 {
		return true
	}
	leaving := r.leaving()
	if slices.ContainsFunc(leaving, func(position int) bool { return !marked[position] }) {
		return true
	}
	ttl := r.ttl.Val()
	if len(leaving) > 0 {
		return ttl < refreshMarks
	}
	return len(marked) > 0 && (ttl < 0 || ttl > hipache.SettleMarkTTL/2)
}

// leaving returns the positions of surplus backends whose member has a departure.
func (r *frontendReading) leaving() []int {
	var positions []int
	seen := map[string]int{}
	for n, url := range r.entries() {
		m, _ := parseMember(r.members.Val()[url])
		if seen[url]++; m.departure > 0 && seen[url] > m.wanted {
			positions = append(positions, n)
		}
	}
	return positions
}

// marked returns the ids of the instances that should get traffic from a vhost but have a mark.
func (r *frontendReading) marked() []string {
	var sets []*redis.StringSliceCmd
	switch {
	case r.members == nil:
		return nil
	case r.marks != nil:
		sets = append(sets, r.marks)
	default:
		sets = r.childMarks
	}
	var ids []string
	for _, set := range sets {
		marked, _ := r.positions(set.Val())
		for n, url := range r.entries() {
			if m, _ := parseMember(r.members.Val()[url]); marked[n] && m.wanted > 0 && m.departure == 0 && !slices.Contains(ids, m.id) {
				ids = append(ids, m.id)
			}
		}
	}
	return ids
}

// entries returns the frontend without its identifier.
func (r *frontendReading) entries() []string {
	if list := r.list.Val(); len(list) > 0 {
		return list[1:]
	}
	return nil
}

func (v *Vhosts) hash(list []string) uint64 {
	var h maphash.Hash
	h.SetSeed(v.seed)
	for _, entry := range list {
		_, _ = h.WriteString(entry)
		_ = h.WriteByte(0)
	}
	return h.Sum64()
}
