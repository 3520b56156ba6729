package hipache_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"rollcall/hipache"
	"rollcall/tests/harness"
)

// The departure of the projections below, and the lifetime of marks.
const (
	departure = 1_900_000_005_000 // of backends that begin to leave
	markTTL   = 65                // s
)

var projection = redis.NewScript(hipache.FrontendLua + `
local v = cjson.decode(ARGV[1])
v.list, v.dead = KEYS[1], KEYS[2]
local wrote, repaired, moved = frontend.project(v)
return cjson.encode({wrote = wrote, repaired = repaired, moved = moved, members = next(v.members) and v.members or nil})`)

// vhost is a vhost to be projected.
type vhost struct {
	rdb        *redis.Client
	list, dead string

	Wildcard   bool               `json:"wildcard"`
	Children   []string           `json:"children,omitempty"`
	Identifier string             `json:"identifier"`
	Members    map[string]*member `json:"members"`
	Passed     map[string]bool    `json:"passed,omitempty"`
	Settled    map[string]int64   `json:"settled,omitempty"`
	Departure  int64              `json:"departure"`
	MarkTTL    int64              `json:"mark_ttl"`
	PassiveTTL int64              `json:"passive_ttl"`
}

type member struct {
	Wanted    int    `json:"wanted"`
	Stay      string `json:"stay"`
	Departure int64  `json:"departure"`
	Reduced   bool   `json:"reduced,omitempty"`
	ID        string `json:"id"`
}

type projected struct {
	Wrote    bool               `json:"wrote"`
	Repaired any                `json:"repaired"`
	Moved    bool               `json:"moved"`
	Members  map[string]*member `json:"members"`
}

func newVhost(rdb *redis.Client, prefix string) *vhost {
	k := hipache.Keys{Prefix: prefix}
	return &vhost{
		rdb: rdb, list: k.Frontend("a.test"), dead: k.Dead("a.test"),
		Identifier: "web", Departure: departure, MarkTTL: markTTL, PassiveTTL: 30,
	}
}

// put writes a list and a dead set: the identifier and URLs, and the positions, separated by spaces.
func (v *vhost) put(t *testing.T, list, dead string) {
	t.Helper()
	ctx := t.Context()
	_, err := v.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for entry := range strings.FieldsSeq(list) {
			p.RPush(ctx, v.list, entry)
		}
		for slot := range strings.FieldsSeq(dead) {
			p.SAdd(ctx, v.dead, slot)
			p.Expire(ctx, v.dead, hipache.PassiveTTL)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// have parses members: up, up3 for a weight, less3 for a smaller weight than before, down, draining,
// closed (it may not stay), gone. @ and a number follow if the backend is leaving, and ! if its settle
// time is over.
func (v *vhost) have(members string) {
	v.Members, v.Settled = map[string]*member{}, map[string]int64{}
	for text := range strings.FieldsSeq(members) {
		url, is, _ := strings.Cut(text, ":")
		is, leaving, _ := strings.Cut(is, "@")
		leaving, settled := strings.CutSuffix(leaving, "!")
		m := &member{ID: url, Stay: "return"}
		if m.Departure, _ = strconv.ParseInt(leaving, 10, 64); settled {
			v.Settled[url] = m.Departure
		}
		switch kind := strings.TrimRight(is, "0123456789"); kind {
		case "up", "less":
			m.Wanted, m.Reduced = 1, kind == "less"
			if weight := strings.TrimPrefix(is, kind); weight != "" {
				m.Wanted, _ = strconv.Atoi(weight)
			}
		case "closed":
			m.Stay = "never"
		case "draining":
			m.Stay = "last"
		case "gone":
			m.ID, m.Stay = "", "never"
		}
		v.Members[url] = m
	}
}

func (v *vhost) project(t *testing.T) projected {
	t.Helper()
	arg, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	reply, err := projection.Run(t.Context(), v.rdb, []string{v.list, v.dead}, arg).Text()
	if err != nil {
		t.Fatal(err)
	}
	p := projected{Members: map[string]*member{}}
	if err := json.Unmarshal([]byte(reply), &p); err != nil {
		t.Fatalf("%s: %v", reply, err)
	}
	v.Members = p.Members
	return p
}

// stands formats the vhost: list, dead set, members with their departure.
func (v *vhost) stands(t *testing.T) (list, dead, members string) {
	t.Helper()
	entries, err1 := v.rdb.LRange(t.Context(), v.list, 0, -1).Result()
	slots, err2 := v.rdb.SMembers(t.Context(), v.dead).Result()
	if err1 != nil || err2 != nil {
		t.Fatal(err1, err2)
	}
	var ms []string
	for _, url := range slices.Sorted(maps.Keys(v.Members)) {
		if m := v.Members[url]; m.Departure > 0 {
			url += fmt.Sprint("@", m.Departure)
		}
		ms = append(ms, url)
	}
	slices.Sort(slots)
	return strings.Join(entries, " "), strings.Join(slots, " "), strings.Join(ms, " ")
}

// eachRedis runs a test on a real Redis and on the embedded one.
func eachRedis(t *testing.T, test func(t *testing.T, open func(t *testing.T) *vhost)) {
	t.Helper()
	t.Run("redis", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *vhost { return newVhost(harness.SharedRedis(t), harness.Prefix(t)) })
	})
	t.Run("miniredis", func(t *testing.T) {
		t.Parallel()
		test(t, func(t *testing.T) *vhost {
			c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr()})
			t.Cleanup(func() { _ = c.Close() })
			return newVhost(c, "")
		})
	})
}

func TestProject(t *testing.T) {
	t.Parallel()
	const later = "@1900000005000"
	cases := []struct {
		name                           string
		list, dead, members            string
		wildcard                       bool
		passed                         string
		wantList, wantDead, wantMember string
		unwritten                      bool // the list is not written
	}{
		{
			name: "a new list begins with the identifier", members: "a:up",
			wantList: "web a", wantMember: "a",
		}, {
			name: "several appear in the order of their urls", members: "c:up a:up b:up",
			wantList: "web a b c", wantMember: "a b c",
		}, {
			name: "no list is made for one that may not stay", members: "a:closed b:draining",
			wantList: "", wantMember: "a b", unwritten: true,
		}, {
			name: "the last one returns when its list was deleted", members: "b:down c:down a:closed",
			wantList: "web b", wantMember: "a b c",
		}, {
			name: "a missing one is appended, others keep their slot and mark",
			list: "web c b", dead: "0", members: "a:up b:up c:up",
			wantList: "web c b a", wantDead: "0", wantMember: "a b c",
		}, {
			name: "nothing to do",
			list: "web b a", dead: "1", members: "a:up b:up",
			wantList: "web b a", wantDead: "1", wantMember: "a b", unwritten: true,
		}, {
			name: "an unhealthy one is marked first",
			list: "web a b", members: "a:down b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "and leaves when it has settled, the marks of others move with them",
			list: "web a b c d", dead: "0 3", members: "a:down@1900000000000! b:up c:up d:up",
			wantList: "web b c d", wantDead: "2", wantMember: "a b c d",
		}, {
			name: "not a moment earlier",
			list: "web a b", dead: "0", members: "a:down@1900000000001 b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "a mark that somebody took away is renewed",
			list: "web a b", members: "a:down@1900000000001 b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "two settle at different times",
			list: "web a b c", dead: "0 2", members: "a:down@1900000000001 b:up c:down@1900000000000!",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b c",
		}, {
			name: "one that leaves while another comes",
			list: "web a b", dead: "0 1", members: "a:down@1! b:up c:up",
			wantList: "web b c", wantDead: "0", wantMember: "a b c",
		}, {
			name: "one that recovers in time is unmarked and stays where it is",
			list: "web a b", dead: "0 1", members: "a:up@1900000000001 b:up",
			wantList: "web a b", wantDead: "1", wantMember: "a b", unwritten: true,
		}, {
			name: "one that is gone is forgotten with its last slot",
			list: "web a b", dead: "0", members: "a:gone@1! b:up",
			wantList: "web b", wantMember: "b",
		}, {
			name: "not before",
			list: "web a b", members: "a:gone b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "the last routable one stays and is not marked",
			list: "web a", members: "a:down",
			wantList: "web a", wantMember: "a", unwritten: true,
		}, {
			name: "with all its slots",
			list: "web a a", members: "a:down",
			wantList: "web a a", wantMember: "a", unwritten: true,
		}, {
			name: "a mark of a proxy on it is removed",
			list: "web a a", dead: "0", members: "a:down",
			wantList: "web a a", wantMember: "a", unwritten: true,
		}, {
			name: "also when a proxy marked it after another one",
			list: "web a b", dead: "0 1", members: "a:down@1900000000001 b:down",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "the only one of several that is wanted is unmarked",
			list: "web a b http://x", dead: "0 1 2", members: "a:down@1900000000001 b:up",
			wantList: "web a b http://x", wantDead: "0 2", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "when proxies marked every one, all that are wanted are unmarked",
			list: "web a b", dead: "0 1", members: "a:up b:up",
			wantList: "web a b", wantMember: "a b", unwritten: true,
		}, {
			name: "one that may not stay is not unmarked",
			list: "web a", dead: "0", members: "a:closed@1900000000001",
			wantList: "web a", wantDead: "0", wantMember: "a@1900000000001", unwritten: true,
		}, {
			name: "of two the one that is not marked stays",
			list: "web a b", dead: "0", members: "a:down b:down",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "of two the one that is not leaving yet stays",
			list: "web a b", dead: "0", members: "a:down@1900000000001 b:down",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "it leaves when another one comes",
			list: "web a", members: "a:down b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b",
		}, {
			name: "but not for one that a proxy has marked",
			list: "web a b", dead: "1", members: "a:down b:up",
			wantList: "web a b", wantDead: "1", wantMember: "a b", unwritten: true,
		}, {
			name: "until that one has passed a check",
			list: "web a b", dead: "1", members: "a:down b:up", passed: "b",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "the last one does not stay if it may not",
			list: "web a", members: "a:closed",
			wantList: "web a", wantDead: "0", wantMember: "a" + later, unwritten: true,
		}, {
			name: "and then only the identifier is left",
			list: "web a", dead: "0", members: "a:closed@1!",
			wantList: "web", wantMember: "a",
		}, {
			name: "to which the next one is appended, past what is left of marks",
			list: "web", dead: "0", members: "a:up",
			wantList: "web a", wantMember: "a",
		}, {
			name: "one that is gone does not stay",
			list: "web a", members: "a:gone b:down",
			wantList: "web a b", wantDead: "0", wantMember: "a" + later + " b",
		}, {
			name: "one that was leaving stays when nobody else is left",
			list: "web a b", dead: "0", members: "a:down@1900000000001 b:gone",
			wantList: "web a b", wantDead: "1", wantMember: "a b" + later, unwritten: true,
		}, {
			name: "one that is draining does not come back",
			list: "web a", members: "a:gone b:draining c:closed",
			wantList: "web a", wantDead: "0", wantMember: "a" + later + " b c", unwritten: true,
		}, {
			name: "of several the first comes back",
			list: "web", members: "c:down b:down a:closed",
			wantList: "web b", wantMember: "a b c",
		}, {
			name: "nobody comes back while one is only marked by a proxy",
			list: "web a b", dead: "0 1", members: "a:down@1900000000001 b:up c:down",
			wantList: "web a b", wantDead: "0", wantMember: "a@1900000000001 b c", unwritten: true,
		}, {
			name: "with nobody registered there is no list and no dead set",
			list: "web a b", dead: "0", members: "a:gone b:gone@1!",
			wantList: "", wantMember: "",
		}, {
			name: "a dead set that was left over does not hit a new list",
			dead: "0 1 7", members: "a:up b:up",
			wantList: "web a b", wantMember: "a b",
		}, {
			name: "nor does a mark beyond the end hit what is appended",
			list: "web a", dead: "0 1", members: "a:up b:up",
			wantList: "web a b", wantDead: "0", wantMember: "a b",
		}, {
			name: "marks that are none are taken out",
			list: "web a b", dead: "1 2 -1 -0 01 1.5 0x1 1e0 http://a nan inf", members: "a:up b:up",
			wantList: "web a b", wantDead: "1", wantMember: "a b", unwritten: true,
		}, {
			name: "a good check clears its own marks, and no others",
			list: "web a b a", dead: "0 1 2", members: "a:up2 b:up", passed: "a",
			wantList: "web a b a", wantDead: "1", wantMember: "a b", unwritten: true,
		}, {
			name: "but not those of a surplus slot",
			list: "web a b a", dead: "0 2", members: "a:up@1900000000001 b:up", passed: "a",
			wantList: "web a b a", wantDead: "2", wantMember: "a@1900000000001 b", unwritten: true,
		}, {
			name: "a weight is so many slots",
			list: "web a", members: "a:up3 b:up2",
			wantList: "web a a a b b", wantMember: "a b",
		}, {
			name: "a smaller one marks the surplus at the end",
			list: "web a b a a", members: "a:up b:up",
			wantList: "web a b a a", wantDead: "2 3", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "and takes it out",
			list: "web a b a a b", dead: "2 3", members: "a:up@1! b:up2",
			wantList: "web a b b", wantMember: "a b",
		}, {
			name: "one more surplus slot has the others wait with it",
			list: "web a a b", dead: "1", members: "a:less0@1900000000001 b:up",
			wantList: "web a a b", wantDead: "0 1", wantMember: "a" + later + " b", unwritten: true,
		}, {
			name: "the last one stays also when one of its slots was to leave",
			list: "web a a", dead: "1", members: "a:less0@1900000000001",
			wantList: "web a a", wantMember: "a", unwritten: true,
		}, {
			name: "foreign entries stay in place, their marks move with them",
			list: "me http://x a http://y b http://y", dead: "1 2 3", members: "a:down@1! b:up", passed: "a b",
			wantList: "me http://x http://y b http://y", wantDead: "1", wantMember: "a b",
		}, {
			name: "also when nobody is registered any more",
			list: "me http://x a http://y", members: "a:gone@1!",
			wantList: "me http://x http://y", wantMember: "",
		}, {
			name: "for a foreign entry that takes traffic the last of ours may go",
			list: "me http://x a", members: "a:down",
			wantList: "me http://x a", wantDead: "1", wantMember: "a" + later, unwritten: true,
		}, {
			name: "but not for one that no request can be sent to",
			list: "me 10.0.0.9:80 a", members: "a:down",
			wantList: "me 10.0.0.9:80 a", wantMember: "a", unwritten: true,
		}, {
			name: "nor for one that is marked, and then a proxy's mark on ours is removed",
			list: "me http://x a", dead: "0 1", members: "a:down",
			wantList: "me http://x a", wantDead: "0", wantMember: "a", unwritten: true,
		}, {
			name: "a wildcard's surplus is taken out at once", wildcard: true,
			list: "web a b", members: "a:down b:up",
			wantList: "web b", wantMember: "a b",
		}, {
			name: "except the last one", wildcard: true,
			list: "web a", members: "a:down",
			wantList: "web a", wantMember: "a", unwritten: true,
		}, {
			name: "which goes when another one comes", wildcard: true,
			list: "web a", members: "a:down b:up",
			wantList: "web b", wantMember: "a b",
		},
	}
	eachRedis(t, func(t *testing.T, open func(*testing.T) *vhost) {
		for _, c := range cases {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				v := open(t)
				v.put(t, c.list, c.dead)
				v.have(c.members)
				v.Wildcard, v.Passed = c.wildcard, map[string]bool{}
				for url := range strings.FieldsSeq(c.passed) {
					v.Passed[url] = true
				}
				for _, again := range []string{"", " when done again"} {
					wrote := v.project(t).Wrote
					list, dead, members := v.stands(t)
					if list != c.wantList || dead != c.wantDead || members != c.wantMember {
						t.Errorf("list %q dead %q members %q%s, want %q, %q, %q",
							list, dead, members, again, c.wantList, c.wantDead, c.wantMember)
					}
					if want := !c.unwritten && again == ""; wrote != want {
						t.Errorf("wrote is %v%s, want %v", wrote, again, want)
					}
				}
			})
		}
	})
}

func TestProjectReplacesKeysOfTheWrongType(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, open func(*testing.T) *vhost) {
		for _, c := range []struct{ list, dead, repaired string }{
			{"string", "", "list"}, {"set", "", "list"}, {"", "string", "dead"}, {"", "list", "dead"}, {"hash", "hash", "list"},
		} {
			t.Run(c.list+" for list "+c.dead+" for set", func(t *testing.T) {
				t.Parallel()
				v := open(t)
				if c.list == "" {
					v.put(t, "web a", "")
				}
				v.putType(t, v.list, c.list)
				v.putType(t, v.dead, c.dead)
				v.have("a:up")
				if got := v.project(t).Repaired; got != c.repaired {
					t.Errorf("repaired %v, want %q", got, c.repaired)
				}
				if list, dead, _ := v.stands(t); list != "web a" || dead != "" {
					t.Errorf("list %q, dead %q, want both in order", list, dead)
				}
				if got := v.project(t).Repaired; got != false {
					t.Errorf("repaired %v when done again, want false", got)
				}
			})
		}
	})
}

func (v *vhost) putType(t *testing.T, key, kind string) {
	t.Helper()
	var err error
	switch kind {
	case "string":
		err = v.rdb.Set(t.Context(), key, "0", 0).Err()
	case "list":
		err = v.rdb.RPush(t.Context(), key, "0").Err()
	case "set":
		err = v.rdb.SAdd(t.Context(), key, "0").Err()
	case "hash":
		err = v.rdb.HSet(t.Context(), key, "0", "0").Err()
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestProjectDropsAWildcardsDeadSetsWithItsPositions(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, open func(*testing.T) *vhost) {
		v := open(t)
		ctx := context.WithoutCancel(t.Context())
		v.Wildcard, v.Children = true, []string{v.dead + "x.a.test", v.dead + "y.a.test"}
		v.rdb.SAdd(ctx, v.Children[0], 1)
		v.rdb.Set(ctx, v.Children[1], "not even a set", 0)
		v.put(t, "web a", "")
		v.have("a:up b:up")
		if p := v.project(t); p.Moved || v.rdb.Exists(ctx, v.Children...).Val() != 2 {
			t.Errorf("an appended slot: moved is %v, %d dead sets, want false and 2", p.Moved, v.rdb.Exists(ctx, v.Children...).Val())
		}
		v.have("a:down b:up")
		if p := v.project(t); !p.Moved || v.rdb.Exists(ctx, v.Children...).Val() != 0 {
			t.Errorf("a slot taken out: moved is %v, %d dead sets, want true and none", p.Moved, v.rdb.Exists(ctx, v.Children...).Val())
		}
	})
}

// A mark without a time to live would outlive Rollcall: the backend would be dead until another proxy
// marks one and sets a time to live.
func TestOwnMarksOutliveTheSettleTime(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, open func(*testing.T) *vhost) {
		for _, c := range []struct {
			name, list, dead, members string
			before, atLeast, atMost   time.Duration
		}{
			{"a new mark", "web a b", "", "a:down b:up", 0, 60 * time.Second, markTTL * time.Second},
			{"a proxy's mark about to expire", "web a b", "0", "a:down b:up", time.Second, 60 * time.Second, markTTL * time.Second},
			{"one that was translated", "web a b c", "0 1", "a:down@1! b:down@1900000000001 c:up", 0, 60 * time.Second, markTTL * time.Second},
			{"a proxy's mark on another backend", "web a b c", "0 1", "a:down@1! b:up c:up", 20 * time.Second, 15 * time.Second, 20 * time.Second},
			{"one without a time to live", "web a b c", "0 1", "a:down@1! b:up c:up", -1, 25 * time.Second, 30 * time.Second},
			{"a proxy's mark after ours", "web a b c", "0 1", "a:down@1! b:up c:up", 60 * time.Second, 25 * time.Second, 30 * time.Second},
			{"a proxy's mark after one of ours was removed", "web a b c", "0 1", "a:up@1 b:up c:up", 60 * time.Second, 25 * time.Second, 30 * time.Second},
			{"our mark after a proxy has marked another backend", "web a b c", "0 1", "a:down@1900000000001 b:up c:up", 30 * time.Second, 60 * time.Second, markTTL * time.Second},
		} {
			t.Run(c.name, func(t *testing.T) {
				t.Parallel()
				v := open(t)
				v.put(t, c.list, c.dead)
				if c.before > 0 {
					v.rdb.PExpire(t.Context(), v.dead, c.before)
				} else if c.before < 0 {
					v.rdb.Persist(t.Context(), v.dead)
				}
				v.have(c.members)
				v.project(t)
				if got := v.rdb.PTTL(t.Context(), v.dead).Val(); got < c.atLeast || got > c.atMost {
					t.Errorf("marks last %v, want %v to %v", got, c.atLeast, c.atMost)
				}
			})
		}
	})
}

// unpack() fails at some thousand arguments.
func TestProjectTakesLongLists(t *testing.T) {
	t.Parallel()
	eachRedis(t, func(t *testing.T, open func(*testing.T) *vhost) {
		const n = 4321
		v := open(t)
		v.have("leaves:up")
		v.project(t)
		v.have(fmt.Sprintf("leaves:down@1! stays:up b:up%d", n))
		v.project(t)
		v.rdb.SAdd(t.Context(), v.dead, 1, n)
		if got := v.rdb.LLen(t.Context(), v.list).Val(); got != n+2 {
			t.Fatalf("%d entries, want %d", got, n+2)
		}
		v.have(fmt.Sprintf("leaves:gone b:gone stays:up c:up%d", n))
		v.project(t)
		for url, m := range v.Members {
			if m.Departure > 0 {
				v.Settled[url] = m.Departure
			}
		}
		if got := v.rdb.SCard(t.Context(), v.dead).Val(); got != n+1 {
			t.Errorf("%d marks, want those of %d slots that leave and one of a proxy", got, n)
		}
		v.project(t)
		if list := v.rdb.LRange(t.Context(), v.list, 0, 2).Val(); !slices.Equal(list, []string{"web", "stays", "c"}) {
			t.Errorf("the list begins with %q", list)
		}
		if dead := v.rdb.SMembers(t.Context(), v.dead).Val(); !slices.Equal(dead, []string{"0"}) {
			t.Errorf("dead is %q, want the mark of the first slot", dead)
		}
	})
}

// A correct list is only read. A write would burden replicas and disks, and could lose a mark that a
// proxy has just made.
func TestProjectDoesNotWriteACorrectList(t *testing.T) {
	t.Parallel()
	v := newVhost(harness.StartRedis(t).Client(t), "")
	v.put(t, "me x a b a x", "0 2")
	v.have("a:up2 b:down@1900000000001 c:down")
	changes := func() string {
		info := v.rdb.InfoMap(t.Context(), "persistence").Item("Persistence", "rdb_changes_since_last_save")
		if info == "" {
			t.Fatal("INFO does not tell the number of changes")
		}
		return info
	}
	v.rdb.Expire(t.Context(), v.dead, markTTL*time.Second)
	before := changes()
	v.project(t)
	if after := changes(); after != before {
		list, dead, _ := v.stands(t)
		t.Errorf("%s changes, %s before; list %q dead %q", after, before, list, dead)
	}
}
