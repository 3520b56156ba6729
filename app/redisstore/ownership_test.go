package redisstore_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/app/redisstore/storetest"
	"rollcall/tests/harness"
)

// The property tests of the protocol run on storetest.Table. The script must behave the same.
func TestOwnLuaIsTheTableOfTheModel(t *testing.T) {
	t.Parallel()
	rdb := harness.SharedRedis(t)
	for seed := range uint64(12) {
		prefix := harness.Prefix(t)
		s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
		r := rand.New(rand.NewPCG(seed, 7))
		table := storetest.NewTable()
		counts := map[string]int64{}
		version := map[string]string{}
		for n := range 60 {
			w := fmt.Sprintf("w%d", r.IntN(6))
			counts[w]++
			c := ownership.Call{Worker: w, Count: counts[w], Known: version[w], Stopping: r.IntN(8) == 0, Suspended: r.IntN(4) == 0}
			switch r.IntN(10) {
			case 0:
				c.Count -= int64(r.IntN(3)) // late, or of another worker
			case 1:
				c.Limit = 1 + r.IntN(300)
			case 2:
				c.Known = ""
			}
			if r.IntN(4) == 0 {
				g := fmt.Sprintf("w%d", r.IntN(6))
				c.Gone = append(c.Gone, ownership.Peer{Worker: g, Count: counts[g] - int64(r.IntN(2))})
			}
			for shard, term := range table.Shards {
				if term.Worker() == w && r.IntN(3) == 0 {
					c.Release = append(c.Release, shard)
				}
			}
			if r.IntN(3) == 0 {
				c.Give = append(c.Give, ownership.Gift{Shard: r.IntN(ownership.Shards), Worker: fmt.Sprintf("w%d", r.IntN(6))})
			}
			switch r.IntN(15) {
			case 0:
				shard := r.IntN(ownership.Shards)
				rdb.HSet(t.Context(), prefix+"shards", shard, "edited by hand")
				table.Shards[shard] = "edited by hand"
			case 1:
				rdb.HSet(t.Context(), prefix+"shards", "256", "w1 1", "-1", "w1 1", "01", "w1 1", "x", "")
			case 2:
				rdb.Del(t.Context(), prefix+"workers")
				clear(table.Workers)
				clear(table.Doubts)
			case 3:
				rdb.Del(t.Context(), prefix+"shards", prefix+"workers")
				rdb.Set(t.Context(), prefix+"workers", "a string", 0)
				rdb.LPush(t.Context(), prefix+"shards", "a list")
				clear(table.Workers)
				clear(table.Doubts)
				clear(table.Shards)
				table.Version = ""
			}
			want, _ := table.Call(c)
			got, err := s.Own(t.Context(), c)
			if err != nil {
				t.Fatalf("history %d, call %d: %v", seed, n, err)
			}
			slices.SortFunc(got.Workers, func(a, b ownership.Peer) int { return strings.Compare(a.Worker, b.Worker) })
			got.Now = 0
			if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("history %d, call %d %+v (-model +script):\n%s", seed, n, c, diff)
			}
			if got.Full {
				version[w] = got.Version
			}
			shards := rdb.HGetAll(t.Context(), prefix+"shards").Val()
			delete(shards, "version")
			if got.Full && len(shards) != len(table.Shards) {
				t.Fatalf("history %d, call %d: the hash has %d shards, the model %d", seed, n, len(shards), len(table.Shards))
			}
		}
	}
}

func TestAFlushOfAnotherOwnerIsRefused(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
	r, err := s.Own(t.Context(), ownership.Call{Worker: "a", Count: 1})
	if err != nil || len(r.Owned) != ownership.Shards {
		t.Fatalf("the first worker owns %d shards, %v", len(r.Owned), err)
	}
	flush := func(shard int, term ownership.Term, record string) []int {
		t.Helper()
		refused, err := s.Flush(t.Context(), []ownership.Flush{{Shard: 1, Term: r.Owned[1], Record: []byte("one")}, {Shard: shard, Term: term, Record: []byte(record)}})
		if err != nil {
			t.Fatal(err)
		}
		return refused
	}
	if refused := flush(2, r.Owned[2], "mine"); refused != nil {
		t.Errorf("refused %v", refused)
	}
	for _, term := range []ownership.Term{"a 2", "b 1", ""} {
		if refused := flush(2, term, "not mine"); !slices.Equal(refused, []int{2}) {
			t.Errorf("under %q: refused %v, want shard 2", term, refused)
		}
	}
	records, err := s.Flushed(t.Context(), []int{1, 2, 3})
	if err != nil || string(records[0]) != "one" || string(records[1]) != "mine" || len(records[2]) > 0 {
		t.Errorf("read %q, %v", records, err)
	}
	if refused := flush(2, r.Owned[2], ""); refused != nil {
		t.Errorf("refused %v", refused)
	}
	if n := rdb.Exists(t.Context(), prefix+"shard:2").Val(); n != 0 {
		t.Error("the record of a shard without instances is kept")
	}
	_ = rdb.Set(t.Context(), prefix+"shards", "a string", 0)
	if _, err := s.Flush(t.Context(), []ownership.Flush{{Shard: 1, Term: r.Owned[1]}}); err == nil {
		t.Error("a table of the wrong type is no error")
	}
	if r, err = s.Own(t.Context(), ownership.Call{Worker: "a", Count: 2, Known: r.Version}); err != nil || !r.Full || len(r.Owned) != ownership.Shards {
		t.Errorf("after the next call the worker owns %d shards, %v", len(r.Owned), err)
	}
}

func TestThreeHundredWorkersEachOwnOneShardOrNone(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
	members := make([]*ownership.Member, 300)
	now := s.Now()
	for n := range members {
		members[n] = ownership.NewMember(fmt.Sprintf("w%d", n))
	}
	for range 4 {
		for _, m := range members {
			r, err := s.Own(t.Context(), m.Next(now, m.Surplus(false)))
			if err != nil {
				t.Fatal(err)
			}
			m.Apply(now, r)
		}
	}
	owned := map[int]string{}
	for _, m := range members {
		if len(m.Owned()) > 1 {
			t.Errorf("%s owns %d shards", m.ID(), len(m.Owned()))
		}
		for shard := range maps.Keys(m.Owned()) {
			owned[shard] = m.ID()
		}
	}
	if len(owned) != ownership.Shards {
		t.Errorf("%d shards have an owner, want all", len(owned))
	}
}
