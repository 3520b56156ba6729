package redisstore

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// exported is one line of an export: an instance as it is stored. T is how its record is read
// or written.
type exported[T any] struct {
	ID       string `json:"id"`
	Instance T      `json:"instance"`
}

// Export writes every instance as a line of JSON, in an order in which an import gives
// the lists of the vhosts theirs, save that all slots of an instance then stand
// together. What is draining is left out: it is about to be gone.
func (s *Store) Export(ctx context.Context, to io.Writer) (int, error) {
	instances, err := s.All(ctx)
	if err != nil {
		return 0, err
	}
	frontends, err := s.Frontends(ctx)
	if err != nil {
		return 0, err
	}
	byID := map[string]app.Instance{}
	for _, i := range instances {
		if i.State != app.Draining {
			byID[i.ID] = i
		}
	}
	lines, n := json.NewEncoder(to), 0
	for _, id := range ranked(byID, frontends) {
		doc, err := encode(byID[id], 0)
		if err == nil {
			err = lines.Encode(exported[json.RawMessage]{ID: id, Instance: json.RawMessage(doc)})
		}
		if err != nil {
			return n, fmt.Errorf("export %s: %w", id, err)
		}
		n++
	}
	return n, nil
}

// ranked orders instances so that none comes before one that it stands behind in a
// list. Those that stand nowhere come last: a list that only has its last one, which is
// not healthy, is not to get another.
func ranked(instances map[string]app.Instance, frontends []app.Frontend) []string {
	behind := map[string]map[string]bool{} // id -> those that it stands directly behind
	var listed []string
	for _, f := range frontends {
		last := ""
		for _, slot := range f.Slots {
			id := slot.Instance
			if _, known := instances[id]; !known {
				continue
			}
			if behind[id] == nil {
				behind[id] = map[string]bool{}
				listed = append(listed, id)
			}
			if last != "" && last != id && !behind[last][id] {
				behind[id][last] = true
			}
			last = id
		}
	}
	slices.Sort(listed)
	order := make([]string, 0, len(instances))
	for len(listed) > 0 {
		next := slices.IndexFunc(listed, func(id string) bool { return len(behind[id]) == 0 })
		next = max(next, 0) // somebody has turned lists round: then there is no such order
		id := listed[next]
		listed = slices.Delete(listed, next, next+1)
		for _, others := range behind {
			delete(others, id)
		}
		order = append(order, id)
	}
	for _, id := range slices.Sorted(maps.Keys(instances)) {
		if _, done := behind[id]; !done {
			order = append(order, id)
		}
	}
	return order
}

// Import adds the instances of an export that are not known, as they were, and has
// them probed at once. It returns how many it has added, and how many there were. An
// error names the line; those before it have been added. write is Registry.Import.
func (s *Store) Import(ctx context.Context, from io.Reader, write ImportFunc) (added, read int, err error) {
	lines := bufio.NewReader(from)
	for n := 1; ; n++ {
		line, end := lines.ReadBytes('\n')
		if end != nil && !errors.Is(end, io.EOF) {
			return added, read, fmt.Errorf("line %d: %w", n, end)
		}
		if line = bytes.TrimSpace(line); len(line) > 0 {
			read++
			isNew, err := s.add(ctx, line, write)
			if err != nil {
				return added, read, fmt.Errorf("line %d: %w", n, err)
			}
			if isNew {
				added++
			}
		}
		if end != nil {
			return added, read, nil //nolint:nilerr // it is the end
		}
	}
}

// An ImportFunc writes an instance; alone says that it was the last backend of a vhost that
// has no list now.
type ImportFunc func(ctx context.Context, i app.Instance, alone bool) error

// add adds the instance of one line, unless it is known, or another one has its place.
func (s *Store) add(ctx context.Context, line []byte, write ImportFunc) (bool, error) {
	i, err := parseExported(line)
	if err != nil {
		return false, err
	}
	if _, err := s.Get(ctx, i.ID); !errors.Is(err, app.ErrNotFound) {
		return false, err
	}
	alone, err := s.lastOne(ctx, i)
	if err != nil {
		return false, err
	}
	err = write(ctx, i, alone)
	return err == nil, known(err)
}

// known makes no error of one that says that the instance, or another one with the
// same address, is there already.
func known(err error) error {
	if taken, ok := errors.AsType[*app.TakenError](err); ok && taken.What != "host" {
		return nil
	} else if ok {
		return err
	}
	return ignore(err, app.ErrConflict)
}

// lastOne reports whether an instance that is not healthy was the last one of a vhost,
// and stood in its list all the same: nobody else has come to stand there by now.
func (s *Store) lastOne(ctx context.Context, i app.Instance) (bool, error) {
	if i.Routable() || !i.MayStay() || len(i.Hosts) == 0 {
		return false, nil
	}
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, h := range i.Hosts {
			p.Exists(ctx, s.keys.proxy.Frontend(h))
		}
		return nil
	})
	if err != nil {
		return false, wrap("look for lists", err)
	}
	return slices.ContainsFunc(cmds, func(c redis.Cmder) bool { return c.(*redis.IntCmd).Val() == 0 }), nil
}

// parseExported reads a line of an export. It has to be what a registration could have
// made: nothing else may come into the registry. A field that this version does not know is an
// error, so that the import of a newer version's export loses nothing.
func parseExported(line []byte) (app.Instance, error) {
	var e exported[record]
	d := json.NewDecoder(bytes.NewReader(line))
	d.DisallowUnknownFields()
	if err := d.Decode(&e); err != nil {
		return app.Instance{}, err
	}
	if d.More() {
		return app.Instance{}, errors.New("more than one object")
	}
	i := e.Instance.instance(e.ID)
	i.Rev, i.Claims = 0, app.Claims{} // the claims of then have nothing to do with this registry
	switch i.State {
	case app.Starting, app.Healthy, app.Unhealthy, app.Failed:
	default:
		return app.Instance{}, fmt.Errorf("state %q: %w", i.State, app.ErrInvalid)
	}
	made, _, err := registrationOf(i).Instance()
	if err != nil {
		return app.Instance{}, err
	}
	if made.ID != i.ID || made.Address != i.Address || made.Check != i.Check || !slices.Equal(made.Hosts, i.Hosts) {
		return app.Instance{}, fmt.Errorf("%s is not what a registration makes: %w", i.ID, app.ErrInvalid)
	}
	return i, nil
}

// registrationOf says what has been registered as an instance.
func registrationOf(i app.Instance) app.Registration {
	c := i.Check
	r := app.Registration{
		Service: i.Service, ID: i.ID, Boot: i.Boot, Replaces: i.Replaces, Address: i.Address, Hosts: i.Hosts,
		Health: string(c.Kind), Weight: &i.Weight, FailOpen: &i.FailOpen, Tags: i.Tags, Meta: i.Meta,
		Interval: &c.Interval, Timeout: &c.Timeout, Grace: &c.Grace, Forget: &c.Forget, Rise: &c.Rise, Fall: &c.Fall,
	}
	if c.Port > 0 {
		r.Health += ":" + strconv.Itoa(c.Port)
	}
	if c.Kind == app.HTTP {
		r.Health = strings.TrimPrefix(r.Health, string(app.HTTP)) + c.Path
		r.Expect = []string{string(c.Statuses)}
		if c.Body != "" {
			r.Expect = append(r.Expect, c.Body)
		}
	}
	return r
}
