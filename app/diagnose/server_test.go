package diagnose_test

import (
	"fmt"
	"strings"
	"testing"

	"rollcall/app/diagnose"
)

func TestDoctorReadsINFO(t *testing.T) {
	t.Parallel()
	const good = "redis_version:7.0.15 aof_enabled:1 maxmemory_policy:noeviction role:master rdb_last_bgsave_status:ok aof_last_write_status:ok save:"
	for edit, want := range map[string]string{
		"":                               "",
		"redis_version:6.2.0":            "",
		"redis_version:10.0.1":           "",
		"redis_version:6.0.16":           "error: Redis 6.0.16 is older than 6.2",
		"redis_version:5.0.7":            "error: Redis 5.0.7 is older than 6.2",
		"aof_enabled:0":                  "error: nothing is persisted: a restart of Redis empties the registry",
		"aof_enabled:0 save:3600_1":      "warning: only snapshots are persisted (save 3600_1): a crash of Redis loses what was written since the last one",
		"maxmemory_policy:allkeys":       "error: Redis evicts keys when memory is short (allkeys): instances and lists would vanish",
		"role:slave":                     "error: this Redis is a replica: nothing can be written",
		"aof_last_write_status:err":      "error: Redis cannot persist (aof_last_write_status is err) and may refuse writes",
		"rdb_last_bgsave_status:err":     "error: Redis cannot persist (rdb_last_bgsave_status is err) and may refuse writes",
		"connected_slaves:2":             "warning: the primary has 2 replicas and 0 sentinels, and writes even if it reaches no replica: a failover then loses all that it acknowledged meanwhile",
		"connected_slaves:0 sentinels:3": "warning: the primary has 0 replicas and 3 sentinels, and writes even if it reaches no replica: a failover then loses all that it acknowledged meanwhile",
		"connected_slaves:0 sentinels:0": "",
		"connected_slaves:2 min_slaves_good_slaves:2 min-replicas-to-write:1": "",
		"connected_slaves:2 min_slaves_good_slaves:1":                         "",
		"min_slaves_good_slaves:0":                                            "error: the primary refuses to write: it reaches 0 replicas in time, and min-replicas-to-write asks for 1",
		"connected_slaves:2 min_slaves_good_slaves:1 min-replicas-to-write:2": "error: the primary refuses to write: it reaches 1 replicas in time, and min-replicas-to-write asks for 2",
		"role:slave connected_slaves:1":                                       "error: this Redis is a replica: nothing can be written",
		"redis_version:unknown":                                               "",
		"redis_version: aof_enabled:":                                         "",
	} {
		info := diagnose.Server{}
		for field := range strings.FieldsSeq(good + " " + edit) {
			name, value, _ := strings.Cut(field, ":")
			info[name] = value
		}
		var all []string
		for _, f := range info.Findings() {
			all = append(all, fmt.Sprintf("%s: %s", f.Severity, f.Problem))
		}
		if got := strings.Join(all, "\n"); got != want {
			t.Errorf("%s: got %q, want %q", edit, got, want)
		}
	}
	refused := diagnose.Server{"aof_enabled": "0"} // a server that refuses CONFIG
	if got := refused.Findings(); got != nil {
		t.Errorf("without CONFIG: got %v", got)
	}
}
