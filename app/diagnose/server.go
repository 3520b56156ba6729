package diagnose

import (
	"strconv"
	"strings"
)

// oldest is the oldest Redis that has every command and option of the scripts.
var oldest = [2]int{6, 2}

// Findings looks at the version, persistence, eviction and replication of a server.
func (s Server) Findings() (found []Finding) {
	if v := s["redis_version"]; v != "" && older(v, oldest) {
		found = append(found, problemf("upgrade to Redis 7 or Valkey", "Redis %s is older than %d.%d", v, oldest[0], oldest[1]))
	}
	found = append(found, s.persistence()...)
	if p := s["maxmemory_policy"]; p != "" && p != "noeviction" {
		found = append(found, problemf("set maxmemory-policy noeviction, or give Rollcall a Redis of its own",
			"Redis evicts keys when memory is short (%s): instances and lists would vanish", p))
	}
	if s["role"] == "slave" {
		return append(found, problemf("point REDIS_URL to the primary, or to the sentinels", "this Redis is a replica: nothing can be written"))
	}
	return append(found, s.replication()...)
}

func (s Server) persistence() (found []Finding) {
	switch save, known := s["save"]; {
	case !known, s["aof_enabled"] != "0":
	case save == "":
		found = append(found, problemf("set appendonly yes (CONFIG SET appendonly yes, and in redis.conf)",
			"nothing is persisted: a restart of Redis empties the registry"))
	default:
		found = append(found, warnf("set appendonly yes, which loses a second at most",
			"only snapshots are persisted (save %s): a crash of Redis loses what was written since the last one", save))
	}
	for _, status := range []string{"rdb_last_bgsave_status", "aof_last_write_status"} {
		if s[status] == "err" {
			found = append(found, problemf("look at Redis's log: the disk may be full", "Redis cannot persist (%s is err) and may refuse writes", status))
		}
	}
	return found
}

// replication looks for a primary that would lose acknowledged writes in a failover. INFO has
// min_slaves_good_slaves only while both min-replicas settings are positive.
func (s Server) replication() []Finding {
	replicas, _ := strconv.Atoi(s["connected_slaves"]) // absent from the INFO of some servers
	sentinels, _ := strconv.Atoi(s["sentinels"])
	text, bounded := s["min_slaves_good_slaves"]
	good, _ := strconv.Atoi(text)
	needed, _ := strconv.Atoi(s["min-replicas-to-write"])
	switch {
	case bounded && good < max(needed, 1):
		return []Finding{problemf("start the replicas, or mend their link to the primary",
			"the primary refuses to write: it reaches %d replicas in time, and min-replicas-to-write asks for %d", good, max(needed, 1))}
	case !bounded && replicas+sentinels > 0:
		return []Finding{warnf("on the primary and every replica, CONFIG SET min-replicas-to-write 1 and min-replicas-max-lag 2, and in redis.conf",
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
