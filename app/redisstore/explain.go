package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/hipache"
)

// Explain says what the proxy makes of a Host header, from the keys as they are now.
func (s *Store) Explain(ctx context.Context, header string) (app.Explanation, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	e := app.Explanation{Header: header, Requested: hipache.RequestedHost(header)}
	switch {
	case header == "__ping__":
		e.Status, e.Verdict = 200, "the proxy answers this name by itself"
		return e, nil
	case e.Requested == "":
		e.Status, e.Verdict = 400, "a request without a Host cannot be routed"
		return e, nil
	case !hipache.Findable(e.Requested):
		e.Status, e.Verdict = 400, "it is too long, or has a semicolon: no list can be found for it"
		return e, nil
	}
	if err := s.lookUp(ctx, &e); err != nil {
		return e, err
	}
	found, err := hipache.NewReader(s.rdb, s.keys.proxy).Lookup(ctx, e.Requested)
	switch {
	case errors.Is(err, hipache.ErrNoFrontend):
		e.Status, e.Verdict = 400, "no list answers for it: nothing that is registered for it has been healthy yet, or it is misspelt"
		return e, nil
	case errors.Is(err, hipache.ErrWrongType):
		e.Status, e.Verdict = 502, "its key is not a list: the reconcile job replaces it if anybody is registered for it"
		return e, nil
	case err != nil:
		return e, wrap("look up "+e.Requested, err)
	}
	for n := range e.Names {
		e.Names[n].Wins = e.Names[n].Host == found.Host
	}
	if err := s.join(ctx, &e, found); err != nil {
		return e, err
	}
	e.Status, e.Verdict = verdict(found)
	return e, nil
}

// lookUp lists the keys that the proxy looks at, with what they hold.
func (s *Store) lookUp(ctx context.Context, e *app.Explanation) error {
	names := hipache.Lookup(e.Requested)
	types, lengths := make([]*redis.StatusCmd, len(names)), make([]*redis.IntCmd, len(names))
	cmds, _ := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, name := range names {
			types[n], lengths[n] = p.Type(ctx, s.keys.proxy.Frontend(name)), p.LLen(ctx, s.keys.proxy.Frontend(name))
		}
		return nil
	})
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !wrongType(err) {
			return wrap("look up "+e.Requested, err)
		}
	}
	for n, name := range names {
		e.Names = append(e.Names, app.LookedUp{
			Host: name, Key: s.keys.proxy.Frontend(name), Type: types[n].Val(), Slots: max(int(lengths[n].Val())-1, 0),
		})
	}
	return nil
}

// join puts what the registry knows beside what the proxy has found.
func (s *Store) join(ctx context.Context, e *app.Explanation, found hipache.Frontend) error {
	service, err := s.rdb.HGet(ctx, s.keys.vhosts(), found.Host).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return wrap("read the service of "+found.Host, err)
	}
	members, err := s.rdb.HGetAll(ctx, s.keys.vhost(found.Host)).Result()
	if err != nil {
		return wrap("list backends of "+found.Host, err)
	}
	list, marks := []string{found.Identifier}, []string(nil)
	for _, b := range found.Backends {
		list = append(list, b.URL)
		if b.Dead {
			marks = append(marks, fmt.Sprint(b.Slot))
		}
	}
	e.Frontend = frontendOf(found.Host, service, list, marks, members)
	return nil
}

// verdict is what the proxy does with a frontend.
func verdict(f hipache.Frontend) (status int, words string) {
	var routable, dead, unusable int
	for _, b := range f.Backends {
		_, usable := hipache.Target(b.URL)
		switch {
		case b.Dead:
			dead++
		case !usable:
			unusable++
		default:
			routable++
		}
	}
	switch {
	case len(f.Backends) == 0:
		return 502, "its list has no backend; the identifier alone keeps wildcards from answering for it"
	case routable == 0:
		return 502, fmt.Sprintf("none of its %d slots gets requests: %d marked, %d not a usable URL", len(f.Backends), dead, unusable)
	case dead+unusable > 0:
		return 0, fmt.Sprintf("%d of its %d slots get requests: %d marked, %d not a usable URL", routable, len(f.Backends), dead, unusable)
	}
	return 0, fmt.Sprintf("all of its %d slots get requests", routable)
}
