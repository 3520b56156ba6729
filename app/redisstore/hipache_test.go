package redisstore_test

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/app/redisstore/storetest"
	"rollcall/hipache"
	"rollcall/tests/harness"
)

func TestListsHoldCanonicalURLsAfterTheIdentifier(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ address, host, key, want string }{
		{"10.0.0.1:8080", "a.test", "a.test", "http://10.0.0.1:8080"},
		{"10.0.0.1:80", "A.Test.", "a.test", "http://10.0.0.1:80"},
		{"[FD00::0:1]:80", "*.A.test", "*.a.test", "http://[fd00::1]:80"},
		{"[::ffff:10.0.0.1]:80", "*", "*", "http://10.0.0.1:80"},
		{"DB-1.Example:65535", "xn--80ak6aa92e.test", "xn--80ak6aa92e.test", "http://db-1.example:65535"},
	} {
		t.Run(c.address+" for "+c.host, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.register(t, app.Registration{Service: "web", Address: c.address, Hosts: []string{c.host}, Health: "none"})
			got, err := s.rdb.LRange(t.Context(), s.proxy.Frontend(c.key), 0, -1).Result()
			if want := []string{"web", c.want}; err != nil || !slices.Equal(got, want) {
				t.Errorf("the list is %q, %v, want %q", got, err, want)
			}
		})
	}
}

func TestHostsAndAddressesThatBreakAProxyAreRefused(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	refused := func(address, host string) {
		t.Helper()
		_, err := s.verbs.Register(t.Context(), app.Registration{Service: "web", Address: address, Hosts: []string{host}, Health: "none"})
		if !errors.Is(err, app.ErrInvalid) {
			t.Errorf("%q for %q: got %v, want it refused", address, host, err)
		}
	}
	for _, address := range []string{
		"10.0.0.1:0", "10.0.0.1:65536", "10.0.0.1:99999", "10.0.0.1:080", "10.0.0.1:", "10.0.0.1", ":80", "0.0.0.0:80",
		"http://10.0.0.1:80", "u:p@h:80", "h;x:80", "h\x01:80", "h/p:80", "1.2.3:80", "0x7f000001:80", "[fe80::1%eth0]:80",
	} {
		refused(address, "a.test")
	}
	for _, host := range []string{
		"", "a.test:80", "a;b.test", "a\x00.test", "a b.test", "__ping__", "ü.test", "a..test", "a.*.test", "[::1]", "*.1.2.3.4.5.test",
	} {
		refused("10.0.0.1:80", host)
	}
	if keys := s.rdb.Keys(t.Context(), s.prefix+"*").Val(); len(keys) > 0 {
		t.Errorf("keys were written: %q", keys)
	}
}

func TestABackendIsMarkedAndLeavesWhenItHasSettled(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 4 {
		s.up(t, n+1)
	}
	s.wantList(t, "a.test", "web 1 2 3 4") // new backends are appended
	s.do(t, "SADD dead:a.test 0 3")        // two proxies mark
	s.do(t, "EXPIRE dead:a.test 30")
	s.check(t, "i2", "-")
	s.wantList(t, "a.test", "web 1! 2 3 4!") // one failure does not change the list
	s.check(t, "i2", "-")
	s.wantList(t, "a.test", "web 1! 2! 3 4!")
	if ttl := s.rdb.TTL(t.Context(), s.proxy.Dead("a.test")).Val(); ttl < hipache.SettleMarkTTL-time.Minute {
		t.Errorf("the marks last %v, want them to last as long as the backend is listed", ttl)
	}
	s.settle(t)
	s.wantList(t, "a.test", "web 1! 3 4!") // the other marks have moved with their backends
	if ttl := s.rdb.TTL(t.Context(), s.proxy.Dead("a.test")).Val(); ttl <= 0 || ttl > hipache.PassiveTTL {
		t.Errorf("the marks of proxies last %v, want their own time", ttl)
	}
	s.check(t, "i2", "++")
	s.wantList(t, "a.test", "web 1! 3 4! 2")
	s.drain(t, 3)
	s.wantList(t, "a.test", "web 1! 3! 4! 2")
	s.deregister(t, 1)
	s.settle(t)
	s.wantList(t, "a.test", "web 4! 2")
}

func TestTheLastRoutableBackendStays(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.up(t, 2)
	s.check(t, "i1", "--")
	s.check(t, "i2", "--")
	s.settle(t)
	s.wantList(t, "a.test", "web 2")
	s.do(t, "SADD dead:a.test 0") // PlanB also marks a last backend
	s.check(t, "i2", "-")
	s.wantList(t, "a.test", "web 2!")
	s.announce(t, "a.test;http://10.0.0.2:80;0;1")
	s.wantList(t, "a.test", "web 2") // at once, though it fails
	s.check(t, "i1", "++")
	s.wantList(t, "a.test", "web 2! 1")
	s.announce(t, "a.test;http://10.0.0.2:80;0;2")
	s.wantList(t, "a.test", "web 2! 1") // the mark is Rollcall's
	s.settle(t)
	s.wantList(t, "a.test", "web 1")
	s.check(t, "i2", "++")
	s.drain(t, 1)
	s.drain(t, 2) // a last backend that drains keeps answering
	s.settle(t)
	s.wantList(t, "a.test", "web 2")
	s.deregister(t, 2)
	s.settle(t)
	s.wantList(t, "a.test", "web") // i1 still drains
	s.deregister(t, 1)
	s.wantList(t, "a.test", "")
}

func TestWithFailOpenOffTheLastBackendLeaves(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	never := false
	s.up(t, 1, func(r *app.Registration) { r.FailOpen = &never })
	s.check(t, "i1", "--")
	s.wantList(t, "a.test", "web 1!")
	s.settle(t)
	s.wantList(t, "a.test", "web")
	s.check(t, "i1", "++")
	s.wantList(t, "a.test", "web 1")
}

func TestAnInstanceThatStartsAgainDoesNotStayListed(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1, func(r *app.Registration) { r.Boot = "first" })
	s.register(t, saying(1, func(r *app.Registration) { r.Boot = "second" }))
	s.wantList(t, "a.test", "web 1!")
	s.check(t, "i1", "++")
	s.wantList(t, "a.test", "web 1")
}

func TestAGoodProbeClearsItsOwnMarksAndJunk(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1, weight(2))
	s.up(t, 2)
	s.do(t, "SADD dead:a.test 0 1 2 3 17 -1 junk http://10.0.0.1:80 00 1.5")
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1! 1! 2")
	s.check(t, "i1", "-+")
	s.wantList(t, "a.test", "web 1 1 2")

	s.do(t, "SADD dead:a.test 1")
	beats := s.up(t, 3, func(r *app.Registration) { r.Health = "tcp" })
	s.do(t, "SADD dead:a.test 3")
	passed := app.Result{At: s.clock.Now(), Passed: true} // a heartbeat
	if err := s.Assert(t.Context(), beats, &passed); err != nil {
		t.Fatal(err)
	}
	s.wantList(t, "a.test", "web 1 1! 2 3")
}

func TestAMarkOfOursIsNotClearedByAnotherBackendsGoodProbe(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	for n := range 3 {
		s.up(t, n+1)
	}
	s.check(t, "i1", "--")
	s.check(t, "i2", "+")
	s.check(t, "i1", "+") // one pass is not enough to become healthy
	s.wantList(t, "a.test", "web 1! 2 3")
	s.do(t, "SREM dead:a.test 0") // an active checker of PlanB
	s.do(t, "SADD dead:a.test 1")
	s.check(t, "i2", "+")
	s.wantList(t, "a.test", "web 1! 2 3")
}

func TestALeftOverDeadSetDoesNotHitANewList(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do(t, "SADD dead:a.test 0 1 2")
	s.up(t, 1)
	s.wantList(t, "a.test", "web 1")
	s.do(t, "SADD dead:a.test 0 1 2")
	s.deregister(t, 1)
	s.wantList(t, "a.test", "")
	s.up(t, 2)
	s.up(t, 1)
	s.wantList(t, "a.test", "web 2 1")
}

func TestForeignEntriesStayForEver(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do(t, "RPUSH frontend:a.test theirs x")
	s.up(t, 1)
	s.do(t, "RPUSH frontend:a.test y")
	s.up(t, 2)
	s.do(t, "RPUSH frontend:a.test x")
	s.do(t, "SADD dead:a.test 0 4")
	s.wantList(t, "a.test", "theirs x! 1 y 2 x!")
	s.drain(t, 1)
	s.settle(t)
	s.wantList(t, "a.test", "theirs x! y 2 x!")
	s.deregister(t, 1)
	s.deregister(t, 2)
	s.settle(t)
	s.wantList(t, "a.test", "theirs x! y x!")
	if frontends, err := s.Frontends(t.Context()); len(frontends) > 0 || err != nil {
		t.Errorf("frontends: %v, %v, want none of ours", frontends, err)
	}
	s.up(t, 1)
	s.wantList(t, "a.test", "theirs x! y x! 1")
}

func TestWeightIsANumberOfSlots(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1, weight(2))
	s.up(t, 2)
	s.register(t, saying(1, weight(3)))
	s.wantList(t, "a.test", "web 1 1 2 1")
	s.register(t, saying(1))
	s.wantList(t, "a.test", "web 1 1! 2 1!")
	s.clock.Pass(storetest.Settle - time.Second)
	s.check(t, "i1", "--") // its last slot waits a settle time of its own
	s.clock.Pass(time.Second)
	if n, err := storetest.RemoveSettled(t.Context(), s.vhosts, s.clock.Now()); n != 0 || err != nil {
		t.Errorf("compacted %d, %v, want none", n, err)
	}
	s.wantList(t, "a.test", "web 1! 1! 2 1!")
	s.settle(t)
	s.wantList(t, "a.test", "web 2")
	s.check(t, "i1", "++")
	s.wantList(t, "a.test", "web 2 1")

	s.register(t, saying(2, weight(2)))
	s.register(t, saying(2))
	s.drain(t, 1)
	s.check(t, "i2", "--") // the last backend stays, with the position that was leaving
	s.wantList(t, "a.test", "web 2 1! 2")
}

func TestAWildcardIsRewrittenAtOnceAndItsMarksAreDropped(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"*.a.test", "*"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, hosts(host, "www.a.test"))
			s.up(t, 2, hosts(host))
			s.do(t, "SADD dead:x.a.test 1") // marks are stored under the requested host
			s.do(t, "SADD dead:y.a.test 1")
			s.do(t, "SADD dead:z.a.test 1") // not announced: no worker listened
			for _, child := range []string{"x.a.test", "y.a.test"} {
				if _, _, err := s.vhosts.Announced(t.Context(), hipache.Announcement{Host: child, URL: "http://10.0.0.2:80/", Position: 1, Len: 2}, app.Everything); err != nil {
					t.Fatal(err)
				}
			}
			s.do(t, "SADD dead:x.a.test 0")
			s.check(t, "i1", "+") // clears its marks under every requested host
			if got := s.do(t, "SMEMBERS dead:x.a.test"); fmt.Sprint(got) != "map[1:{}]" && fmt.Sprint(got) != "[1]" {
				t.Errorf("marks of x.a.test: %v, want the other backend's", got)
			}
			s.check(t, "i1", "--")
			s.wantList(t, host, "web 2")
			s.wantList(t, "www.a.test", "web 1")
			s.findMarks(t)
			if n := s.do(t, "EXISTS dead:x.a.test dead:y.a.test dead:z.a.test dead:"+host+" ~marked:"+host); n != int64(0) {
				t.Errorf("%v dead sets, want them dropped and forgotten", n)
			}
			s.check(t, "i2", "--")
			s.wantList(t, host, "web 2")
			s.check(t, "i1", "++")
			s.wantList(t, host, "web 1")

			// A key with a requested host's name may have any type: PlanB keeps its locks there.
			s.do(t, "SADD dead:x.a.test 0")
			if _, _, err := s.vhosts.Announced(t.Context(), hipache.Announcement{Host: "x.a.test", URL: "http://10.0.0.1:80", Position: 0, Len: 1}, app.Everything); err != nil {
				t.Fatal(err)
			}
			s.do(t, "SET dead:x.a.test lock")
			s.check(t, "i1", "+")
			if got := s.do(t, "GET dead:x.a.test"); got != "lock" {
				t.Errorf("the lock is %v", got)
			}
		})
	}
}

func TestMarksUnderAWildcardThatNoWorkerHeardOfAreDeletedWithItsPositions(t *testing.T) {
	t.Parallel()
	for _, host := range []string{"*.a.test", "*"} {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, hosts(host))
			s.up(t, 2, hosts(host))
			s.up(t, 3, hosts("own.a.test"))
			s.up(t, 4, hosts("*.deep.a.test"))
			s.do(t, "RPUSH frontend:foreign.a.test theirs http://x http://y")
			s.findMarks(t)
			for _, requested := range []string{"x.a.test", "y.z.a.test", "own.a.test", "foreign.a.test", "b.deep.a.test", host} {
				s.do(t, "SADD dead:"+requested+" 0 1")
			}
			s.do(t, "SET dead:x.a.test:http://10.0.0.1:80 lock") // of PlanB's active check
			s.do(t, "SET dead:z.a.test lock")
			s.deregister(t, 1)
			s.wantList(t, host, "web 2")
			s.findMarks(t)
			for requested, want := range map[string]int64{
				"x.a.test": 0, "y.z.a.test": 0, // hosts that the wildcard's list serves
				"own.a.test": 1, "foreign.a.test": 1, // they have lists of their own
				"b.deep.a.test":               1, // the longest wildcard answers
				"x.a.test:http://10.0.0.1:80": 1,
				"z.a.test":                    1,
			} {
				if n := s.do(t, "EXISTS dead:"+requested); n != want {
					t.Errorf("dead:%s: %v, want %d", requested, n, want)
				}
			}
		})
	}
}

func TestMarksUnderAWildcardAreFoundWhenAWorkerStarts(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1, hosts("*.a.test"))
	s.up(t, 2, hosts("*.a.test"))
	s.findMarks(t)
	s.do(t, "SADD dead:x.a.test 0")
	s.do(t, "SADD dead:all.a.test 0 1")
	s.do(t, "SADD dead:x.b.test 0")
	s.findMarks(t)
	if n := s.do(t, "EXISTS dead:x.a.test dead:all.a.test dead:x.b.test"); n != int64(2) {
		t.Errorf("%v dead sets, want those of x.a.test and x.b.test: no backend answered for all.a.test", n)
	}
	s.check(t, "i1", "+")
	if n := s.do(t, "EXISTS dead:x.a.test"); n != int64(0) {
		t.Error("a good probe does not clear a mark that was found")
	}
}

func TestWithoutAWildcardNoKeyIsScanned(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1)
	for _, line := range monitored(t, server, func() {
		if err := s.vhosts.FindMarks(t.Context(), app.Everything); err != nil {
			t.Error(err)
		}
		s.check(t, "i1", "--")
	}) {
		if strings.Contains(line, `"scan"`) {
			t.Error(line)
		}
	}
}

func TestAMarkThatLeavesNoBackendIsRemovedWhenItIsAnnounced(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name            string
		host, requested string
		fails           bool // so that it only stays
	}{
		{"healthy", "a.test", "a.test", false},
		{"kept", "a.test", "a.test", true},
		{"healthy, under a wildcard", "*.a.test", "x.a.test", false},
		{"kept, under a wildcard", "*.a.test", "x.a.test", true},
		{"kept, under any name", "*", "x.a.test", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1, hosts(c.host))
			s.do(t, "RPUSH frontend:"+c.host+" http://10.0.0.9:80") // foreign and marked
			s.do(t, "SADD dead:"+c.requested+" 1")
			if c.fails {
				s.check(t, "i1", "--")
			}
			s.do(t, "SADD dead:"+c.requested+" 0 1")
			s.do(t, "EXPIRE dead:"+c.requested+" 30")
			s.announce(t, c.requested+";http://10.0.0.1:80/;0;2")
			if marks := s.rdb.SMembers(t.Context(), s.proxy.Dead(c.requested)).Val(); !slices.Equal(marks, []string{"1"}) {
				t.Errorf("marks are %v, want that of the foreign backend", marks)
			}
			if ttl := s.rdb.TTL(t.Context(), s.proxy.Dead(c.requested)).Val(); ttl > hipache.PassiveTTL {
				t.Errorf("the mark of the foreign backend lasts %v, longer than the proxy said", ttl)
			}
		})
	}
}

func TestAnnouncedMarksAreRepairedOrProbed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name     string
		said     string // payload; the list is 1 2, and 1 leaves
		repaired bool
		failing  string
		want     string
	}{
		{"as Hipache says it", "a.test;http://10.0.0.2:80/;1;2", false, "i2", "web 1! 2! 3"},
		{"in capitals", "a.test;HTTP://10.0.0.2:80/;1;2", false, "i2", "web 1! 2! 3"},
		{"as PlanB says it", "a.test;http://10.0.0.2:80;1;2", false, "i2", "web 1! 2! 3"},
		{"another backend is in the slot by now", "a.test;http://10.0.0.3:80/;1;2", true, "i3", "web 1! 2 3"},
		{"an unknown backend", "a.test;http://10.0.0.9:80/;1;2", true, "", "web 1! 2 3"},
		{"the slot is one that leaves", "a.test;http://10.0.0.9:80/;0;2", true, "", "web 1! 2! 3"},
		{"the backend drains", "a.test;http://10.0.0.1:80/;0;2", false, "i1", "web 1! 2! 3"},
		{"beyond the end", "a.test;http://10.0.0.2:80/;7;8", true, "i2", "web 1! 2! 3"},
		{"another vhost", "b.test;http://10.0.0.2:80/;1;2", false, "", "web 1! 2! 3"},
		{"a foreign vhost", "foreign.test;http://10.0.0.9:80/;0;2", false, "", "web 1! 2! 3"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			for n := range 3 {
				s.up(t, n+1)
			}
			s.drain(t, 1)
			s.do(t, "SADD dead:a.test 1")
			if strings.Contains(c.said, ";7;") {
				s.do(t, "SADD dead:a.test 7")
			}
			s.do(t, "RPUSH frontend:foreign.test theirs x")
			s.do(t, "SADD dead:foreign.test 0")
			said, ok := hipache.ParseAnnouncement(c.said)
			if !ok {
				t.Fatalf("%q is no announcement", c.said)
			}
			repaired, failing, err := s.vhosts.Announced(t.Context(), said, app.Everything)
			if err != nil || repaired != c.repaired || failing != c.failing {
				t.Errorf("got %v, %q, %v, want %v, %q", repaired, failing, err, c.repaired, c.failing)
			}
			s.wantList(t, "a.test", c.want)
			s.wantList(t, "foreign.test", "theirs x!")
		})
	}
}

func TestWrongTypesAreReplaced(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.do(t, "SET frontend:a.test x")
	s.do(t, "RPUSH dead:a.test x")
	s.up(t, 1)
	s.wantList(t, "a.test", "web 1")
	s.do(t, "DEL frontend:a.test")
	s.do(t, "SADD frontend:a.test x")
	repairs, err := s.Reconcile(t.Context(), app.Everything)
	if want := []string{"list of a.test"}; err != nil || repairs.Lists != 1 || !slices.Equal(repairs.WrongType, want) {
		t.Errorf("repaired %+v, %v, want one list, and %q", repairs, err, want)
	}
	s.wantList(t, "a.test", "web 1")
	s.do(t, "HSET dead:a.test x y")
	s.check(t, "i1", "+")
	s.wantList(t, "a.test", "web 1")
	s.do(t, "SET dead:a.test x")
	frontends, err := s.Frontends(t.Context())
	if err != nil || len(frontends) != 1 || len(frontends[0].Slots) != 1 {
		t.Errorf("frontends with a dead set of the wrong type: %v, %v, want the one slot", frontends, err)
	}
}

func TestPrefixAndDatabaseAreThoseOfTheProxy(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	third := redis.NewClient(&redis.Options{Addr: server.Addr(), DB: 3, ContextTimeoutEnabled: true})
	t.Cleanup(func() { _ = third.Close() })
	s := siteOn(third, redisstore.Options{Prefix: "rc/", Hipache: hipache.Keys{Prefix: `p"x:`}})
	s.up(t, 1)
	s.up(t, 2)
	s.check(t, "i1", "--")
	for _, key := range third.Keys(t.Context(), "*").Val() {
		if !strings.HasPrefix(key, "rc/") && key != `p"x:frontend:a.test` && key != `p"x:dead:a.test` {
			t.Errorf("key %q", key)
		}
	}
	if n := third.Exists(t.Context(), `p"x:frontend:a.test`, `p"x:dead:a.test`).Val(); n != 2 {
		t.Errorf("%d of the list and the dead set are there", n)
	}
	if keys := server.Client(t).Keys(t.Context(), "*").Val(); len(keys) > 0 {
		t.Errorf("keys in database 0: %q", keys)
	}
}

// monitored runs a function and returns the commands that the server executes meanwhile.
func monitored(t *testing.T, server *harness.Server, run func()) []string {
	t.Helper()
	conn, err := net.Dial("tcp", server.Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(conn)
	if !lines.Scan() || lines.Text() != "+OK" {
		t.Fatalf("monitor: %q, %v", lines.Text(), lines.Err())
	}
	run()
	server.Client(t).Echo(t.Context(), "that was it")
	var seen []string
	for lines.Scan() && !strings.HasSuffix(lines.Text(), `"that was it"`) {
		seen = append(seen, lines.Text())
	}
	return seen
}

func TestAllVhostsOfAnInstanceChangeInOneStep(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1, hosts("a.test", "b.test", "*.c.test"))
	s.up(t, 2, hosts("a.test", "b.test", "*.c.test"))
	lines := monitored(t, server, func() { s.drain(t, 1) })
	calls, writes := 0, map[string]int{}
	for _, line := range lines {
		fields := strings.Fields(line) // time [db client] "command" ...
		switch command := strings.ToLower(fields[3]); {
		case command == `"evalsha"` || command == `"eval"`:
			calls++
		case fields[2] == "lua]":
			for _, key := range []string{"dead:a.test", "dead:b.test", "frontend:*.c.test"} {
				if strings.Contains(line, `"SADD" "`+key) || strings.Contains(line, `"RPUSH" "`+key) {
					writes[key] = calls
				}
			}
		case command == `"scan"`: // FindMarks, after the step
		case strings.Contains(line, "frontend:") || strings.Contains(line, "dead:"):
			t.Errorf("outside a script: %s", line)
		}
	}
	if calls != 1 || len(writes) != 3 {
		t.Errorf("%d script calls wrote %v, want one and all three vhosts:\n%s", calls, writes, strings.Join(lines, "\n"))
	}
	s.wantList(t, "a.test", "web 1! 2")
	s.wantList(t, "b.test", "web 1! 2")
	s.wantList(t, "*.c.test", "web 2")
}

// changes returns the number of writes that a server has executed.
func changes(t *testing.T, c *redis.Client) string {
	t.Helper()
	n := c.InfoMap(t.Context(), "persistence").Item("Persistence", "rdb_changes_since_last_save")
	if n == "" {
		t.Fatal("INFO does not tell the number of changes")
	}
	return n
}

func TestAnUnchangedVhostIsNotWritten(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	s.up(t, 1, weight(2))
	s.up(t, 2, hosts("a.test", "*.b.test"))
	s.up(t, 3)
	s.check(t, "i3", "--")
	s.do(t, "RPUSH frontend:a.test foreign")
	s.do(t, "SADD dead:a.test 1")
	before := changes(t, s.rdb)
	if repairs, err := s.Reconcile(t.Context(), app.Everything); err != nil || !repairs.None() {
		t.Errorf("repaired %+v, %v, want nothing", repairs, err)
	}
	if n, err := storetest.RemoveSettled(t.Context(), s.vhosts, s.clock.Now()); n != 0 || err != nil {
		t.Errorf("compacted %d, %v, want nothing", n, err)
	}
	s.register(t, saying(1, weight(2)))
	if after := changes(t, s.rdb); after != before {
		t.Errorf("%s changes, %s before", after, before)
	}

	// A result that changes no state writes no list.
	s.do(t, "SREM dead:a.test 1")
	lines := monitored(t, server, func() { s.check(t, "i2", "+") })
	for _, line := range lines {
		for _, write := range []string{"RPUSH", "SADD", "SREM", "DEL", "EXPIRE"} {
			if strings.Contains(line, `lua] "`+write) {
				t.Errorf("written: %s", line)
			}
		}
	}
}

// Proxies read at any moment. Each read must return a complete list with a routable backend.
func TestAListIsNeverReadHalfWritten(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1, weight(3))
	s.do(t, "RPUSH frontend:a.test http://foreign:80")
	var flapping, readers sync.WaitGroup
	done := make(chan struct{})
	flapping.Go(func() {
		for range 100 {
			s.up(t, 2)
			s.register(t, saying(1))
			s.check(t, "i1", "--")
			s.settle(t)
			s.check(t, "i1", "++")
			s.register(t, saying(1, weight(3)))
			s.deregister(t, 2)
			s.settle(t)
			s.clock.Pass(app.CalmAfter) // otherwise it would wait as a flapping instance
		}
	})
	reads := 0
	readers.Go(func() {
		reader := hipache.NewReader(s.rdb, s.proxy)
		known := map[string]bool{"http://10.0.0.1:80": true, "http://10.0.0.2:80": true, "http://foreign:80": true}
		for {
			f, err := reader.Lookup(t.Context(), "a.test")
			if err != nil {
				t.Errorf("read: %v", err)
				return
			}
			routed, foreign := 0, 0
			for _, b := range f.Backends {
				if !known[b.URL] {
					t.Errorf("read the backend %q", b.URL)
				}
				if b.URL == "http://foreign:80" {
					foreign++
				} else if !b.Dead {
					routed++
				}
			}
			if f.Identifier != "web" || routed == 0 || foreign != 1 {
				t.Errorf("read %+v", f)
				return
			}
			reads++
			select {
			case <-done:
				return
			default:
			}
		}
	})
	flapping.Wait()
	close(done)
	readers.Wait()
	if reads < 100 {
		t.Errorf("only %d reads beside the writes", reads)
	}
}
