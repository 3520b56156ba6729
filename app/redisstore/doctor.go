package redisstore

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/hipache"
)

const (
	lookAgain = 4 * time.Second        // after the first look at the workers: longer than a lease
	maxSkew   = 500 * time.Millisecond // between this machine's clock and Redis's
)

const forEver = -1 // the time to live of a key that has none

// oldest is the oldest Redis that has all that the scripts use.
var oldest = [2]int{6, 2}

// Examine looks for what is wrong with the Redis and the keys in it. It changes
// nothing.
func (s *Store) Examine(ctx context.Context) ([]app.Finding, error) {
	var found []app.Finding
	for _, examine := range []examination{
		s.examineServer, s.examineClock, s.examineWorkers, twice(s.examineFrontends), twice(s.examineMarks),
	} {
		f, err := examine(ctx)
		if err != nil {
			return found, err
		}
		found = append(found, f...)
	}
	return found, nil
}

type examination func(context.Context) ([]app.Finding, error)

// twice keeps what is found two times running: what is read one by one while others
// write does not fit together for a moment.
func twice(examine examination) examination {
	return func(ctx context.Context) ([]app.Finding, error) {
		first, err := examine(ctx)
		if err != nil || len(first) == 0 {
			return nil, err
		}
		again, err := examine(ctx)
		return slices.DeleteFunc(again, func(f app.Finding) bool { return !slices.Contains(first, f) }), err
	}
}

func problemf(fix, format string, args ...any) app.Finding {
	return app.Finding{Severity: app.Error, What: fmt.Sprintf(format, args...), Fix: fix}
}

func warnf(fix, format string, args ...any) app.Finding {
	return app.Finding{Severity: app.Warning, What: fmt.Sprintf(format, args...), Fix: fix}
}

// examineServer looks at version, persistence and eviction.
func (s *Store) examineServer(ctx context.Context) ([]app.Finding, error) {
	text, err := s.rdb.Info(ctx).Result()
	if err != nil {
		return nil, wrap("read INFO", err)
	}
	info := map[string]string{}
	for line := range strings.Lines(text) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		info[name] = value
	}
	for _, setting := range []string{"save", "min-replicas-to-write"} {
		if value, err := s.rdb.ConfigGet(ctx, setting).Result(); err == nil { // managed ones refuse it
			info[setting] = value[setting]
		}
	}
	if watching, err := s.rdb.PubSubNumSub(ctx, sentinelChannel).Result(); err == nil {
		info["sentinels"] = strconv.FormatInt(watching[sentinelChannel], 10)
	}
	return serverFindings(info), nil
}

// sentinelChannel is the channel that every sentinel subscribes to on the primary that it watches.
const sentinelChannel = "__sentinel__:hello"

// serverFindings says what is wrong with a server, from its INFO, two of its settings and the
// number of sentinels that watch it.
func serverFindings(info map[string]string) (found []app.Finding) {
	if v := info["redis_version"]; v != "" && older(v, oldest) {
		found = append(found, problemf("upgrade to Redis 7 or Valkey", "Redis %s is older than %d.%d", v, oldest[0], oldest[1]))
	}
	if save, known := info["save"]; known && info["aof_enabled"] == "0" && save == "" {
		found = append(found, problemf("set appendonly yes (CONFIG SET appendonly yes, and in redis.conf)",
			"nothing is persisted: a restart of Redis empties the registry"))
	} else if known && info["aof_enabled"] == "0" {
		found = append(found, warnf("set appendonly yes, which loses a second at most",
			"only snapshots are persisted (save %s): a crash of Redis loses what was written since the last one", save))
	}
	for _, status := range []string{"rdb_last_bgsave_status", "aof_last_write_status"} {
		if info[status] == "err" {
			found = append(found, problemf("look at Redis's log: the disk may be full", "Redis cannot persist (%s is err) and may refuse writes", status))
		}
	}
	if p := info["maxmemory_policy"]; p != "" && p != "noeviction" {
		found = append(found, problemf("set maxmemory-policy noeviction, or give Rollcall a Redis of its own",
			"Redis evicts keys when memory is short (%s): instances and lists would vanish", p))
	}
	if info["role"] == "slave" {
		found = append(found, problemf("point REDIS_URL to the primary, or to the sentinels", "this Redis is a replica: nothing can be written"))
		return found
	}
	return append(found, replicaFindings(info)...)
}

// replicaFindings says whether a failover would lose what a primary acknowledged. INFO has
// min_slaves_good_slaves only while both min-replicas settings are positive.
func replicaFindings(info map[string]string) []app.Finding {
	replicas, _ := strconv.Atoi(info["connected_slaves"]) // absent in the INFO of some: as if there were none
	sentinels, _ := strconv.Atoi(info["sentinels"])
	text, bounded := info["min_slaves_good_slaves"]
	good, _ := strconv.Atoi(text)
	needed, _ := strconv.Atoi(info["min-replicas-to-write"])
	switch {
	case bounded && good < max(needed, 1):
		return []app.Finding{problemf("start the replicas, or mend their link to the primary",
			"the primary refuses to write: it reaches %d replicas in time, and min-replicas-to-write asks for %d", good, max(needed, 1))}
	case !bounded && replicas+sentinels > 0:
		return []app.Finding{warnf("on the primary and every replica, CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 2, and in redis.conf",
			"the primary has %d replicas and %d sentinels, and writes even if it reaches no replica: a failover then loses all that it acknowledged meanwhile",
			replicas, sentinels)}
	}
	return nil
}

func older(version string, than [2]int) bool {
	major, rest, _ := strings.Cut(version, ".")
	minor, _, _ := strings.Cut(rest, ".")
	a, err1 := strconv.Atoi(major)
	b, err2 := strconv.Atoi(minor)
	return err1 == nil && err2 == nil && (a < than[0] || a == than[0] && b < than[1])
}

// examineClock compares clocks.
func (s *Store) examineClock(ctx context.Context) ([]app.Finding, error) {
	if err := s.SyncClock(ctx); err != nil {
		return nil, err
	}
	if skew := s.Now().Sub(s.now()); skew.Abs() > maxSkew {
		return []app.Finding{warnf("run NTP on both; Rollcall goes by Redis's clock meanwhile",
			"the clock of Redis is %s off this machine's", skew.Round(time.Millisecond))}, nil
	}
	return nil, nil
}

// examineWorkers looks for signs of life: counters that grow between two looks, and shards
// with a living owner.
func (s *Store) examineWorkers(ctx context.Context) ([]app.Finding, error) {
	first, err := s.owners(ctx)
	if err != nil {
		return nil, err
	}
	select {
	case <-time.After(s.lookAgain):
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	then, err := s.owners(ctx)
	if err != nil {
		return nil, err
	}
	return ownerFindings(first, then), nil
}

// owners is what is known of the workers at one moment.
type owners struct {
	workers map[string]string // counters by id
	shards  map[string]string // terms by number
	web     string            // a counter; empty when there never was a web process
}

func (s *Store) owners(ctx context.Context) (o owners, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var workers, shards *redis.MapStringStringCmd
	var web *redis.StringCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		workers, shards, web = p.HGetAll(ctx, s.keys.workers()), p.HGetAll(ctx, s.keys.shards()), p.Get(ctx, s.keys.web())
		return nil
	})
	if err := failed(cmds, err, func(err error) bool { return noValue(err) || wrongType(err) }); err != nil {
		return o, wrap("read who owns what", err)
	}
	o = owners{workers.Val(), shards.Val(), web.Val()}
	delete(o.shards, "version")
	return o, nil
}

// ownerFindings compares two looks at the workers, some seconds apart.
func ownerFindings(first, then owners) (found []app.Finding) {
	switch then.web {
	case "":
		found = append(found, warnf("start rollcall web", "no web process has ever been here"))
	case first.web:
		found = append(found, problemf("start rollcall web, and look at its log",
			"no web process has been heard of for %s: instances cannot report, and no grace, lease or forget period runs", lookAgain))
	}
	alive := map[string]bool{}
	var silent []string
	for id, counter := range then.workers {
		if was, known := first.workers[id]; known && was == counter {
			silent = append(silent, id)
		} else {
			alive[id] = true
		}
	}
	if len(alive) == 0 {
		return append(found, problemf("start rollcall cron, and look at its log",
			"no cron process is at work: no instance is probed, and no unhealthy instance is removed"))
	}
	if slices.Sort(silent); len(silent) > 0 {
		found = append(found, problemf("look at the logs of all cron processes: another worker drops a silent one within 5s, unless its own calls fail",
			"the workers %s have been silent for %s and are not dropped: the workers disagree about who lives", strings.Join(silent, " "), lookAgain))
	}
	orphans, sizes := 0, map[string]int{}
	for n := range ownership.Shards {
		number := strconv.Itoa(n)
		owner := ownership.Term(then.shards[number]).Worker()
		if sizes[owner]++; !alive[owner] && first.shards[number] == then.shards[number] {
			orphans++
		}
	}
	if orphans > 0 {
		found = append(found, problemf("look at the logs of all cron processes", "%d of %d shards have no living owner: their instances are not probed", orphans, ownership.Shards))
	}
	for id := range alive {
		if share := ownership.Share(len(alive)); sizes[id] > share && first.workers[id] != "" {
			found = append(found, warnf("run rollcall doctor again: a worker gives back what is above its share within seconds",
				"the worker %s owns %d shards, more than its share of %d", id, sizes[id], share))
		}
	}
	return found
}

// examineFrontends compares the lists with the registry.
func (s *Store) examineFrontends(ctx context.Context) ([]app.Finding, error) {
	instances, err := s.All(ctx)
	if err != nil {
		return nil, err
	}
	vhosts, err := s.vhosts(ctx)
	if err != nil {
		return nil, err
	}
	found := examineVersions(instances)
	broken, err := s.incomplete(ctx, instances, vhosts)
	if err != nil {
		return nil, err
	}
	for _, i := range broken {
		found = append(found, problemf("rollcall jobs run reconcile mends it", "instance %s does not stand in its vhosts as it should", i.ID))
	}
	frontends, err := s.Frontends(ctx)
	if err != nil {
		return nil, err
	}
	byID := map[string]app.Instance{}
	for _, i := range instances {
		byID[i.ID] = i
	}
	for _, f := range frontends {
		key := s.keys.proxy.Frontend(f.Host)
		if t, err := s.rdb.Type(ctx, key).Result(); err != nil {
			return nil, wrap("read the type of "+key, err)
		} else if t != "list" && t != "none" {
			found = append(found, problemf("rollcall jobs run reconcile replaces it", "%s is a %s, not a list: the proxy cannot answer for %s", key, t, f.Host))
			continue
		}
		found = append(found, examineFrontend(key, f, byID)...)
	}
	return found, nil
}

// examineVersions looks for instances that this version leaves to a newer one.
func examineVersions(instances []app.Instance) []app.Finding {
	var newer []string
	for _, i := range instances {
		if !i.Understood() {
			newer = append(newer, i.ID)
		}
	}
	if len(newer) == 0 {
		return nil
	}
	slices.Sort(newer)
	return []app.Finding{warnf("run a cron of the newer version; if there is none any more, deregister them: they register again",
		"%d instances have fields that this version does not know, so it does not check them, such as %s", len(newer), newer[0])}
}

// examineFrontend compares one list with the instances that it should have.
func examineFrontend(key string, f app.Frontend, byID map[string]app.Instance) (found []app.Finding) {
	const mend = "rollcall jobs run reconcile mends it"
	if f.Identifier != "" && f.Identifier != f.Service {
		fix := "nothing, if it was meant: Rollcall leaves it alone"
		if strings.Contains(f.Identifier, "://") {
			fix = "the first entry is never routed: LPUSH an identifier before it"
		}
		found = append(found, warnf(fix, "%s begins with %q, which Rollcall did not write", key, f.Identifier))
	}
	var foreign, unusable []string
	slots := map[string]int{}
	for _, slot := range f.Slots {
		switch {
		case slot.Unusable:
			unusable = append(unusable, fmt.Sprintf("%q", slot.URL))
		case slot.Foreign:
			foreign = append(foreign, slot.URL)
		case slot.Leaves.IsZero():
			slots[slot.Instance]++
		}
	}
	if unusable != nil {
		found = append(found, problemf("LREM them", "%s has entries that are no http URL, on which Hipache hangs or crashes: %s", key, strings.Join(unusable, " ")))
	}
	if foreign != nil {
		found = append(found, warnf("LREM them, unless they are meant: Rollcall neither checks nor removes them",
			"%s has entries that Rollcall did not write: %s", key, strings.Join(foreign, " ")))
	}
	for _, id := range f.Unlisted {
		if byID[id].Routable() {
			found = append(found, problemf("rollcall jobs run reconcile appends it", "%s is healthy and not in %s", id, key))
		}
	}
	for _, id := range slices.Sorted(maps.Keys(slots)) {
		i, known := byID[id]
		lastOne := i.Slots() == 0 && i.MayStay()
		if n := slots[id]; known && n != i.Slots() && !lastOne {
			found = append(found, problemf(mend, "%s has %d slots in %s and should have %d", id, n, key, i.Slots()))
		}
	}
	return found
}

// examineMarks looks for dead sets that mark nothing, or for ever, or the wrong thing.
func (s *Store) examineMarks(ctx context.Context) ([]app.Finding, error) {
	var found []app.Finding
	scan := s.rdb.Scan(ctx, 0, s.keys.proxy.Dead("*"), batch).Iterator()
	seen := map[string]bool{} // a scan may come by twice
	for scan.Next(ctx) {
		key := scan.Val()
		if seen[key] {
			continue
		}
		seen[key] = true
		f, err := s.examineMark(ctx, key, strings.TrimPrefix(key, s.keys.proxy.Dead("")))
		if err != nil {
			return found, err
		}
		found = append(found, f...)
	}
	return found, wrapIf("scan the dead sets", scan.Err())
}

func (s *Store) examineMark(ctx context.Context, key, host string) ([]app.Finding, error) {
	const fix = "DEL %s; a good probe does it by itself while anybody is registered for it"
	t, err := s.rdb.Type(ctx, key).Result()
	if err != nil {
		return nil, wrap("read the type of "+key, err)
	}
	if t == "none" || t == "string" && strings.Contains(host, ":") {
		return nil, nil // gone since; a lock of PlanB's active health check
	}
	if t != "set" {
		return []app.Finding{problemf(fmt.Sprintf(fix, key), "%s is a %s, not a set: a proxy that reads it hangs", key, t)}, nil
	}
	members, err := s.rdb.SMembers(ctx, key).Result()
	if err != nil {
		return nil, wrap("read "+key, err)
	}
	slots := 0
	for _, name := range hipache.Lookup(host) {
		n, err := s.rdb.LLen(ctx, s.keys.proxy.Frontend(name)).Result()
		if err != nil && !wrongType(err) {
			return nil, wrap("read the list of "+name, err)
		}
		if n > 0 {
			slots = int(n) - 1
			break
		}
	}
	var found []app.Finding
	stale := func(m string) bool {
		n, err := strconv.Atoi(m)
		return err != nil || n < 0 || n >= slots
	}
	if slices.ContainsFunc(members, stale) {
		found = append(found, warnf(fmt.Sprintf(fix, key), "%s has marks of no slot (%s; the list has %d)", key, strings.Join(members, " "), slots))
	}
	if ttl, err := s.rdb.TTL(ctx, key).Result(); err == nil && ttl == forEver {
		found = append(found, warnf(fmt.Sprintf(fix, key), "%s has no time to live: its marks stay for ever", key))
	}
	return found, nil
}

func wrongType(err error) bool { return redis.HasErrorPrefix(err, "WRONGTYPE") }

func wrapIf(doing string, err error) error {
	if err == nil {
		return nil
	}
	return wrap(doing, err)
}
