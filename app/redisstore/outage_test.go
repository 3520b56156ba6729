package redisstore_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/app/ownership"
	"rollcall/app/redisstore"
	"rollcall/app/replica"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// calls lists every method that calls Redis.
func (s *site) calls(ctx context.Context) map[string]func() error {
	i := app.Instance{ID: "i1", Service: "web", Address: "10.0.0.1:80", Check: app.DefaultCheck(app.TCP)}
	return map[string]func() error{
		"get":        func() error { _, err := s.Get(ctx, "i1"); return err },
		"results":    func() error { _, err := s.Results(ctx, "i1"); return err },
		"commit":     func() error { _, err := s.Commit(ctx, app.Change{Steps: []app.Step{{Is: i}}}); return err },
		"assert":     func() error { return s.Assert(ctx, i, nil) },
		"passed":     func() error { return s.Passed(ctx, i, app.Fence{}) },
		"probe now":  func() error { return s.ProbeNow(ctx, "i1") },
		"own":        func() error { _, err := s.Own(ctx, ownership.Call{Worker: "w", Count: 1}); return err },
		"flush":      func() error { _, err := s.Flush(ctx, []ownership.Flush{{Shard: 1, Term: "w 1"}}); return err },
		"flushed":    func() error { _, err := s.Flushed(ctx, []int{1}); return err },
		"announce":   func() error { return s.Announce(ctx, diagnose.Process{Host: "a"}) },
		"withdraw":   func() error { return s.Withdraw(ctx, diagnose.Process{Host: "a"}) },
		"processes":  func() error { _, err := s.Processes(ctx); return err },
		"last":       func() error { _, err := s.LastResults(ctx, []string{"i1"}); return err },
		"recent":     func() error { _, err := s.Recent(ctx, "i1"); return err },
		"beats":      func() error { _, _, err := s.Beats(ctx, []string{"i1"}); return err },
		"alive":      func() error { return s.Alive(ctx) },
		"sync clock": func() error { return s.SyncClock(ctx) },
		"departures": func() error { _, _, err := s.vhosts.Departures(ctx, app.Everything); return err },
		"settled": func() error {
			_, _, err := s.vhosts.RemoveSettled(ctx, []app.Settled{{Host: "a.test"}})
			return err
		},
		"find marks": func() error { return s.vhosts.FindMarks(ctx, app.Everything) },
		"compare":    func() error { _, err := s.vhosts.Compare(ctx, app.Everything, 1); return err },
		"reconcile":  func() error { _, err := s.Reconcile(ctx, app.Everything); return err },
		"frontends":  func() error { _, err := s.Frontends(ctx); return err },
		"all":        func() error { _, err := s.All(ctx); return err },
		"announced": func() error {
			_, _, err := s.vhosts.Announced(ctx, hipache.Announcement{Host: "a.test", URL: "x"}, app.Everything)
			return err
		},
	}
}

// wantUnavailable makes every call at once. Each must return within about a second, with app.ErrUnavailable.
func (s *site) wantUnavailable(t *testing.T, because string) {
	t.Helper()
	var all sync.WaitGroup
	for name, call := range s.calls(t.Context()) {
		all.Go(func() {
			began := time.Now()
			err := call()
			if took := time.Since(began); !errors.Is(err, app.ErrUnavailable) || took > 1500*time.Millisecond {
				t.Errorf("%s, %s: got %v after %v, want it unavailable within a second", because, name, err, took)
			}
		})
	}
	all.Wait()
}

func TestRedisAwayIsSaidSoWithinASecond(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	server.Restart(t, "--appendonly", "yes", "--appendfsync", "always")
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	s.up(t, 2)
	answers := func() bool { // both connection pools of the client must notice
		_, err1 := s.Get(t.Context(), "i1")
		_, err2 := s.Results(t.Context(), "i1")
		return err1 == nil && err2 == nil
	}

	server.Freeze()
	s.wantUnavailable(t, "frozen")
	server.Thaw()
	harness.Await(t, "a thawed server answers", answers)
	s.wantList(t, "a.test", "web 1 2")

	server.Kill()
	s.wantUnavailable(t, "killed")
	server.Restart(t, "--appendonly", "yes", "--appendfsync", "always")
	harness.Await(t, "a restarted server answers", answers)
	s.wantList(t, "a.test", "web 1 2")
	s.check(t, "i1", "--") // the server has none of the scripts
	s.wantList(t, "a.test", "web 1! 2")
	s.check(t, "i2", "+")
	if r, err := s.Own(t.Context(), ownership.Call{Worker: "w", Count: 1}); err != nil || len(r.Owned) != ownership.Shards {
		t.Errorf("own: %d shards, %v", len(r.Owned), err)
	}
}

func TestAChangeWithoutAnAnswerIsUncertainOnlyIfItWasSent(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	commit := func(n int, within time.Duration) error {
		ctx, cancel := context.WithTimeout(t.Context(), within)
		defer cancel()
		i := app.Instance{ID: fmt.Sprint("i", n), Service: "web", Address: fmt.Sprintf("10.0.0.%d:80", n)}
		_, err := s.Commit(ctx, app.Change{Steps: []app.Step{{Is: i}}})
		return err
	}

	server.Freeze()
	sent := make(chan error, 1)
	go func() { sent <- commit(2, time.Second) }()
	harness.Await(t, "a call is under way", s.Busy)
	if err := commit(3, time.Millisecond); !errors.Is(err, app.ErrUnavailable) || errors.Is(err, app.ErrUncertain) {
		t.Errorf("a change that was not sent: got %v, want it unavailable and not uncertain", err)
	}
	if err := <-sent; !errors.Is(err, app.ErrUnavailable) || !errors.Is(err, app.ErrUncertain) {
		t.Errorf("a change that was sent: got %v, want it unavailable and uncertain", err)
	}
	server.Thaw()
	harness.Await(t, "the change that was sent is made", func() bool { _, err := s.Get(t.Context(), "i2"); return err == nil })
	if _, err := s.Get(t.Context(), "i3"); !errors.Is(err, app.ErrNotFound) {
		t.Errorf("the change that was not sent: got %v, want that it is not made", err)
	}

	server.Kill()
	harness.Await(t, "a change is certainly not made while connections are refused", func() bool {
		err := commit(4, time.Second)
		return errors.Is(err, app.ErrUnavailable) && !errors.Is(err, app.ErrUncertain)
	})
}

// Redis's answers for "not now", inside and outside a script.
func TestRedisThatRefusesIsUnavailable(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	refused := func(because string) {
		t.Helper()
		_, err := s.Commit(t.Context(), app.Change{Steps: []app.Step{{Is: app.Instance{ID: "i2", Service: "web", Address: "10.0.0.2:80"}}}})
		if !errors.Is(err, app.ErrUnavailable) {
			t.Errorf("%s: got %v, want it unavailable", because, err)
		}
	}
	config := func(args ...string) {
		t.Helper()
		if err := s.rdb.Do(t.Context(), append([]any{"CONFIG", "SET"}, args[0], args[1])...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	config("maxmemory", "1")
	refused("no memory left")
	config("maxmemory", "0")
	config("min-replicas-to-write", "1")
	refused("too few replicas")
	config("min-replicas-to-write", "0")
	s.check(t, "i1", "-")
	if err := s.rdb.Do(t.Context(), "REPLICAOF", "127.0.0.1", "1").Err(); err != nil {
		t.Fatal(err)
	}
	refused("a replica")
}

func TestRedisThatComesBackEmptyIsFilledAgain(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	s.up(t, 2)
	s.do(t, "DEL ~events") // no event announces the other registry
	rep := s.follow(t)
	harness.Await(t, "the replica has both", func() bool { return len(rep.Instances("")) == 2 })

	if err := s.rdb.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	harness.Await(t, "the replica is empty", func() bool { return len(rep.Instances("")) == 0 })
	registered := s.register(t, saying(1))
	if !registered.New || registered.Instance.Rev == 0 {
		t.Errorf("registered %+v, want it new", registered)
	}
	if err := rep.WaitRevision(t.Context(), registered.Revision); err != nil {
		t.Fatal(err)
	}
	s.check(t, "i1", "++")
	s.wantList(t, "a.test", "web 1")

	server.Restart(t) // all data is lost
	harness.Await(t, "the replica is empty again", func() bool { return len(rep.Instances("")) == 0 })
	s.up(t, 2)
	s.wantList(t, "a.test", "web 2")
	harness.Await(t, "the replica has the one there is", func() bool {
		i, ok := rep.Instance("i2")
		_, err := rep.Age(time.Now())
		return ok && i.State == app.Healthy && err == nil
	})
}

// follow keeps a replica current until the test ends.
func (s *site) follow(t *testing.T) *replica.Replica {
	t.Helper()
	rep := replica.New()
	ctx, cancel := context.WithCancel(context.WithoutCancel(t.Context()))
	var done sync.WaitGroup
	done.Go(func() { s.Follow(ctx, rep) })
	t.Cleanup(func() {
		cancel()
		done.Wait()
	})
	return rep
}

// After a failover to a replica without the last events, or after a trim of the stream, the registry is the same, but the
// events do not continue from the follower's revision.
func TestAFollowerThatMissedEventsReadsEverythingAnew(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	rep := s.follow(t)
	two := s.register(t, saying(2))
	if err := rep.WaitRevision(t.Context(), two.Revision); err != nil {
		t.Fatal(err)
	}
	// The second registration never reached the replica.
	s.rdb.XDel(t.Context(), s.prefix+"events", string(two.Revision))
	s.rdb.Del(t.Context(), s.prefix+"instance:i2")
	s.rdb.HDel(t.Context(), s.prefix+"service:web", two.Instance.Address)
	harness.Await(t, "the follower has noticed", func() bool { _, known := rep.Instance("i2"); return !known })
	if _, known := rep.Instance("i1"); !known {
		t.Error("i1 is not known any more")
	}

	s.rdb.XTrimMaxLen(t.Context(), s.prefix+"events", 0)
	three := s.register(t, saying(3))
	harness.Await(t, "the follower goes on", func() bool { _, known := rep.Instance("i3"); return known })
	if err := rep.WaitRevision(t.Context(), three.Revision); err != nil {
		t.Fatal(err)
	}
}

func TestAFollowerOfARedisThatIsAwayGrowsOld(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	rep := s.follow(t)
	fresh := func() bool { _, err := rep.Age(time.Now()); return err == nil }
	harness.Await(t, "the replica is fresh", fresh)
	server.Freeze()
	harness.Await(t, "the replica is old", func() bool { return !fresh() })
	if _, known := rep.Instance("i1"); !known {
		t.Error("what is known is forgotten")
	}
	server.Thaw()
	harness.Await(t, "the replica is fresh again", fresh)
}

func TestAWorkerAnswersOtherProcesses(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	i := s.up(t, 1)
	shard := ownership.ShardOf(i.ID)
	ctx, cancel := context.WithCancel(t.Context())
	shares, probes := make(chan struct{}, 100), make(chan string, 100)
	r, err := s.Own(t.Context(), ownership.Call{Worker: "w", Count: 1})
	if err != nil {
		t.Fatal(err)
	}
	result := app.Result{At: time.UnixMilli(s.clock.Now().UnixMilli()), Latency: 7 * time.Millisecond, Passed: true}
	flush := func(ctx context.Context, asked int) (bool, error) {
		if asked != shard {
			return false, nil
		}
		var h app.History
		h.Add(result)
		p := ownership.Progress{ID: i.ID, Due: 1_900_000_001_000, History: h.Packed()}
		_, err := s.Flush(ctx, []ownership.Flush{{Shard: shard, Term: r.Owned[shard], Record: p.Append(ownership.AppendRecord(nil, 1_900_000_000_000))}})
		return true, err
	}
	var done sync.WaitGroup
	done.Go(func() {
		s.Answer(ctx, redisstore.Asked{
			Shares: func() { shares <- struct{}{} }, Flush: flush, Probe: func(id string) { probes <- id },
		})
	})
	harness.Await(t, "the worker listens", func() bool {
		return s.rdb.PubSubNumSub(t.Context(), s.prefix+"probe").Val()[s.prefix+"probe"] == 1
	})
	if err := s.ProbeNow(t.Context(), "i1"); err != nil {
		t.Fatal(err)
	}
	if id := <-probes; id != "i1" {
		t.Errorf("%s is to be probed, want i1", id)
	}
	if _, err := s.Own(t.Context(), ownership.Call{Worker: "other", Count: 1}); err != nil {
		t.Fatal(err)
	}
	<-shares
	recent, err := s.Recent(t.Context(), "i1")
	want := app.Recent{Results: []app.Result{result}, Due: time.UnixMilli(1_900_000_001_000), At: time.UnixMilli(1_900_000_000_000)}
	if diff := cmp.Diff(want, recent); diff != "" || err != nil {
		t.Errorf("asked (-want +got), %v:\n%s", err, diff)
	}
	last, err := s.LastResults(t.Context(), []string{"i1", "i2"})
	if diff := cmp.Diff(map[string]app.Result{"i1": result}, last); diff != "" || err != nil {
		t.Errorf("last results (-want +got), %v:\n%s", err, diff)
	}
	cancel()
	done.Wait()
}

func TestTheClockIsTheServers(t *testing.T) {
	t.Parallel()
	for _, ahead := range []time.Duration{0, time.Hour, -time.Hour} {
		t.Run(fmt.Sprint(ahead, " ahead"), func(t *testing.T) {
			t.Parallel()
			s := redisstore.New(harness.SharedRedis(t), redisstore.Options{Now: func() time.Time { return time.Now().Add(ahead) }})
			if err := s.SyncClock(t.Context()); err != nil {
				t.Fatal(err)
			}
			if off := time.Until(s.Now()).Abs(); off > 100*time.Millisecond {
				t.Errorf("%v off the server's clock, which is this machine's", off)
			}
		})
	}
	s := redisstore.New(harness.SharedRedis(t), redisstore.Options{})
	if off := time.Since(s.Now()).Abs(); off > time.Second {
		t.Errorf("the clock is %v off by default", off)
	}
}

// A step of either clock has an effect only on the difference.
func TestAProcessNoticesThatAClockWasSet(t *testing.T) {
	t.Parallel()
	var ahead time.Duration
	s := redisstore.New(harness.SharedRedis(t), redisstore.Options{
		Prefix: harness.Prefix(t), Now: func() time.Time { return time.Now().Add(ahead) },
	})
	if err := s.SyncClock(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, ahead = range []time.Duration{time.Hour, -time.Hour, 0} {
		if err := s.Alive(t.Context()); err != nil {
			t.Errorf("%v ahead: %v", ahead, err)
		}
		if off := time.Until(s.Now()).Abs(); off > time.Second {
			t.Errorf("%v ahead: after a tick %v off the server's clock", ahead, off)
		}
	}
}

// A Redis that refuses to write is not ready; an unreachable Redis is found by reads.
func TestWritableIsTheLastCallThatRedisRefused(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	rdb := server.Client(t)
	s := redisstore.New(rdb, redisstore.Options{})
	ctx := t.Context()
	if err := s.Writable(); err != nil {
		t.Errorf("before the first call: %v", err)
	}
	for _, c := range []struct {
		begin, end []any
		says       string
	}{
		{[]any{"config", "set", "min-replicas-to-write", 1}, []any{"config", "set", "min-replicas-to-write", 0}, "NOREPLICAS"},
		{[]any{"config", "set", "maxmemory", 1}, []any{"config", "set", "maxmemory", 0}, "OOM"},
		{[]any{"replicaof", "127.0.0.1", "1"}, []any{"replicaof", "no", "one"}, "READONLY"},
	} {
		if err := rdb.Do(ctx, c.begin...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Alive(ctx); err == nil {
			t.Errorf("%v: the call was written", c.begin)
		}
		if err := s.Writable(); !errors.Is(err, app.ErrUnavailable) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%v: got %v, want %s", c.begin, err, c.says)
		}
		if err := rdb.Do(ctx, c.end...).Err(); err != nil {
			t.Fatal(err)
		}
		if err := s.Alive(ctx); err != nil || s.Writable() != nil {
			t.Errorf("after %v: got %v, %v", c.end, err, s.Writable())
		}
	}
	server.Kill()
	if err := s.Alive(ctx); err == nil || s.Writable() != nil {
		t.Errorf("away: got %v, %v; want an error, and nothing refused", err, s.Writable())
	}
}
