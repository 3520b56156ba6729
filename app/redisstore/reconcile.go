package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// Reconcile compares the registry with everything that is derived from it and mends
// what differs, which should be nothing: somebody edited keys by hand, or Redis came
// back with part of them. It may run at any time, beside anything.
func (s *Store) Reconcile(ctx context.Context) (app.Repairs, error) {
	var done app.Repairs
	instances, err := s.All(ctx)
	if err != nil {
		return done, err
	}
	vhosts, err := s.members(ctx)
	if err != nil {
		return done, err
	}
	for chunk := range slices.Chunk(instances, batch) {
		broken, err := s.incomplete(ctx, chunk, vhosts)
		if err != nil {
			return done, err
		}
		for _, i := range broken {
			mended, err := s.mend(ctx, i.ID)
			if err != nil {
				return done, err
			}
			if mended {
				done.Instances = append(done.Instances, i.ID)
			}
		}
	}
	if done.Orphans, err = s.dropOrphans(ctx, instances, vhosts); err != nil {
		return done, err
	}
	for chunk := range slices.Chunk(slices.Sorted(maps.Keys(vhosts)), projected) {
		n, repaired, err := s.project(ctx, chunk)
		done.Lists += n
		done.WrongType = append(done.WrongType, repaired...)
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// members reads the members of every vhost, by vhost and url.
func (s *Store) members(ctx context.Context) (map[string]map[string]string, error) {
	hosts, err := s.rdb.HKeys(ctx, s.keys.vhosts()).Result()
	if err != nil {
		return nil, wrap("list vhosts", err)
	}
	members := map[string]map[string]string{}
	for _, h := range hosts {
		m, err := s.rdb.HGetAll(ctx, s.keys.vhost(h)).Result()
		if err != nil {
			return nil, wrap("list backends of "+h, err)
		}
		members[h] = m
	}
	return members, nil
}

// incomplete picks the instances that are missing from a queue or a vhost, or stand
// there as something else.
func (s *Store) incomplete(ctx context.Context, instances []app.Instance, vhosts map[string]map[string]string) ([]app.Instance, error) {
	due := make([]*redis.FloatCmd, len(instances))
	deadlines := make([]*redis.FloatCmd, len(instances))
	_, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, i := range instances {
			due[n] = p.ZScore(ctx, s.keys.queue(dueQueue), i.ID)
			deadlines[n] = p.ZScore(ctx, s.keys.queue(deadlineQueue), i.ID)
		}
		return nil
	})
	if err != nil && err != redis.Nil { //nolint:errorlint // go-redis returns it bare; the commands tell which
		return nil, wrap("read queues", err)
	}
	var broken []app.Instance
	for n, i := range instances {
		queued := due[n].Err() == nil == probed(i) && deadlines[n].Err() == nil == ends(i)
		if !queued || !listed(i, vhosts) {
			broken = append(broken, i)
		}
	}
	return broken, nil
}

// listed reports whether an instance stands in each of its vhosts as it should.
func listed(i app.Instance, vhosts map[string]map[string]string) bool {
	for _, want := range hostsOf(app.Instance{}, i) {
		m, ok := parseMember(vhosts[want.Host][want.URL])
		if !ok || m.n != want.N || m.keep != want.Keep || m.id != want.ID {
			return false
		}
	}
	return true
}

func probed(i app.Instance) bool { return i.Check.Probed() && i.State != app.Draining }

func ends(i app.Instance) bool { return i.State != app.Healthy || i.Check.Kind == app.Heartbeat }

// mend writes an instance once more as it is, with everything that belongs to it. It
// reads it again first: what looked broken may just have been in the middle of a
// change.
func (s *Store) mend(ctx context.Context, id string) (bool, error) {
	i, err := s.Get(ctx, id)
	if err != nil {
		return false, ignore(err, app.ErrNotFound)
	}
	vhosts := map[string]map[string]string{}
	for _, h := range i.Hosts {
		m, err := s.rdb.HGetAll(ctx, s.keys.vhost(h)).Result()
		if err != nil {
			return false, wrap("list backends of "+h, err)
		}
		vhosts[h] = m
	}
	is, now := i, s.Now()
	switch {
	case !probed(i):
		is.Due = time.Time{}
	case i.Due.IsZero():
		is.Due = now
	}
	switch {
	case !ends(i):
		is.Deadline = time.Time{}
	case i.Deadline.IsZero():
		is.Deadline = now.Add(max(i.Check.Grace, i.Check.Lease()))
	}
	if is.Due.Equal(i.Due) && is.Deadline.Equal(i.Deadline) && listed(i, vhosts) {
		return false, nil
	}
	_, err = s.Commit(ctx, app.Change{Steps: []app.Step{{Was: i, Is: is}}})
	return err == nil, ignore(err, app.ErrConflict)
}

// dropOrphans takes backends out of vhosts whose instance is not registered, or not
// there.
func (s *Store) dropOrphans(ctx context.Context, instances []app.Instance, vhosts map[string]map[string]string) ([]string, error) {
	byID := map[string]app.Instance{}
	for _, i := range instances {
		byID[i.ID] = i
	}
	var dropped []string
	for host, members := range vhosts {
		for url, v := range members {
			m, ok := parseMember(v)
			i, known := byID[m.id]
			if ok && m.id == "" || known && i.URL() == url && slices.Contains(i.Hosts, host) {
				continue
			}
			orphan, err := s.dropOrphan(ctx, m.id, host, url)
			if err != nil {
				return dropped, err
			}
			if orphan {
				dropped = append(dropped, m.id)
			}
		}
	}
	return dropped, nil
}

// dropOrphan takes a backend out of a vhost, if it still belongs to who it was read
// to belong to.
func (s *Store) dropOrphan(ctx context.Context, id, host, url string) (bool, error) {
	owner, err := s.rdb.HGet(ctx, s.keys.vhosts(), host).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return false, wrap("read the service of "+host, err)
	}
	step := stepArg{Service: owner, Hosts: []hostArg{{Host: host, URL: url, Was: &id}}}
	_, err = s.commit(ctx, changeArg{Steps: []stepArg{step}, Keep: keepEvents})
	return err == nil, err
}

// ignore turns an error of one kind into none.
func ignore(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}
	return err
}
