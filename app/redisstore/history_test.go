package redisstore_test

import (
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"testing"
	"time"

	"rollcall/app"
	"rollcall/app/history"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/tests/harness"
)

func checks(n int) history.Record {
	var r history.Record
	for range n {
		r.Check(true, 10*time.Millisecond)
	}
	return r
}

// TestEachContributionCountsOnce has three workers contribute to a service, with batches that are
// sent again because their replies were lost, with hand-overs, with batches under terms that are
// over, and with compactions at random.
func TestEachContributionCountsOnce(t *testing.T) {
	t.Parallel()
	rdb := harness.SharedRedis(t)
	series := history.ServiceSeries("web")
	for seed := range uint64(10) {
		prefix := harness.Prefix(t)
		s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
		h := s.History(history.Default)
		r := rand.New(rand.NewPCG(seed, 3))
		start := time.UnixMilli(1_900_000_000_000)
		want := uint32(0)
		calls, numbers, owned := map[string]int64{}, map[string]int64{}, map[string]map[int]ownership.Term{}
		last := map[string]history.Batch{}
		own := func(w string, stopping bool) {
			calls[w]++
			reply, err := s.Own(t.Context(), ownership.Call{Worker: w, Count: calls[w], Stopping: stopping})
			if err != nil {
				t.Fatal(err)
			}
			owned[w] = reply.Owned
		}
		for n := range 200 {
			w := fmt.Sprint("w", r.IntN(3))
			switch r.IntN(5) {
			case 0:
				own(w, r.IntN(3) == 0)
			case 1: // the reply was lost, or the batch waits in a worker that is gone
				if b, sent := last[w]; sent {
					if _, err := h.Contribute(t.Context(), b); err != nil {
						t.Fatal(err)
					}
				}
			case 2:
				shard := ownership.ShardOf("web")
				err := h.Compact(t.Context(), app.Fence{Shard: shard, Term: string(owned[w][shard])}, series)
				if err != nil && !errors.Is(err, app.ErrNotOwner) {
					t.Fatal(err)
				}
			default:
				shard := r.IntN(ownership.Shards)
				term := owned[w][shard]
				numbers[w]++
				at := start.Add(time.Duration(n) * 20 * time.Second)
				b := history.Batch{Worker: w, Number: numbers[w], Terms: map[int]string{shard: string(term)}, Series: map[string]history.Contribution{series: {At: at, Record: checks(n)}}}
				refused, err := h.Contribute(t.Context(), b)
				if err != nil {
					t.Fatal(err)
				}
				if mine := rdb.HGet(t.Context(), prefix+"shards", fmt.Sprint(shard)).Val() == string(term) && term != ""; mine != (refused == nil) {
					t.Fatalf("history %d, step %d: refused %v, but the shard is the worker's: %t", seed, n, refused, mine)
				}
				if refused == nil {
					want += uint32(n)
					last[w] = b
				}
			}
			all, err := h.Series(t.Context(), series)
			if err != nil {
				t.Fatal(err)
			}
			if got := history.Total(all[0].Range(start.Add(2*time.Hour), 3*time.Hour)); got.Passed != want {
				t.Fatalf("history %d, step %d: %d checks, want %d", seed, n, got.Passed, want)
			}
		}
	}
}

// TestAMonthOfAServiceTakes32KB fills the history of a service that has many instances, many
// failures and latencies from 1 ms to 64 s, and the list of its departures.
func TestAMonthOfAServiceTakes32KB(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
	h := s.History(history.Default)
	owned, err := s.Own(t.Context(), ownership.Call{Worker: "w", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	shard, series := ownership.ShardOf("web"), history.ServiceSeries("web")
	fence := app.Fence{Shard: shard, Term: string(owned.Owned[shard])}
	r := rand.New(rand.NewPCG(1, 2))
	start := time.UnixMilli(1_900_000_000_000)
	for n := range 33 * 24 {
		for minute := range 60 {
			if n < 33*24-4 && minute%30 != 0 {
				continue // older than the minutes that are kept
			}
			record := history.Record{Observed: time.Minute, Up: time.Minute - time.Duration(r.IntN(20_000))*time.Millisecond, Flips: 3, Joined: 2, Instances: 300}
			for range 60 {
				record.Check(r.IntN(10) > 0, time.Duration(math.Exp2(16*r.Float64())*float64(time.Millisecond)))
			}
			for k := range record.Latency {
				record.Latency[k] *= 50
			}
			record.Passed, record.Failed = record.Passed*50, record.Failed*50
			at := start.Add(time.Duration(n)*time.Hour + time.Duration(minute)*time.Minute)
			b := history.Batch{Worker: "w", Number: int64(n*60 + minute + 1), Terms: map[int]string{shard: fence.Term}, Series: map[string]history.Contribution{series: {At: at, Record: record}}}
			if refused, err := h.Contribute(t.Context(), b); err != nil || refused != nil {
				t.Fatal(refused, err)
			}
		}
		if err := h.Compact(t.Context(), fence, series); err != nil {
			t.Fatal(err)
		}
	}
	size := int64(0)
	for _, key := range []string{"history:" + series, "history-new:" + series} {
		n, err := rdb.MemoryUsage(t.Context(), prefix+key, 0).Result()
		if err == nil {
			size += n
		}
	}
	const departures = 15 * 140
	t.Logf("%d bytes in Redis and %d for departures", size, departures)
	if size+departures > 32<<10 {
		t.Errorf("the history of a service takes %d bytes", size)
	}
	all, err := h.Series(t.Context(), series)
	if err != nil {
		t.Fatal(err)
	}
	now := start.Add(33*24*time.Hour - time.Minute)
	for _, rng := range []time.Duration{time.Hour, 24 * time.Hour, 30 * 24 * time.Hour} {
		for _, p := range all[0].Range(now, rng) {
			if p.Record.Observed == 0 {
				t.Fatalf("of %v, %v is lost", rng, p.At)
			}
		}
	}
}

// Departures are listed for a day. An entry that cannot be read is left out.
func TestDeparturesAreOfTheLastDay(t *testing.T) {
	t.Parallel()
	rdb, prefix := harness.SharedRedis(t), harness.Prefix(t)
	s := redisstore.New(rdb, redisstore.Options{Prefix: prefix})
	for n := range 25 {
		rdb.LPush(t.Context(), prefix+"departed:web", fmt.Sprintf(`{"instance": "i%d", "at": %d, "from": "healthy", "reason": "gone"}`, n, time.Now().Add(-time.Duration(25-n)*time.Hour).UnixMilli()))
	}
	rdb.LPush(t.Context(), prefix+"departed:web", "not JSON")
	departed, err := s.History(history.Default).Departed(t.Context(), "web")
	if err != nil || len(departed) != 23 || departed[0].Instance != "i24" {
		t.Errorf("%d departures, first %+v, %v; want the 23 of the last 24 h", len(departed), departed[0], err)
	}
}
