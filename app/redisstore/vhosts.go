package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"hash/maphash"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

var (
	//go:embed lua/project.lua
	projectSource string
	//go:embed lua/announce.lua
	announceSource string
	//go:embed lua/children.lua
	childrenSource string

	projectScript  = withVhosts(projectSource)
	announceScript = withVhosts(announceSource)
	childrenScript = withVhosts(childrenSource)
)

// projected is the largest number of vhosts in one call of a script.
const projected = 100

// Vhosts carries out the duties of a worker for the vhosts of its shards: it ends settle times, repairs marks and compares
// frontends. Each method writes only vhosts that the caller owns, under the terms of their shards.
type Vhosts struct {
	store *Store
	seed  maphash.Seed

	mu     sync.Mutex // held during Compare
	cursor uint64
	before map[string]uint64 // hashes of the frontends in the previous round, by vhost
	seen   map[string]uint64 // hashes in this round so far
}

// Vhosts returns the duties of a worker that has not compared a frontend yet.
func (s *Store) Vhosts() *Vhosts {
	return &Vhosts{store: s, seed: maphash.MakeSeed(), before: map[string]uint64{}, seen: map[string]uint64{}}
}

// projectArg is a vhost in the argument of project.lua.
type projectArg struct {
	Host    string           `json:"host"`
	Shard   int              `json:"shard"`
	Term    string           `json:"term,omitempty"`
	Settled map[string]int64 `json:"settled,omitzero"`
}

// projection is the result of project.lua. mended counts the frontends that differed although no backend had settled.
type projection struct {
	wrote, mended     int
	refused, repaired []string
}

// project updates the frontends of vhosts from their members.
func (s *Store) project(ctx context.Context, vhosts []projectArg) (projection, error) {
	var done projection
	for chunk := range slices.Chunk(vhosts, projected) {
		if err := s.projectChunk(ctx, chunk, &done); err != nil {
			return done, err
		}
	}
	return done, nil
}

func (s *Store) projectChunk(ctx context.Context, vhosts []projectArg, done *projection) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	arg, _ := json.Marshal(vhosts) // strings and numbers always have a JSON form
	reply, err := projectScript.Run(ctx, s.rdb, nil, s.settings(), arg).Slice()
	if err != nil {
		return wrap("project vhosts", err)
	}
	wrote, _ := reply[0].(int64)
	mended, _ := reply[1].(int64)
	refused, _ := reply[2].(int64)
	var names []string
	for _, name := range reply[3:] {
		names = append(names, fmt.Sprint(name))
	}
	done.wrote += int(wrote)
	done.mended += int(mended)
	done.refused = append(done.refused, names[:refused]...)
	done.repaired = append(done.repaired, names[refused:]...)
	s.stats.ListsWritten.Add(wrote)
	s.stats.ListsKept.Add(int64(len(vhosts)) - wrote - refused)
	s.reportRepairs(ctx, names[refused:])
	return nil
}

// owned returns the vhosts of a list that the caller owns, as arguments of project.lua.
func owned(hosts []string, owns app.Owner) []projectArg {
	var args []projectArg
	for _, h := range hosts {
		if f, is := owns(h); is {
			args = append(args, projectArg{Host: h, Shard: f.Shard, Term: f.Term})
		}
	}
	return args
}

// Departures returns the departures of the caller's vhosts, by vhost and URL, and the time by Redis's clock in ms. A
// vhost without departures in the answer is still in the index of settling vhosts; RemoveSettled removes it.
func (v *Vhosts) Departures(ctx context.Context, owns app.Owner) (now int64, departures map[string]map[string]int64, err error) {
	s := v.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var clock *redis.TimeCmd
	var settling *redis.StringSliceCmd
	if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock, settling = p.Time(ctx), p.ZRange(ctx, s.keys.settling(), 0, -1)
		return nil
	}); err != nil {
		return 0, nil, wrap("list settling vhosts", err)
	}
	mine := owned(settling.Val(), owns)
	departures = make(map[string]map[string]int64, len(mine))
	for chunk := range slices.Chunk(mine, batch) {
		members := make([]*redis.MapStringStringCmd, len(chunk))
		if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
			for n, a := range chunk {
				members[n] = p.HGetAll(ctx, s.keys.vhost(a.Host))
			}
			return nil
		}); err != nil {
			return 0, nil, wrap("list settling backends", err)
		}
		for n, a := range chunk {
			leaving := map[string]int64{}
			for url, value := range members[n].Val() {
				if m, ok := parseMember(value); ok && m.departure > 0 {
					leaving[url] = m.departure
				}
			}
			departures[a.Host] = leaving
		}
	}
	return clock.Val().UnixMilli(), departures, nil
}

// RemoveSettled removes the backends of departures whose settle time is over. It returns the number of written frontends,
// and the vhosts that it refused to write because the caller no longer owns their shard.
func (v *Vhosts) RemoveSettled(ctx context.Context, settled []app.Settled) (wrote int, refused []string, err error) {
	args := make([]projectArg, len(settled))
	for n, of := range settled {
		args[n] = projectArg{Host: of.Host, Shard: of.Fence.Shard, Term: of.Fence.Term, Settled: of.Departures}
	}
	done, err := v.store.project(ctx, args)
	return done.wrote, done.refused, err
}

// Reconcile compares instances and vhosts with all data that is derived from them; see Store.Reconcile.
func (v *Vhosts) Reconcile(ctx context.Context, owns app.Owner) (app.Repairs, error) {
	return v.store.Reconcile(ctx, owns)
}

// Announced records that a proxy has marked a backend; see lua/announce.lua. It returns whether the mark had hit
// another backend and was removed, and the id of the failing instance, if there is one.
func (v *Vhosts) Announced(ctx context.Context, a hipache.Announcement, owns app.Owner) (repaired bool, failing string, err error) {
	s := v.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	args := []any{s.settings(), a.Host, strings.TrimRight(strings.ToLower(a.URL), "/"), a.Position}
	for _, h := range hipache.Lookup(a.Host) {
		term := ""
		f, is := owns(h)
		switch {
		case is && f.Term == "":
			term = "-"
		case is:
			term = f.Term
		}
		args = append(args, h, f.Shard, term)
	}
	reply, err := announceScript.Run(ctx, s.rdb, nil, args...).Slice()
	if err != nil {
		return false, "", wrap("note the announcement for "+a.Host, err)
	}
	taken, _ := reply[0].(int64)
	failing, _ = reply[1].(string)
	return taken == 1, failing, nil
}

// FindMarks searches for dead sets of the caller's wildcards whose announcements no worker has received. It deletes them
// if the frontend was rewritten since the last search; otherwise the next rewrite deletes them. Call it when a worker
// takes shards, and after a gap in its subscription. If the caller owns a wildcard, FindMarks reads the names of all
// keys, about a thousand per call of Redis.
func (v *Vhosts) FindMarks(ctx context.Context, owns app.Owner) error {
	s := v.store
	wildcards, err := v.wildcards(ctx, owns)
	if err != nil || len(wildcards) == 0 {
		return err
	}
	var cursor uint64
	for {
		short, cancel := context.WithTimeout(ctx, s.timeout)
		keys, next, err := s.rdb.Scan(short, cursor, globbed(s.keys.proxy.Dead(""))+"*", batch).Result()
		cancel()
		if err != nil {
			return wrap("scan dead sets", err)
		}
		var names [][]string
		for _, key := range keys {
			requested := strings.TrimPrefix(key, s.keys.proxy.Dead(""))
			hosts := hipache.Lookup(requested)
			if slices.ContainsFunc(hosts[1:], func(host string) bool { _, mine := wildcards[host]; return mine }) {
				names = append(names, append([]string{requested}, hosts...))
			}
		}
		cursor = next
		for chunk := range slices.Chunk(names, projected) {
			if err := v.noteChildren(ctx, childrenArg{Names: chunk, Wildcards: wildcards}); err != nil {
				return err
			}
		}
		if cursor == 0 {
			return v.noteChildren(ctx, childrenArg{Wildcards: wildcards, Done: true})
		}
	}
}

// wildcards returns the caller's wildcards that are registered or were rewritten.
func (v *Vhosts) wildcards(ctx context.Context, owns app.Owner) (map[string]projectArg, error) {
	s := v.store
	mine := map[string]projectArg{}
	add := func(hosts []string) {
		for _, a := range owned(hosts, owns) {
			mine[a.Host] = a
		}
	}
	var cursor uint64
	for {
		short, cancel := context.WithTimeout(ctx, s.timeout)
		fields, next, err := s.rdb.HScan(short, s.keys.vhosts(), cursor, `\**`, batch).Result()
		cancel()
		if err != nil {
			return nil, wrap("list wildcards", err)
		}
		for n := 0; n < len(fields); n += 2 {
			add(fields[n : n+1])
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	short, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	rewritten, err := s.rdb.SMembers(short, s.keys.rewritten()).Result()
	if err != nil && !wrongType(err) {
		return nil, wrap("list rewritten wildcards", err)
	}
	add(rewritten)
	return mine, nil
}

// childrenArg is the argument of children.lua.
type childrenArg struct {
	Names     [][]string            `json:"names,omitempty"`
	Wildcards map[string]projectArg `json:"wildcards"`
	Done      bool                  `json:"done,omitempty"`
}

func (v *Vhosts) noteChildren(ctx context.Context, arg childrenArg) error {
	s := v.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	doc, _ := json.Marshal(arg) // strings and numbers always have a JSON form
	return wrapIf("note the dead sets of children", childrenScript.Run(ctx, s.rdb, nil, s.settings(), doc).Err())
}

// globbed escapes a literal for a pattern of Redis.
func globbed(literal string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(literal)
}

// position formats a position as a member of a dead set.
func position(n int) string { return strconv.Itoa(n) }
