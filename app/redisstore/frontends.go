package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

// Frontends reads every registered vhost and every vhost with departures from the proxy's keys, sorted by name.
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
		if hipache.Wildcard(h) { // the marks of a wildcard are stored under the requested hosts
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
		if slot, ok := hipache.ParsePosition(m); ok {
			marked[slot] = true
		}
	}
	wanted := map[string]int{}
	for slot, url := range list {
		m, ours := parseMember(members[url])
		_, usable := hipache.Target(url)
		s := app.Slot{URL: url, Instance: m.id, Foreign: !ours, Marked: marked[slot], Unusable: !usable}
		if wanted[url]++; ours && wanted[url] > m.wanted && m.departure > 0 {
			s.Leaves = time.UnixMilli(m.departure)
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

// A member is a vhost's record of a backend; see lua/vhost.lua.
type member struct {
	wanted    int
	stay      int
	departure int64
	id        string
}

func parseMember(v string) (m member, ok bool) {
	parts := strings.SplitN(v, " ", 4)
	if len(parts) != 4 {
		return member{}, false
	}
	var errs [3]error
	m.wanted, errs[0] = strconv.Atoi(parts[0])
	m.stay, errs[1] = strconv.Atoi(parts[1])
	m.departure, errs[2] = strconv.ParseInt(parts[2], 10, 64)
	m.id = parts[3]
	return m, errors.Join(errs[:]...) == nil
}
