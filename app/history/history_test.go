package history_test

import (
	"math"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"rollcall/app/history"
)

var (
	latencies = rapid.Custom(func(t *rapid.T) time.Duration {
		return time.Duration(math.Exp(rapid.Float64Range(0, math.Log(100e9)).Draw(t, "log")))
	})
	records = rapid.Custom(func(t *rapid.T) history.Record {
		ms := func(name string) time.Duration {
			return time.Duration(rapid.IntRange(0, 60_000).Draw(t, name)) * time.Millisecond
		}
		r := history.Record{
			Observed: ms("observed"), Up: ms("up"), Flips: rapid.Uint32Range(0, 9).Draw(t, "flips"),
			Joined: rapid.Uint32Range(0, 9).Draw(t, "joined"), Instances: rapid.Uint32Range(0, 99).Draw(t, "instances"),
		}
		r.Up = min(r.Up, r.Observed)
		for range rapid.IntRange(0, 9).Draw(t, "checks") {
			r.Check(rapid.Bool().Draw(t, "passed"), latencies.Draw(t, "latency"))
		}
		return r
	})
	contributions = rapid.Custom(func(t *rapid.T) history.Contribution {
		at := time.UnixMilli(1_900_000_000_000 + rapid.Int64Range(0, 40*24*3600*1000).Draw(t, "at"))
		return history.Contribution{At: at, Record: records.Draw(t, "record")}
	})
)

// exact returns the value at the rank that Quantile means.
func exact(sorted []time.Duration, q float64) time.Duration {
	return sorted[min(max(int(math.Ceil(q*float64(len(sorted))))-1, 0), len(sorted)-1)]
}

func TestAQuantileIsWithinABucketOfTheExactOne(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) time.Duration { return min(latencies.Draw(t, "latency"), 65*time.Second) }), 1, 200).Draw(t, "latencies")
		var h history.Histogram
		for _, d := range all {
			h.Add(d)
		}
		slices.Sort(all)
		for _, q := range []float64{0.01, 0.5, 0.95, 1} {
			got, want := h.Quantile(q), exact(all, q)
			if ratio := float64(got) / float64(want); (ratio < 1/1.4143 || ratio > 1.4143) && (got-want).Abs() > 500*time.Microsecond {
				t.Fatalf("quantile %v of %v is %v, want %v within √2", q, all, got, want)
			}
		}
	})
}

func TestContributionsAddUpInAnyOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := rapid.SliceOfN(contributions, 1, 12).Draw(t, "contributions")
		var want history.Record
		for n := range all {
			want.Merge(&all[n].Record)
			again, err := history.ReadContribution(all[n].Append(nil))
			if err != nil || !again.At.Equal(all[n].At) || again.Record != all[n].Record {
				t.Fatalf("%+v is read as %+v, %v", all[n], again, err)
			}
		}
		shuffled := slices.Clone(all)
		rand.New(rand.NewPCG(1, uint64(len(all)))).Shuffle(len(all), func(i, j int) { shuffled[i], shuffled[j] = shuffled[j], shuffled[i] })
		one, other := history.NewSeries(history.Default), history.NewSeries(history.Default)
		for n := range all {
			one.Add(all[n])
			other.Add(shuffled[n])
		}
		now := time.UnixMilli(1_900_000_000_000 + 40*24*3600*1000)
		if a, b := one.Range(now, 41*24*time.Hour), other.Range(now, 41*24*time.Hour); !slices.Equal(a, b) {
			t.Fatalf("in another order the series is another one: %+v, %+v", a, b)
		}
		if got := history.Total(one.Range(now, 41*24*time.Hour)); got != want {
			t.Fatalf("the sum is %+v, want %+v", got, want)
		}
	})
}

// A stored series keeps every sum. Buckets that are over keep only some of their latency buckets.
func TestAStoredSeriesKeepsItsSums(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := history.NewSeries(history.Default)
		var want history.Record
		for _, c := range rapid.SliceOfN(contributions, 1, 30).Draw(t, "contributions") {
			s.Add(c)
			want.Merge(&c.Record)
			s = stored(t, s) // after each contribution
		}
		now := time.UnixMilli(1_900_000_000_000 + 40*24*3600*1000)
		got := history.Total(s.Range(now, 41*24*time.Hour))
		got.Latency, want.Latency = history.Histogram{}, history.Histogram{}
		if got != want {
			t.Fatalf("the sum is %+v, want %+v", got, want)
		}
	})
}

func stored(t interface{ Fatal(args ...any) }, s *history.Series) *history.Series {
	again := history.NewSeries(history.Default)
	if err := again.ReadFine(s.EncodeFine()); err != nil {
		t.Fatal(err)
	}
	for _, group := range s.EncodeGroups() {
		if err := again.ReadGroup(group); err != nil {
			t.Fatal(err)
		}
	}
	return again
}

// TestAMonthTakes28KB fills all buckets of a service that fails one check in ten, with latencies from
// 1 ms to 64 s. Departures and Redis take up to 4 KB more.
func TestAMonthTakes28KB(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(1, 2))
	start := time.UnixMilli(1_900_000_000_000).Truncate(time.Hour)
	s := history.NewSeries(history.Default)
	for minute := range 30 * 24 * 60 {
		c := history.Contribution{At: start.Add(time.Duration(minute) * time.Minute), Record: history.Record{
			Observed: time.Minute, Up: time.Minute - time.Duration(r.IntN(20_000))*time.Millisecond, Flips: 3, Joined: 2, Instances: 300,
		}}
		for range 60 {
			c.Record.Check(r.IntN(10) > 0, time.Duration(math.Exp2(16*r.Float64())*float64(time.Millisecond)))
		}
		c.Record.Passed *= 50 // of 300 instances
		for n := range c.Record.Latency {
			c.Record.Latency[n] *= 50
		}
		s.Add(c)
	}
	size := len(s.EncodeFine())
	groups := 0
	for _, g := range s.EncodeGroups() {
		size += len(g)
		groups++
	}
	t.Logf("%d bytes in %d groups", size, groups)
	if groups > history.Default.Groups()+1 || size > 28<<10 {
		t.Errorf("a month takes %d bytes in %d groups", size, groups)
	}
}

// A service whose latencies are mostly within a factor of 11 keeps its quantiles after the bucket is over.
func TestAClosedBucketKeepsItsQuantiles(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		start := time.UnixMilli(1_900_000_000_000).Truncate(24 * time.Hour)
		middle := math.Exp(rapid.Float64Range(math.Log(2e6), math.Log(5e8)).Draw(t, "middle"))
		spread := rapid.Float64Range(0.05, 0.6).Draw(t, "spread")
		r := rand.New(rand.NewPCG(rapid.Uint64().Draw(t, "seed"), 1))
		s := history.NewSeries(history.Default)
		var all []time.Duration
		for minute := range 60 {
			c := history.Contribution{At: start.Add(time.Duration(minute) * time.Minute)}
			for range 20 {
				d := time.Duration(middle * math.Exp(spread*r.NormFloat64()))
				all = append(all, d)
				c.Record.Check(true, d)
			}
			s.Add(c)
		}
		for hour := 1; hour < 12; hour++ { // the first one is over
			s.Add(history.Contribution{At: start.Add(time.Duration(hour) * time.Hour), Record: history.Record{Observed: time.Hour}})
		}
		s = stored(t, stored(t, s))
		slices.Sort(all)
		points := s.Range(start.Add(12*time.Hour), 24*time.Hour)
		total := history.Total(points)
		for _, q := range []float64{0.5, 0.95} {
			got, want := total.Latency.Quantile(q), exact(all, q)
			if ratio := float64(got) / float64(want); ratio < 1/1.4143 || ratio > 1.4143 {
				t.Fatalf("quantile %v around %v is %v, want %v", q, time.Duration(middle), got, want)
			}
		}
	})
}

func TestUnobservedTimeIsUnknown(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_900_000_000_000).Truncate(time.Hour).Add(10*time.Minute + 30*time.Second)
	s := history.NewSeries(history.Default)
	s.Add(history.Contribution{At: now.Add(-2 * time.Minute), Record: history.Record{Observed: 20 * time.Second, Up: 15 * time.Second}})
	points := s.Range(now, time.Hour)
	if len(points) != 60 {
		t.Fatalf("an hour has %d minutes", len(points))
	}
	unknown := time.Duration(0)
	for _, p := range points {
		unknown += p.Unknown(now)
	}
	if want := 59*time.Minute + 30*time.Second - 20*time.Second; unknown != want {
		t.Errorf("%v are unknown, want %v", unknown, want)
	}
	total := history.Total(points)
	if share, known := total.Availability(); share != 0.75 || !known {
		t.Errorf("availability is %v, %v", share, known)
	}
	if share, known := points[0].Record.Availability(); known {
		t.Errorf("a minute that no worker observed has availability %v", share)
	}
}

// A step of Redis's clock adds to other buckets, and removes none of those that a correct clock
// has filled, but for as many of the oldest as it adds.
func TestAStepOfTheClockRemovesNoHistory(t *testing.T) {
	t.Parallel()
	now := time.UnixMilli(1_900_000_000_000).Truncate(time.Hour)
	s := history.NewSeries(history.Default)
	put := func(at time.Time) {
		s.Add(history.Contribution{At: at, Record: history.Record{Passed: 1}})
		s = stored(t, s)
	}
	for n := range 100 {
		put(now.Add(time.Duration(n) * time.Minute))
	}
	now = now.Add(100 * time.Minute)
	for n := range 5 {
		put(now.Add(365*24*time.Hour + time.Duration(n)*time.Minute))
	}
	put(now)
	if total := history.Total(s.Range(now, 3*time.Hour)); total.Passed != 101 {
		t.Errorf("%d of 101 checks are left", total.Passed)
	}
}

func FuzzReadContribution(f *testing.F) {
	c := history.Contribution{At: time.UnixMilli(1), Record: history.Record{Observed: time.Second}}
	c.Record.Check(true, time.Millisecond)
	f.Add(c.Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		_, _ = history.ReadContribution(b)
		s := history.NewSeries(history.Default)
		if s.ReadFine(b) == nil {
			_ = s.EncodeFine()
		}
	})
}

func BenchmarkCheck(b *testing.B) {
	var r history.Record
	for n := 0; b.Loop(); n++ {
		r.Check(true, time.Duration(n%1000)*time.Microsecond*50)
	}
}
