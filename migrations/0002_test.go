package migrations_test

import (
	"testing"

	"github.com/redis/go-redis/v9"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

// schema1 is the content that version 1 kept under the keys that step 2 renames.
var schema1 = [][]any{
	{"HSET", "clock", "tick", "1900000000000", "web", "1900000000001", "away", "250"},
	{"HSET", "vhosts", "a.test", "web", "*.b.test", "news"},
	{"ZADD", "webhooks", "+inf", "wh-1", "1900000000000", "wh-2"},
	{"SET", "instance:i1", `{"rev":3,"service":"web","address":"10.0.0.1:80","check":{},"state":"healthy","registered":1}`},
	{"SET", "schema", "1"},
}

func TestStep2MovesTheKeysThatOldProcessesRead(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	for _, c := range schema1 {
		c[1] = prefix + c[1].(string)
		if err := rdb.Do(t.Context(), c...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // the second run finds its work done
		rdb.Set(t.Context(), prefix+"schema", 1, 0)
		if from, to, err := migrations.Run(t.Context(), rdb, prefix); from != 1 || to != migrations.Latest || err != nil {
			t.Fatalf("Run went from %d to %d, %v", from, to, err)
		}
		if got := rdb.HGetAll(t.Context(), prefix+"hosts").Val(); len(got) != 2 || got["a.test"] != "web" {
			t.Errorf("hosts is %v", got)
		}
		if n := rdb.ZCard(t.Context(), prefix+"subscriptions").Val(); n != 2 {
			t.Errorf("subscriptions has %d members, want 2", n)
		}
		for _, old := range []string{"clock", "vhosts", "webhooks"} {
			if err := rdb.HGet(t.Context(), prefix+old, "away").Err(); !redis.HasErrorPrefix(err, "WRONGTYPE") {
				t.Errorf("an old process that reads %s gets %v, want WRONGTYPE", old, err)
			}
		}
	}
}

func TestStep2BlocksOldProcessesOnAnEmptyRedisToo(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	if _, _, err := migrations.Run(t.Context(), rdb, prefix); err != nil {
		t.Fatal(err)
	}
	for _, old := range []string{"clock", "vhosts", "webhooks"} {
		if kind := rdb.Type(t.Context(), prefix+old).Val(); kind != "string" {
			t.Errorf("%s is a %s, want a string", old, kind)
		}
	}
}
