package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"maps"
	"slices"
	"strings"
	"sync"

	"rollcall/hipache"
)

//go:embed lua/children.lua
var childrenSource string

var childrenScript = withVhosts(childrenSource)

// children has the wildcards whose positions changed and whose children's dead sets have
// not been looked for since. Callers that wait for a scan share the next one.
type children struct {
	scanning sync.Mutex
	mu       sync.Mutex
	changed  map[string]bool // guarded by mu
}

// FindMarks looks for dead sets of wildcards' children that nobody has announced to this
// registry, so that they are deleted with the next rewrite of the list. Call it when a
// worker starts to listen for announcements, or listens again after a gap. It reads the
// names of all keys, some thousand per call of Redis, if there is a wildcard at all.
func (s *Store) FindMarks(ctx context.Context) error {
	wildcards := map[string]bool{}
	var cursor uint64
	for {
		short, cancel := context.WithTimeout(ctx, s.timeout)
		fields, next, err := s.rdb.HScan(short, s.keys.vhosts(), cursor, `\**`, batch).Result()
		cancel()
		if err != nil {
			return wrap("list wildcards", err)
		}
		for n := 0; n < len(fields); n += 2 {
			wildcards[fields[n]] = true
		}
		if cursor = next; cursor == 0 {
			break
		}
	}
	_, err := s.findMarks(ctx, wildcards, map[string]bool{})
	return err
}

// rewritten deletes the dead sets of children of wildcards (apart by spaces) whose lists
// were rewritten by a script. The script itself deleted those that were announced; others
// exist when no worker was listening.
func (s *Store) rewritten(ctx context.Context, wildcards string) {
	if wildcards == "" {
		return
	}
	s.children.mu.Lock()
	if s.children.changed == nil {
		s.children.changed = map[string]bool{}
	}
	for host := range strings.FieldsSeq(wildcards) {
		s.children.changed[host] = true
	}
	s.children.mu.Unlock()

	s.children.scanning.Lock()
	defer s.children.scanning.Unlock()
	s.children.mu.Lock()
	changed := s.children.changed
	s.children.changed = nil
	s.children.mu.Unlock()
	if len(changed) == 0 {
		return // the scan that another caller began after this rewrite had them
	}
	deleted, err := s.findMarks(context.WithoutCancel(ctx), changed, changed)
	hosts := slices.Sorted(maps.Keys(changed))
	switch {
	case err != nil:
		s.log.WarnContext(ctx, "dead sets of a wildcard's children could not be deleted; marks in them end by themselves", "vhosts", hosts, "err", err)
	case deleted > 0:
		s.log.InfoContext(ctx, "deleted dead sets of a wildcard's children with its list", "vhosts", hosts, "dead_sets", deleted)
	}
}

// findMarks scans for dead sets of the children of wildcards, and returns how many it
// deleted.
func (s *Store) findMarks(ctx context.Context, wildcards, rewritten map[string]bool) (deleted int, err error) {
	if len(wildcards) == 0 {
		return 0, nil
	}
	var cursor uint64
	for {
		short, cancel := context.WithTimeout(ctx, s.timeout)
		keys, next, err := s.rdb.Scan(short, cursor, globbed(s.keys.proxy.Dead(""))+"*", batch).Result()
		cancel()
		if err != nil {
			return deleted, wrap("scan dead sets", err)
		}
		names := [][]string{}
		for _, key := range keys {
			requested := strings.TrimPrefix(key, s.keys.proxy.Dead(""))
			hosts := hipache.Lookup(requested)
			if slices.ContainsFunc(hosts[1:], func(host string) bool { return wildcards[host] }) {
				names = append(names, append([]string{requested}, hosts...))
			}
		}
		for chunk := range slices.Chunk(names, projected) {
			n, err := s.noteChildren(ctx, chunk, rewritten)
			deleted += n
			if err != nil {
				return deleted, err
			}
		}
		if cursor = next; cursor == 0 {
			return deleted, nil
		}
	}
}

func (s *Store) noteChildren(ctx context.Context, names [][]string, rewritten map[string]bool) (int, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	arg, _ := json.Marshal(map[string]any{"names": names, "rewritten": rewritten}) // strings always have a JSON form
	n, err := childrenScript.Run(ctx, s.rdb, nil, s.settings(), arg).Int()
	return n, wrapIf("note the dead sets of children", err)
}

// globbed is a literal as a pattern of Redis.
func globbed(literal string) string {
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`, "]", `\]`).Replace(literal)
}
