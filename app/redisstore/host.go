package redisstore

import (
	"context"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/hipache"
)

// Host reads the keys that the proxy reads for a Host header.
func (s *Store) Host(ctx context.Context, header string) (diagnose.Host, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	h := diagnose.Host{Header: header, Requested: hipache.RequestedHost(header)}
	switch {
	case header == "__ping__":
		h.Answer = diagnose.FromProxy
		return h, nil
	case h.Requested == "":
		h.Answer = diagnose.NoHost
		return h, nil
	case !hipache.Findable(h.Requested):
		h.Answer = diagnose.NotFindable
		return h, nil
	}
	if err := s.lookUp(ctx, &h); err != nil {
		return h, err
	}
	found, err := hipache.NewReader(s.rdb, s.keys.proxy).Lookup(ctx, h.Requested)
	switch {
	case errors.Is(err, hipache.ErrNoFrontend):
		h.Answer = diagnose.NoList
		return h, nil
	case errors.Is(err, hipache.ErrWrongType):
		h.Answer = diagnose.KeyIsNotList
		return h, nil
	case err != nil:
		return h, wrap("look up "+h.Requested, err)
	}
	for n := range h.Names {
		h.Names[n].Wins = h.Names[n].Host == found.Host
	}
	h.Frontend, err = s.registered(ctx, found)
	return h, err
}

// lookUp lists the keys that the proxy reads, with their types and lengths.
func (s *Store) lookUp(ctx context.Context, h *diagnose.Host) error {
	names := hipache.Lookup(h.Requested)
	types, lengths := make([]*redis.StatusCmd, len(names)), make([]*redis.IntCmd, len(names))
	cmds, _ := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, name := range names {
			types[n], lengths[n] = p.Type(ctx, s.keys.proxy.Frontend(name)), p.LLen(ctx, s.keys.proxy.Frontend(name))
		}
		return nil
	})
	for _, cmd := range cmds {
		if err := cmd.Err(); err != nil && !wrongType(err) {
			return wrap("look up "+h.Requested, err)
		}
	}
	for n, name := range names {
		h.Names = append(h.Names, diagnose.Name{
			Host: name, Key: s.keys.proxy.Frontend(name), Type: types[n].Val(), Slots: max(int(lengths[n].Val())-1, 0),
		})
	}
	return nil
}

// registered adds the registry's data to a frontend that the proxy would read.
func (s *Store) registered(ctx context.Context, found hipache.Frontend) (app.Frontend, error) {
	service, err := s.rdb.HGet(ctx, s.keys.vhosts(), found.Host).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return app.Frontend{}, wrap("read the service of "+found.Host, err)
	}
	members, err := s.rdb.HGetAll(ctx, s.keys.vhost(found.Host)).Result()
	if err != nil {
		return app.Frontend{}, wrap("list backends of "+found.Host, err)
	}
	list, marks := []string{found.Identifier}, []string(nil)
	for _, b := range found.Backends {
		list = append(list, b.URL)
		if b.Dead {
			marks = append(marks, fmt.Sprint(b.Position))
		}
	}
	return frontendOf(found.Host, service, list, marks, members), nil
}
