package proctest

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"
)

// Audit reads all that is in Redis and compares it with the instances' documents, from
// which Everything else follows. It returns what differs, when nothing is settling and
// no proxy marks anything.
func Audit(ctx context.Context, rdb *redis.Client) (wrong []string, err error) {
	r, err := ReadAll(ctx, rdb)
	if err != nil {
		return nil, err
	}
	say := func(format string, args ...any) { wrong = append(wrong, fmt.Sprintf(format, args...)) }

	services := map[string][]string{}
	members, owners, addresses := map[string][]string{}, map[string]string{}, map[string][]string{}
	for id, d := range r.Docs {
		services[d.Service] = append(services[d.Service], id)
		addresses[d.Address] = append(addresses[d.Address], id)
		for _, h := range d.Hosts {
			members[h] = append(members[h], id)
			if other, owned := owners[h]; owned && other != d.Service {
				say("%s is served by %s and %s", h, other, d.Service)
			}
			owners[h] = d.Service
		}
	}
	for address, ids := range addresses {
		of := map[string]string{}
		for _, id := range ids {
			if other, taken := of[r.Docs[id].Service]; taken {
				say("%s and %s both have the address %s", id, other, address)
			}
			of[r.Docs[id].Service] = id
		}
	}
	if !maps.EqualFunc(services, r.Services, SameSet) {
		say("the index of services is %v, want %v", r.Services, services)
	}
	if !maps.EqualFunc(addresses, r.addresses, SameSet) {
		say("the index of addresses is %v, want %v", r.addresses, addresses)
	}
	if got, want := slices.Sorted(slices.Values(r.names)), slices.Sorted(maps.Keys(services)); !slices.Equal(got, want) {
		say("the services are %q, want %q", got, want)
	}
	if !maps.Equal(owners, r.owners) {
		say("the vhosts are of %v, want %v", r.owners, owners)
	}
	if len(r.settling) > 0 {
		say("%q are settling", r.settling)
	}
	for host := range r.marks {
		say("dead:%s has %q", host, r.marks[host])
	}
	for id := range r.results {
		if _, known := r.Docs[id]; !known {
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
func (r Everything) auditVhost(host string, ids []string) (wrong []string) {
	var want []string
	stored := map[string]string{}
	for _, id := range ids {
		d := r.Docs[id]
		n, keep := 0, 2
		if d.State == "healthy" {
			n = d.Slots()
		}
		switch d.State {
		case "starting", "failed":
			keep = 0
		case "draining":
			keep = 1
		}
		for range n {
			want = append(want, d.URL())
		}
		stored[d.URL()] = fmt.Sprintf("%d %d 0 %s", n, keep, id)
	}
	if !maps.Equal(r.members[host], stored) {
		wrong = append(wrong, fmt.Sprintf("the members of %s are %q, want %q", host, r.members[host], stored))
	}
	list := r.lists[host]
	if len(list) > 0 {
		if list[0] != r.Docs[ids[0]].Service {
			wrong = append(wrong, fmt.Sprintf("the identifier of %s is %q", host, list[0]))
		}
		list = list[1:]
	}
	if len(want) == 0 && len(slices.Compact(slices.Sorted(slices.Values(list)))) <= 1 {
		return wrong // the last one may stay
	}
	if !SameSet(list, want) {
		wrong = append(wrong, fmt.Sprintf("the list of %s is %q, want %q in any order", host, list, want))
	}
	return wrong
}

// Everything is what is in Redis.
type Everything struct {
	Docs         map[string]Document
	results      map[string]bool
	names        []string
	Services     map[string][]string // ids by name
	addresses    map[string][]string // ids by address
	owners       map[string]string
	members      map[string]map[string]string // url -> member by vhost
	settling     []string
	lists, marks map[string][]string // by vhost
}

// ReadAll reads it.
func ReadAll(ctx context.Context, rdb *redis.Client) (r Everything, err error) {
	r = Everything{
		Docs: map[string]Document{}, results: map[string]bool{}, Services: map[string][]string{}, addresses: map[string][]string{},
		members: map[string]map[string]string{},
		lists:   map[string][]string{}, marks: map[string][]string{},
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

func (r *Everything) take(ctx context.Context, rdb *redis.Client, key string) (err error) {
	kind, name := key, ""
	if at := strings.LastIndex(strings.TrimPrefix(key, "rollcall:"), ":"); at >= 0 {
		at += len(key) - len(strings.TrimPrefix(key, "rollcall:"))
		kind, name = key[:at], key[at+1:]
	}
	switch kind {
	case "rollcall:instance":
		var d Document
		doc, err := rdb.Get(ctx, key).Result()
		if err == redis.Nil { //nolint:errorlint // returned bare; gone between the two reads
			return nil
		}
		if err == nil {
			err = json.Unmarshal([]byte(doc), &d)
		}
		r.Docs[name] = d
		return err
	case "rollcall:results":
		r.results[name] = true
	case "rollcall:services":
		r.names, err = rdb.SMembers(ctx, key).Result()
	case "rollcall:service":
		r.Services[name], err = rdb.SMembers(ctx, key).Result()
	case "rollcall:addresses":
		var held map[string]string
		held, err = rdb.HGetAll(ctx, key).Result()
		for address, ids := range held {
			r.addresses[address] = strings.Fields(ids)
		}
	case "rollcall:hosts":
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

// Routed returns the backends that Hipache would choose from for a vhost: its list
// without the positions in its dead set; and the list itself. Both are read as of one
// moment.
func Routed(ctx context.Context, rdb *redis.Client, host string) (pick, list []string, err error) {
	var entries, dead *redis.StringSliceCmd
	_, err = rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		entries = p.LRange(ctx, "frontend:"+host, 0, -1)
		dead = p.SMembers(ctx, "dead:"+host)
		return nil
	})
	if err != nil || len(entries.Val()) == 0 {
		return nil, nil, err
	}
	list = entries.Val()[1:]
	for position, url := range list {
		if !slices.Contains(dead.Val(), strconv.Itoa(position)) {
			pick = append(pick, url)
		}
	}
	return pick, list, nil
}

// SameSet reports whether two lists have the same entries, in any order.
func SameSet(a, b []string) bool {
	a, b = slices.Sorted(slices.Values(a)), slices.Sorted(slices.Values(b))
	return slices.Equal(a, b)
}

// Document is an instance as it is stored.
type Document struct {
	Rev     int64
	Service string
	Address string
	Hosts   []string
	Weight  int
	State   string
	Check   struct{ Kind string }
}

// URL is how the proxy's lists name its backend.
func (d Document) URL() string { return "http://" + d.Address }

// Slots is how many of a list it has when it is healthy.
func (d Document) Slots() int { return max(d.Weight, 1) }

// Probed reports whether it has a check that somebody has to run.
func (d Document) Probed() bool { return d.Check.Kind != "heartbeat" && d.Check.Kind != "none" }
