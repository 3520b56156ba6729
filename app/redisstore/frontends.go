package redisstore

import (
	"context"
	_ "embed"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

var (
	//go:embed lua/project.lua
	projectSource string
	//go:embed lua/announce.lua
	announceSource string

	projectScript  = withVhosts(projectSource)
	announceScript = withVhosts(announceSource)
)

// projected bounds how many vhosts one script call goes through.
const projected = 100

// Compact takes the slots whose settle time is over out of their lists, and returns
// how many lists it wrote.
func (s *Store) Compact(ctx context.Context) (int, error) {
	wrote := 0
	for {
		hosts, err := s.settled(ctx)
		if err != nil {
			return wrote, err
		}
		n, _, _, err := s.project(ctx, hosts)
		wrote += n
		if err != nil || len(hosts) < projected {
			return wrote, err
		}
	}
}

// settled lists some of the vhosts that have a slot whose settle time is over.
func (s *Store) settled(ctx context.Context) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	hosts, err := s.rdb.ZRangeByScore(ctx, s.keys.settling(), &redis.ZRangeBy{
		Min: "-inf", Max: strconv.FormatInt(s.Now().UnixMilli(), 10), Count: projected,
	}).Result()
	if err != nil {
		return nil, wrap("list settling vhosts", err)
	}
	return hosts, nil
}

// project has the lists of vhosts follow their members. Of the lists it wrote, mended
// are those where no settle time was over: there somebody else had written.
func (s *Store) project(ctx context.Context, hosts []string) (wrote, mended int, repaired []string, err error) {
	if len(hosts) == 0 {
		return 0, 0, nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings()}
	for _, h := range hosts {
		args = append(args, h)
	}
	reply, err := projectScript.Run(ctx, s.rdb, nil, args...).Slice()
	if err != nil {
		return 0, 0, nil, wrap("project vhosts", err)
	}
	n, _ := reply[0].(int64)
	m, _ := reply[1].(int64)
	for _, r := range reply[3:] {
		repaired = append(repaired, fmt.Sprint(r))
	}
	s.stats.ListsWritten.Add(n)
	s.stats.ListsKept.Add(int64(len(hosts)) - n)
	s.reportRepairs(ctx, repaired)
	s.rewritten(ctx, fmt.Sprint(reply[2]))
	return int(n), int(m), repaired, nil
}

// Announced takes note of a backend that a proxy has marked; see lua/announce.lua.
// It reports whether the mark had hit another backend and was taken back, and the instance that is due for a
// probe at once, if any.
func (s *Store) Announced(ctx context.Context, a hipache.Announcement) (repaired bool, early string, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings(), a.Host, strings.TrimRight(strings.ToLower(a.URL), "/"), a.Slot}
	for _, h := range hipache.Lookup(a.Host) {
		args = append(args, h)
	}
	reply, err := announceScript.Run(ctx, s.rdb, nil, args...).Slice()
	if err != nil {
		return false, "", wrap("note the announcement for "+a.Host, err)
	}
	taken, _ := reply[0].(int64)
	early, _ = reply[1].(string)
	return taken == 1, early, nil
}

// Frontends reads every vhost that the registry has something in as the proxy would,
// sorted by name.
func (s *Store) Frontends(ctx context.Context) ([]app.Frontend, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	owners, err := s.rdb.HGetAll(ctx, s.keys.vhosts()).Result()
	if err != nil {
		return nil, wrap("list vhosts", err)
	}
	leaving, err := s.rdb.ZRange(ctx, s.keys.settling(), 0, -1).Result()
	if err != nil {
		return nil, wrap("list settling vhosts", err)
	}
	hosts := slices.Compact(slices.Sorted(slices.Values(append(leaving, slices.Collect(maps.Keys(owners))...))))
	lists := make([]*redis.StringSliceCmd, len(hosts))
	marks := make([]*redis.StringSliceCmd, len(hosts))
	members := make([]*redis.MapStringStringCmd, len(hosts))
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, h := range hosts {
			lists[n] = p.LRange(ctx, s.keys.proxy.Frontend(h), 0, -1)
			marks[n] = p.SMembers(ctx, s.keys.proxy.Dead(h))
			members[n] = p.HGetAll(ctx, s.keys.vhost(h))
		}
		return nil
	})
	if err := failed(cmds, err, wrongType); err != nil {
		return nil, wrap("read vhosts", err)
	}
	frontends := make([]app.Frontend, len(hosts))
	for n, h := range hosts {
		dead := marks[n].Val()
		if hipache.Wildcard(h) { // whose marks go by the names below it
			dead = nil
		}
		frontends[n] = frontendOf(h, owners[h], lists[n].Val(), dead, members[n].Val())
	}
	return frontends, nil
}

func frontendOf(host, service string, list, marks []string, members map[string]string) app.Frontend {
	f := app.Frontend{Host: host, Service: service}
	if len(list) > 0 {
		f.Identifier, list = list[0], list[1:]
	}
	marked := map[int]bool{}
	for _, m := range marks {
		if slot, ok := hipache.ParseSlot(m); ok {
			marked[slot] = true
		}
	}
	wanted := map[string]int{}
	for slot, url := range list {
		m, ours := parseMember(members[url])
		_, usable := hipache.Target(url)
		s := app.Slot{URL: url, Instance: m.id, Foreign: !ours, Marked: marked[slot], Unusable: !usable}
		if wanted[url]++; ours && wanted[url] > m.n && m.leave > 0 {
			s.Leaves = time.UnixMilli(m.leave)
		}
		f.Slots = append(f.Slots, s)
	}
	for _, url := range slices.Sorted(maps.Keys(members)) {
		if m, _ := parseMember(members[url]); m.id != "" && wanted[url] == 0 {
			f.Unlisted = append(f.Unlisted, m.id)
		}
	}
	return f
}

// member is what a vhost's hash holds of a backend.
type member struct {
	n     int
	keep  int
	leave int64
	id    string
}

func parseMember(v string) (m member, ok bool) {
	parts := strings.SplitN(v, " ", 4)
	if len(parts) != 4 {
		return member{}, false
	}
	var errs [3]error
	m.n, errs[0] = strconv.Atoi(parts[0])
	m.keep, errs[1] = strconv.Atoi(parts[1])
	m.leave, errs[2] = strconv.ParseInt(parts[2], 10, 64)
	m.id = parts[3]
	return m, errors.Join(errs[:]...) == nil
}
