package migrations_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

func TestStep3EndsTheQueuesAndTheProcessesThatClaimFromThem(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	for _, c := range [][]any{ // the keys of version 2
		{"HSET", "ticks", "tick", "1900000000000", "web", "1900000000001", "away", "250"},
		{"ZADD", "due", "1900000000000", "i1", "1900000000001.5", "i2"},
		{"ZADD", "deadlines", "1900000000000", "i1"},
		{"ZADD", "overrides", "1900000000000", "i2"},
		{"SET", "instance:i1", `{"rev":3,"service":"web","address":"10.0.0.1:80","check":{},"state":"draining","registered":1}`},
		{"SET", "results:i1", "123456789"},
		{"SET", "schema", "2"},
	} {
		c[1] = prefix + c[1].(string)
		if err := rdb.Do(t.Context(), c...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second run finds its work done
		rdb.Set(t.Context(), prefix+"schema", 2, 0)
		if from, to, err := migrations.Run(t.Context(), rdb, prefix); from != 2 || to != migrations.Latest || err != nil {
			t.Fatalf("Run went from %d to %d, %v", from, to, err)
		}
		if err := rdb.HGet(t.Context(), prefix+"ticks", "away").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
			t.Errorf("a process of schema 2 that reads ticks gets %v, want WRONGTYPE", err)
		}
		if n := rdb.Exists(t.Context(), prefix+"due", prefix+"deadlines", prefix+"overrides").Val(); n != 0 {
			t.Errorf("%d queues are left", n)
		}
		if n := rdb.Exists(t.Context(), prefix+"instance:i1", prefix+"results:i1").Val(); n != 2 {
			t.Errorf("%d of the 2 keys of an instance are left", n)
		}
	}
}
