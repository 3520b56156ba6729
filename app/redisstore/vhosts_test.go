package redisstore_test

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/redis/go-redis/v9"
	"pgregory.net/rapid"

	"rollcall/app"
	"rollcall/app/ownership"
	"rollcall/app/redisstore/storetest"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

// join makes a worker take its fair share, and returns its shards.
func (s *site) join(t *testing.T, worker string, count int64, release ...int) app.Owner {
	t.Helper()
	r, err := s.Own(t.Context(), ownership.Call{Worker: worker, Count: count, Release: release})
	if err != nil {
		t.Fatal(err)
	}
	return func(name string) (app.Fence, bool) {
		shard := ownership.ShardOf(name)
		term, is := r.Owned[shard]
		return app.Fence{Shard: shard, Term: string(term)}, is
	}
}

// TestOnlyTheOwnerWritesAVhost has two workers. The first one owned everything, and has not yet noticed that the second
// one has taken its shards.
func TestOnlyTheOwnerWritesAVhost(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.up(t, 2)
	s.up(t, 3, hosts("*.w.test"))
	former := s.join(t, "former", 1)
	if _, err := s.vhosts.Compare(t.Context(), former, 100); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Own(t.Context(), ownership.Call{Worker: "former", Count: 2, Stopping: true}); err != nil {
		t.Fatal(err)
	}
	owner := s.join(t, "owner", 1)
	if was, is := former("a.test"); !is {
		t.Fatal("the former owner does not believe that it owns a.test")
	} else if now, _ := owner("a.test"); was == now {
		t.Fatalf("both have the fence %v", was)
	}

	s.check(t, "i1", "--")
	s.wantList(t, "a.test", "web 1! 2")
	_, departures, err := s.vhosts.Departures(t.Context(), former)
	if err != nil || len(departures["a.test"]) != 1 {
		t.Fatalf("departures: %v, %v; want one of a.test", departures, err)
	}
	remove := func(owns app.Owner) (wrote int, refused []string) {
		t.Helper()
		fence, _ := owns("a.test")
		wrote, refused, err := s.vhosts.RemoveSettled(t.Context(), []app.Settled{{Host: "a.test", Fence: fence, Departures: departures["a.test"]}})
		if err != nil {
			t.Fatal(err)
		}
		return wrote, refused
	}
	if wrote, refused := remove(former); wrote != 0 || !slices.Equal(refused, []string{"a.test"}) {
		t.Errorf("the former owner wrote %d lists, refused %v", wrote, refused)
	}
	s.wantList(t, "a.test", "web 1! 2")

	s.do(t, "DEL frontend:a.test")
	found, err := s.vhosts.Compare(t.Context(), former, 100)
	if err != nil || found.Repairs.Lists != 0 || !slices.Equal(found.Refused, []string{"a.test"}) {
		t.Errorf("the former owner found %+v, %v", found, err)
	}
	if n := s.do(t, "EXISTS frontend:a.test"); n != int64(0) {
		t.Error("the former owner has repaired the list")
	}
	if found, err := s.Reconcile(t.Context(), former); err != nil || !found.None() {
		t.Errorf("the former owner reconciled %+v, %v", found, err)
	}
	other := func(string) (app.Fence, bool) { return app.Fence{}, false }
	if found, err := s.vhosts.Compare(t.Context(), other, 100); err != nil || !found.Repairs.None() || found.Refused != nil {
		t.Errorf("a worker without shards found %+v, %v", found, err)
	}
	if found, err = s.vhosts.Compare(t.Context(), owner, 100); err != nil || found.Repairs.Lists != 1 {
		t.Errorf("the owner found %+v, %v; want one list repaired", found, err)
	}

	late := hipache.Announcement{Host: "a.test", URL: "http://10.0.0.9:80", Position: 0, Len: 2}
	for _, c := range []struct {
		name     string
		owns     app.Owner
		repaired bool
	}{{"the former owner", former, false}, {"a worker without shards", other, false}, {"the owner", owner, true}} {
		s.do(t, "SADD dead:a.test 0")
		if repaired, _, err := s.vhosts.Announced(t.Context(), late, c.owns); err != nil || repaired != c.repaired {
			t.Errorf("%s repaired the mark: %v, %v", c.name, repaired, err)
		}
		late.URL = "http://10.0.0.2:80" // whoever owns the vhost, the owner of the instance hears which one it is
		if _, id, err := s.vhosts.Announced(t.Context(), late, c.owns); err != nil || id != "i2" {
			t.Errorf("%s hears of %q, %v; want i2", c.name, id, err)
		}
		late.URL = "http://10.0.0.9:80"
	}
	s.do(t, "SADD dead:a.test 0")
	i2 := s.get(t, "i2")
	for _, worker := range []struct {
		owns app.Owner
		want error
	}{{former, app.ErrNotOwner}, {owner, nil}} {
		fence, _ := worker.owns("i2")
		if err := s.Passed(t.Context(), i2, fence); !errors.Is(err, worker.want) {
			t.Errorf("the mark of a pass is removed: %v, want %v", err, worker.want)
		}
	}
	s.do(t, "SADD dead:x.w.test 0")
	for _, owns := range []app.Owner{former, other} {
		if err := s.vhosts.FindMarks(t.Context(), owns); err != nil {
			t.Fatal(err)
		}
	}
	if n := s.do(t, "EXISTS dead:x.w.test"); n != int64(1) {
		t.Error("the former owner of a wildcard has deleted the marks under it")
	}
	if err := s.vhosts.FindMarks(t.Context(), owner); err != nil {
		t.Fatal(err)
	}
	if n := s.do(t, "EXISTS dead:x.w.test"); n != int64(0) {
		t.Error("the marks under a wildcard whose list is new are still there")
	}
}

// TestAMarkLastsAsLongAsItsBackendIsListed loses the mark of a backend that is leaving in each possible way.
func TestAMarkLastsAsLongAsItsBackendIsListed(t *testing.T) {
	t.Parallel()
	for _, lost := range []string{"DEL dead:a.test", "SREM dead:a.test 0", "SET dead:a.test x", "PEXPIRE dead:a.test 15000"} {
		t.Run(lost, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			s.up(t, 2)
			s.up(t, 3)
			compare := func() {
				t.Helper()
				if _, err := s.vhosts.Compare(t.Context(), app.Everything, 100); err != nil {
					t.Fatal(err)
				}
			}
			compare()
			s.check(t, "i1", "--")
			compare()
			s.clock.Pass(100 * time.Hour) // no clock matters
			s.do(t, lost)
			compare()
			s.wantList(t, "a.test", "web 1! 2 3")
			if ttl := s.rdb.TTL(t.Context(), s.proxy.Dead("a.test")).Val(); ttl < hipache.SettleMarkTTL/2 {
				t.Errorf("the mark lasts %v", ttl)
			}
		})
	}
}

// TestAMarkWhoseAnnouncementWasLostIsFound marks a backend that should get traffic, as a proxy does. Compare must name its
// instance, so that the owner probes it at once.
func TestAMarkWhoseAnnouncementWasLostIsFound(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 3 {
		s.up(t, n+1, hosts("a.test", "*.w.test"))
	}
	s.findMarks(t)
	s.check(t, "i3", "--")
	marked := func() []string {
		t.Helper()
		found, err := s.vhosts.Compare(t.Context(), app.Everything, 100)
		if err != nil {
			t.Fatal(err)
		}
		return found.Marked
	}
	if ids := marked(); ids != nil {
		t.Errorf("%v are named before a proxy has marked one", ids)
	}
	s.do(t, "SADD dead:a.test 1")
	if ids := marked(); !slices.Equal(ids, []string{"i2"}) {
		t.Errorf("%v are named, want i2", ids)
	}
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1 2 3!")
	s.do(t, "SADD dead:x.w.test 0")
	s.findMarks(t) // the list of the wildcard was rewritten: the mark cannot be trusted
	s.do(t, "SADD dead:x.w.test 0")
	s.findMarks(t)
	if ids := marked(); !slices.Equal(ids, []string{"i1"}) {
		t.Errorf("%v are named, want i1 under the wildcard", ids)
	}
}

// TestAVhostWithManyBackendsIsChangedAsOneWithFew compares the short way, which reads the changed members only, with
// the long one: after each change the long one writes no key.
func TestAVhostWithManyBackendsIsChangedAsOneWithFew(t *testing.T) {
	t.Parallel()
	rdb := harness.SharedRedis(t)
	rapid.Check(t, func(rt *rapid.T) {
		s := prefixedSite(rdb, harness.Prefix(t))
		const host, wildcard, many = "a.test", "*.w.test", 40
		instances := map[string]app.Instance{}
		commit := func(is ...app.Instance) {
			rt.Helper()
			var c app.Change
			for _, i := range is {
				c.Steps = append(c.Steps, app.Step{Was: instances[i.ID], Is: i})
			}
			if _, err := s.Commit(t.Context(), c); err != nil {
				rt.Fatal(err)
			}
			for _, step := range c.Steps {
				if instances[step.Is.ID] = step.Is; step.Is.State == app.Gone {
					delete(instances, step.Is.ID)
				}
			}
		}
		draw := func(n int) app.Instance {
			return app.Instance{
				ID: fmt.Sprintf("i%03d", n), Service: "web", Check: app.DefaultCheck(app.TCP), RegisteredAt: s.clock.Now(), Hosts: []string{host, wildcard},
				Address: fmt.Sprintf("10.0.0.%d:80", n), Weight: rapid.IntRange(1, 2).Draw(rt, "weight"), FailOpen: true,
			}.Begin(s.clock.Now())
		}
		judged := func(i app.Instance, passed bool) app.Instance {
			for range 2 {
				s.clock.Pass(time.Millisecond)
				i = i.Observe(app.Result{At: s.clock.Now(), Passed: passed, Code: 204}, s.clock.Now())
			}
			return i
		}
		var first []app.Instance
		for n := range many {
			first = append(first, draw(n))
		}
		commit(first...)
		for n, i := range first {
			first[n] = judged(instances[i.ID], true)
		}
		commit(first...)
		some := func() app.Instance {
			return instances[rapid.SampledFrom(slices.Sorted(maps.Keys(instances))).Draw(rt, "id")]
		}
		next := many
		rt.Repeat(map[string]func(*rapid.T){
			"pass": func(*rapid.T) { commit(judged(some(), true)) },
			"fail": func(*rapid.T) { commit(judged(some(), false)) },
			"fail, and one more": func(rt *rapid.T) {
				one, other := some(), some()
				if one.ID == other.ID {
					rt.Skip("it is the same")
				}
				commit(judged(one, false), other.Remove(s.clock.Now()))
			},
			"register": func(*rapid.T) { commit(draw(next)); next++ },
			"leave": func(rt *rapid.T) {
				if len(instances) <= 35 {
					rt.Skip("too few are left")
				}
				commit(some().Remove(s.clock.Now()))
			},
			"reweigh": func(*rapid.T) {
				i := some()
				i.Weight = rapid.IntRange(1, 3).Draw(rt, "weight")
				commit(i)
			},
			"a proxy marks one that passes": func(rt *rapid.T) {
				i := some()
				if !i.Routable() {
					rt.Skip("it gets no traffic")
				}
				position := rdb.LPos(t.Context(), s.proxy.Frontend(host), i.URL(), redis.LPosArgs{}).Val() - 1
				s.do(t, fmt.Sprint("SADD dead:", host, " ", position))
				if err := s.Passed(t.Context(), i, app.Fence{}); err != nil {
					rt.Fatal(err)
				}
				if rdb.SIsMember(t.Context(), s.proxy.Dead(host), position).Val() {
					rt.Error("the mark is still there")
				}
			},
			"time passes": func(*rapid.T) {
				s.clock.Pass(time.Duration(rapid.IntRange(1, 6000).Draw(rt, "ms")) * time.Millisecond)
			},
			"settled": func(*rapid.T) {
				if _, err := storetest.RemoveSettled(t.Context(), s.vhosts, s.clock.Now()); err != nil {
					rt.Fatal(err)
				}
			},
			"": func(rt *rapid.T) {
				before := s.dump(t, host) + s.dump(t, wildcard)
				if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
					rt.Fatalf("the long way repaired %+v, %v", repairs, err)
				}
				if after := s.dump(t, host) + s.dump(t, wildcard); after != before {
					rt.Fatalf("what the long way changes after the short one (-short +long):\n%s", cmp.Diff(before, after))
				}
			},
		})
	})
}

// dump returns the list, the dead set and the members of a vhost.
func (s *site) dump(t *testing.T, host string) string {
	t.Helper()
	var list, dead *redis.StringSliceCmd
	var members *redis.MapStringStringCmd
	if _, err := s.rdb.Pipelined(t.Context(), func(p redis.Pipeliner) error {
		list, dead = p.LRange(t.Context(), s.proxy.Frontend(host), 0, -1), p.SMembers(t.Context(), s.proxy.Dead(host))
		members = p.HGetAll(t.Context(), s.prefix+"vhost:"+host)
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	slices.Sort(dead.Val())
	var all []string
	for _, url := range slices.Sorted(maps.Keys(members.Val())) {
		all = append(all, url+" "+members.Val()[url])
	}
	return strings.Join(list.Val(), " ") + "\n" + strings.Join(dead.Val(), " ") + "\n" + strings.Join(all, "\n") + "\n"
}
