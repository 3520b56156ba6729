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

// exported is one line of an export: a stored instance. T is the type of the record when it is read or written.
type exported[T any] struct {
	ID       string `json:"id"`
	Instance T      `json:"instance"`
}

// Export writes every instance except draining ones as a line of JSON, and returns their number. An import of the lines
// in this order gives the frontends the same order, except that all backends of an instance then stand together. Without
// secrets the lines lack the headers of checks.
func (s *Store) Export(ctx context.Context, to io.Writer, secrets bool) (int, error) {
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
		i := byID[id]
		if !secrets {
			i.Check.Headers = ""
		}
		doc, err := encode(i, 0)
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

// ranked orders instances so that each comes after the instances that it stands behind in a frontend. Unlisted instances
// come last: if a frontend's only instance is an unhealthy last one, no other unhealthy one may join it.
func ranked(instances map[string]app.Instance, frontends []app.Frontend) []string {
	behind := map[string]map[string]bool{} // id -> ids of the instances directly before it
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
		next = max(next, 0) // lists edited by hand may contradict each other: then there is no such order
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

// Import adds the unregistered instances of an export with their exported state, and has them probed at once. It returns
// the number of added instances and the number of lines. An error names the line; instances of earlier lines have been
// added. write is Registry.Import.
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
			return added, read, nil //nolint:nilerr // io.EOF is the end
		}
	}
}

// An ImportFunc writes an instance. alone means that the instance was the last backend of a vhost that has no frontend
// now.
type ImportFunc func(ctx context.Context, i app.Instance, alone bool) error

// add adds the instance of one line, unless the instance or another one with its address is registered.
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

// known returns nil for an error which means that the instance, or another one with the same address, is registered.
func known(err error) error {
	if taken, ok := errors.AsType[*app.TakenError](err); ok && taken.What != "host" {
		return nil
	} else if ok {
		return err
	}
	return ignore(err, app.ErrConflict)
}

// lastOne reports whether an instance that is not healthy may become the last backend of a vhost again: one of its vhosts
// has no frontend.
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

// parseExported reads a line of an export. It accepts only an instance that a registration could have made. A field that
// this version does not know is an error, so that the import of a newer version's export loses no data.
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
	i.Rev, i.Claims = 0, app.Claims{} // claims do not carry over to another registry
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

// registrationOf returns a registration that makes the instance.
func registrationOf(i app.Instance) app.Registration {
	c := i.Check
	r := app.Registration{
		Service: i.Service, ID: i.ID, Boot: i.Boot, Replaces: i.Replaces, Address: i.Address, Hosts: i.Hosts,
		Weight: &i.Weight, FailOpen: &i.FailOpen, Tags: i.Tags, Meta: i.Meta,
		Interval: &c.Interval, Timeout: &c.Timeout, Grace: &c.Grace, Forget: &c.Forget, Rise: &c.Rise, Fall: &c.Fall,
	}
	r.Health = healthOf(c)
	if c.Kind == app.HTTP {
		r.Expect = []string{string(c.Statuses)}
		r.HealthHost, r.HealthMethod, r.HealthHeader = c.Host, c.Method, c.HeaderLines()
		if c.Body != "" {
			r.Expect = append(r.Expect, c.Body)
		}
	}
	if c.TLS {
		r.TLSSkipVerify, r.TLSServerName = &c.SkipVerify, c.ServerName
	}
	return r
}

// healthOf returns the health field that makes the check.
func healthOf(c app.Check) string {
	kind, port := string(c.Kind), ""
	if c.Port > 0 {
		port = ":" + strconv.Itoa(c.Port)
	}
	switch {
	case c.Kind == app.HTTP && c.TLS:
		return "https:" + strings.TrimPrefix(port, ":") + c.Path
	case c.Kind == app.HTTP:
		return port + c.Path
	case c.TLS:
		kind += "s"
	}
	if c.GRPCService != "" {
		return kind + ":" + strings.TrimPrefix(port, ":") + "/" + c.GRPCService
	}
	return kind + port
}
