package redisstore_test

import (
	"fmt"
	"strings"
	"testing"

	"rollcall/app"
	"rollcall/app/redisstore"
	"rollcall/tests/harness"
)

func TestAListThatWasChangedByHandIsMendedInTheNextRound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, edit string // of a.test, whose list is web 1 2
		want       string
		mended     int
	}{
		{"deleted", "DEL frontend:a.test", "web 1 2", 1},
		{"deleted together with others", "DEL frontend:a.test frontend:b.test", "web 1 2", 2},
		{"cut", "LTRIM frontend:a.test 0 1", "web 1 2", 1},
		{"only the identifier is left", "LTRIM frontend:a.test 0 0", "web 1 2", 1},
		{"another entry in the place of one", "LSET frontend:a.test 1 http://10.0.0.9:80", "web 9 2 1", 1},
		{"the identifier is gone", "LPOP frontend:a.test", "1 2 1", 1},
		{"renamed", "RENAME frontend:a.test frontend:z.test", "web 1 2", 1},
		{"another type", "SET frontend:a.test x", "web 1 2", 1},
		{"every backend is marked", "SADD dead:a.test 0 1", "web 1 2", 0},
		{"every backend is marked, and more", "SADD dead:a.test 0 1 7 junk", "web 1 2", 0},
		{"the dead set has another type", "SET dead:a.test x", "web 1 2", 0},
		{"one backend is marked", "SADD dead:a.test 0", "web 1! 2", 0},
		{"a foreign entry", "RPUSH frontend:a.test http://10.0.0.9:80", "web 1 2 9", 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := newSite(t)
			s.up(t, 1)
			s.up(t, 2, hosts("a.test", "b.test"))
			s.up(t, 3, hosts("*.a.test"))
			round := func() (mended int) {
				t.Helper()
				found, err := s.vhosts.Compare(t.Context(), app.Everything, 1000)
				if err != nil {
					t.Fatal(err)
				}
				return found.Repairs.Lists
			}
			if n := round(); n != 0 {
				t.Errorf("%d lists mended before anything was changed", n)
			}
			if strings.HasPrefix(c.edit, "SET ") {
				s.do(t, "DEL "+strings.Fields(c.edit)[1])
			}
			s.do(t, c.edit)
			if n := round(); n != c.mended {
				t.Errorf("%d lists mended, want %d", n, c.mended)
			}
			s.wantList(t, "a.test", c.want)
			s.wantList(t, "b.test", "web 2")
			if n := round() + round(); n != 0 {
				t.Errorf("%d lists mended later", n)
			}
		})
	}
}

func TestAListThatWasDeletedWhileAllAreSickIsMended(t *testing.T) {
	t.Parallel()
	s := newSite(t)
	s.up(t, 1)
	s.fails(t, "i1", 500)
	for range 2 {
		s.do(t, "DEL frontend:a.test") // also before the first round
		if _, err := s.vhosts.Compare(t.Context(), app.Everything, 1000); err != nil {
			t.Fatal(err)
		}
		s.wantList(t, "a.test", "web 1")
	}
}

func TestARoundWithoutDifferencesCallsNoScriptAndKeepsToItsBudget(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	s := siteOn(server.Client(t), redisstore.Options{})
	const vhosts, budget = 1200, 400
	for n := range vhosts / 20 {
		var names []string
		for m := range 20 {
			names = append(names, fmt.Sprintf("h%d.test", 20*n+m))
		}
		s.register(t, saying(n+1, hosts(names...), func(r *app.Registration) { r.Service, r.Health = fmt.Sprint("web", n), "none" }))
	}
	next := func() {
		if _, err := s.vhosts.Compare(t.Context(), app.Everything, budget); err != nil {
			t.Error(err)
		}
	}
	for range 7 { // more than two rounds
		next()
	}
	read := 0
	for _, line := range monitored(t, server, func() { next(); next() }) { // one may be the end of a round
		switch command := strings.ToLower(strings.Fields(line)[3]); command {
		case `"lrange"`:
			read++
		case `"hscan"`, `"smembers"`, `"zrange"`, `"hello"`, `"client"`:
		default:
			t.Errorf("unexpected: %s", line)
		}
	}
	if read == 0 || read > 3*budget {
		t.Errorf("%d lists read with two calls, want at most about %d", read, 2*budget)
	}
	s.do(t, "DEL frontend:h1134.test")
	for range 5 { // at any point of the round
		next()
	}
	if n := s.do(t, "EXISTS frontend:h1134.test"); n != int64(1) {
		t.Error("a deleted list is not mended within a round")
	}
}
