package harness

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

// Audit reads every key in Redis and compares the indexes, members and lists with the documents of the
// instances. It returns the differences. A backend in its settle time and a mark of a proxy are differences.
func Audit(ctx context.Context, rdb *redis.Client) (wrong []string, err error) {
	r, err := ReadAll(ctx, rdb)
	if err != nil {
		return nil, err
	}
	w := derive(r.Docs)
	a := audit{wrong: w.wrong}
	a.indexes(r, w)
	a.leftovers(r, w)
	for host, ids := range w.instances {
		a.wrong = append(a.wrong, r.auditVhost(host, ids)...)
	}
	return a.wrong, nil
}

// audit collects differences.
type audit struct{ wrong []string }

func (a *audit) add(format string, args ...any) {
	a.wrong = append(a.wrong, fmt.Sprintf(format, args...))
}

// derived is the content that follows from the documents.
type derived struct {
	audit
	services, addresses, instances map[string][]string // ids by name, address and vhost
	owners                         map[string]string   // service by vhost
}

// derive returns the content that follows from documents, with their contradictions.
func derive(docs map[string]Document) derived {
	w := derived{
		services: map[string][]string{}, addresses: map[string][]string{}, instances: map[string][]string{},
		owners: map[string]string{},
	}
	for id, d := range docs {
		w.services[d.Service] = append(w.services[d.Service], id)
		w.addresses[d.Address] = append(w.addresses[d.Address], id)
		for _, h := range d.Hosts {
			w.instances[h] = append(w.instances[h], id)
			if other, owned := w.owners[h]; owned && other != d.Service {
				w.add("%s is served by %s and %s", h, other, d.Service)
			}
			w.owners[h] = d.Service
		}
	}
	for address, ids := range w.addresses {
		of := map[string]string{}
		for _, id := range ids {
			if other, taken := of[docs[id].Service]; taken {
				w.add("%s and %s both have the address %s", id, other, address)
			}
			of[docs[id].Service] = id
		}
	}
	return w
}

// indexes compares the indexes in Redis with the derived ones.
func (a *audit) indexes(r Everything, w derived) {
	if !maps.EqualFunc(w.services, r.Services, SameSet) {
		a.add("the index of services is %v, want %v", r.Services, w.services)
	}
	if !maps.EqualFunc(w.addresses, r.addresses, SameSet) {
		a.add("the index of addresses is %v, want %v", r.addresses, w.addresses)
	}
	if got, want := slices.Sorted(slices.Values(r.names)), slices.Sorted(maps.Keys(w.services)); !slices.Equal(got, want) {
		a.add("the services are %q, want %q", got, want)
	}
	if !maps.Equal(w.owners, r.owners) {
		a.add("the vhosts are of %v, want %v", r.owners, w.owners)
	}
}

// leftovers finds keys without an instance, marks, and backends in their settle time.
func (a *audit) leftovers(r Everything, w derived) {
	if len(r.settling) > 0 {
		a.add("%q are settling", r.settling)
	}
	for host := range r.marks {
		a.add("dead:%s has %q", host, r.marks[host])
	}
	for id := range r.results {
		if _, known := r.Docs[id]; !known {
			a.add("there are results of %s, which is not registered", id)
		}
	}
	for host := range r.lists {
		if w.owners[host] == "" {
			a.add("there is a list of %s, which no instance serves: %q", host, r.lists[host])
		}
	}
	for host := range r.members {
		if w.owners[host] == "" {
			a.add("there are members of %s, which no instance serves: %q", host, r.members[host])
		}
	}
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
		return wrong // the last backend may stay
	}
	if !SameSet(list, want) {
		wrong = append(wrong, fmt.Sprintf("the list of %s is %q, want %q in any order", host, list, want))
	}
	return wrong
}

// Everything is the content of Redis.
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

// ReadAll reads the content of Redis.
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
		if err := r.read(ctx, rdb, key); err != nil {
			return r, fmt.Errorf("%s: %w", key, err)
		}
	}
	return r, nil
}

// read adds one key.
func (r *Everything) read(ctx context.Context, rdb *redis.Client, key string) (err error) {
	kind, name := key, ""
	if at := strings.LastIndex(strings.TrimPrefix(key, "rollcall:"), ":"); at >= 0 {
		at += len(key) - len(strings.TrimPrefix(key, "rollcall:"))
		kind, name = key[:at], key[at+1:]
	}
	switch kind {
	case "rollcall:instance":
		var d Document
		doc, err := rdb.Get(ctx, key).Result()
		if err == redis.Nil { //nolint:errorlint // returned bare; deleted between the two reads
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
		var index map[string]string
		index, err = rdb.HGetAll(ctx, key).Result()
		for address, ids := range index {
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

// Routed returns the backends of a vhost from which Hipache would choose: its list without the positions in its dead
// set. It also returns the list, read in the same transaction.
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

// Document is the stored form of an instance.
type Document struct {
	Rev     int64
	Service string
	Address string
	Hosts   []string
	Weight  int
	State   string
	Check   struct{ Kind string }
}

// URL returns the backend of the instance in the lists of the proxy.
func (d Document) URL() string { return "http://" + d.Address }

// Slots returns the number of its backends in a list while it is healthy.
func (d Document) Slots() int { return max(d.Weight, 1) }

// Probed reports whether a worker must run its check.
func (d Document) Probed() bool { return d.Check.Kind != "heartbeat" && d.Check.Kind != "none" }
