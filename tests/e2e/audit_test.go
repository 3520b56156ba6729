package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"
)

// audit reads all that is in Redis and compares it with the instances' documents, from
// which everything else follows. It returns what differs, when nothing is settling and
// no proxy marks anything.
func audit(ctx context.Context, rdb *redis.Client) (wrong []string, err error) {
	r, err := readAll(ctx, rdb)
	if err != nil {
		return nil, err
	}
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	services, due, deadlines := map[string]map[string]string{}, map[string]bool{}, map[string]bool{}
	members, owners := map[string][]string{}, map[string]string{}
	for id, d := range r.docs {
		if services[d.Service] == nil {
			services[d.Service] = map[string]string{}
		}
		if other, taken := services[d.Service][d.Address]; taken {
			say("%s and %s both have the address %s", id, other, d.Address)
		}
		services[d.Service][d.Address] = id
		due[id] = d.probed() && d.State != "draining"
		deadlines[id] = d.State != "healthy" || d.Check.Kind == "heartbeat"
		for _, h := range d.Hosts {
			members[h] = append(members[h], id)
			if other, owned := owners[h]; owned && other != d.Service {
				say("%s is served by %s and %s", h, other, d.Service)
			}
			owners[h] = d.Service
		}
	}
	if !maps.EqualFunc(services, r.services, maps.Equal[map[string]string, map[string]string]) {
		say("the index of services is %v, want %v", r.services, services)
	}
	if got, want := slices.Sorted(slices.Values(r.names)), slices.Sorted(maps.Keys(services)); !slices.Equal(got, want) {
		say("the services are %q, want %q", got, want)
	}
	compareQueue(say, "due", r.due, due)
	compareQueue(say, "deadlines", r.deadlines, deadlines)
	if !maps.Equal(owners, r.owners) {
		say("the vhosts are of %v, want %v", r.owners, owners)
	}
	compareQueue(say, "overrides", r.overrides, nil)
	if len(r.settling) > 0 {
		say("%q are settling", r.settling)
	}
	for host := range r.marks {
		say("dead:%s has %q", host, r.marks[host])
	}
	for id := range r.results {
		if _, known := r.docs[id]; !known {
			say("there are results of %s, which is not registered", id)
		}
	}
	for host := range r.lists {
		if owners[host] == "" {
			say("there is a list of %s, which nobody serves: %q", host, r.lists[host])
		}
	}
	for host := range r.members {
		if owners[host] == "" {
			say("there are members of %s, which nobody serves: %q", host, r.members[host])
		}
	}
	for host, ids := range members {
		wrong = append(wrong, r.auditVhost(host, ids)...)
	}
	return wrong, nil
}

// auditVhost compares the list and the members of one vhost with its instances.
func (r everything) auditVhost(host string, ids []string) (wrong []string) {
	var want []string
	stored := map[string]string{}
	for _, id := range ids {
		d := r.docs[id]
		n, keep := 0, 1
		if d.State == "healthy" {
			n = d.slots()
		}
		if d.State == "starting" || d.State == "failed" {
			keep = 0
		}
		for range n {
			want = append(want, d.url())
		}
		stored[d.url()] = fmt.Sprintf("%d %d 0 %s", n, keep, id)
	}
	if !maps.Equal(r.members[host], stored) {
		wrong = append(wrong, fmt.Sprintf("the members of %s are %q, want %q", host, r.members[host], stored))
	}
	list := r.lists[host]
	if len(list) > 0 {
		if list[0] != r.docs[ids[0]].Service {
			wrong = append(wrong, fmt.Sprintf("the identifier of %s is %q", host, list[0]))
		}
		list = list[1:]
	}
	if len(want) == 0 && len(slices.Compact(slices.Sorted(slices.Values(list)))) <= 1 {
		return wrong // the last one may stay
	}
	if !sameSet(list, want) {
		wrong = append(wrong, fmt.Sprintf("the list of %s is %q, want %q in any order", host, list, want))
	}
	return wrong
}

func compareQueue(say func(string, ...any), name string, got map[string]float64, want map[string]bool) {
	for id, in := range want {
		if _, there := got[id]; there != in {
			say("that %s is in the queue %s is %t, want %t", id, name, there, in)
		}
	}
	for id := range got {
		if _, known := want[id]; !known {
			say("%s is in the queue %s and is not registered", id, name)
		}
	}
}

// everything is what is in Redis.
type everything struct {
	docs           map[string]document
	results        map[string]bool
	names          []string
	services       map[string]map[string]string // address -> id by name
	due, deadlines map[string]float64
	overrides      map[string]float64
	owners         map[string]string
	members        map[string]map[string]string // url -> member by vhost
	settling       []string
	lists, marks   map[string][]string // by vhost
}

func readAll(ctx context.Context, rdb *redis.Client) (r everything, err error) {
	r = everything{
		docs: map[string]document{}, results: map[string]bool{}, services: map[string]map[string]string{},
		due: map[string]float64{}, deadlines: map[string]float64{}, members: map[string]map[string]string{},
		lists: map[string][]string{}, marks: map[string][]string{},
	}
	keys, err := rdb.Keys(ctx, "*").Result()
	if err != nil {
		return r, err
	}
	for _, key := range keys {
		if err := r.take(ctx, rdb, key); err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
	}
	return r, nil
}

func (r *everything) take(ctx context.Context, rdb *redis.Client, key string) (err error) {
	kind, name := key, ""
	if at := strings.LastIndex(strings.TrimPrefix(key, "rollcall:"), ":"); at >= 0 {
		at += len(key) - len(strings.TrimPrefix(key, "rollcall:"))
		kind, name = key[:at], key[at+1:]
	}
	switch kind {
	case "rollcall:instance":
		var d document
		doc, err := rdb.Get(ctx, key).Result()
		if err == redis.Nil { //nolint:errorlint // returned bare; gone between the two reads
			return nil
		}
		if err == nil {
			err = json.Unmarshal([]byte(doc), &d)
		}
		r.docs[name] = d
		return err
	case "rollcall:results":
		r.results[name] = true
	case "rollcall:services":
		r.names, err = rdb.SMembers(ctx, key).Result()
	case "rollcall:service":
		r.services[name], err = rdb.HGetAll(ctx, key).Result()
	case "rollcall:due":
		r.due, err = scores(ctx, rdb, key)
	case "rollcall:deadlines":
		r.deadlines, err = scores(ctx, rdb, key)
	case "rollcall:overrides":
		r.overrides, err = scores(ctx, rdb, key)
	case "rollcall:vhosts":
		r.owners, err = rdb.HGetAll(ctx, key).Result()
	case "rollcall:vhost":
		r.members[name], err = rdb.HGetAll(ctx, key).Result()
	case "rollcall:settling":
		r.settling, err = rdb.ZRange(ctx, key, 0, -1).Result()
	case "frontend":
		r.lists[name], err = rdb.LRange(ctx, key, 0, -1).Result()
	case "dead":
		r.marks[name], err = rdb.SMembers(ctx, key).Result()
	}
	return err
}

func scores(ctx context.Context, rdb *redis.Client, key string) (map[string]float64, error) {
	members, err := rdb.ZRangeWithScores(ctx, key, 0, -1).Result()
	m := map[string]float64{}
	for _, z := range members {
		m[z.Member.(string)] = z.Score
	}
	return m, err
}
