package redisstore

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

// Reconcile compares the instances and vhosts of the caller with all data that is derived from them, and repairs the
// differences. Differences arise only if keys were edited by hand or Redis lost part of its data. Reconcile may run at
// any time, beside any other call.
func (s *Store) Reconcile(ctx context.Context, owns app.Owner) (app.Repairs, error) {
	var done app.Repairs
	vhosts, err := s.vhosts(ctx)
	if err != nil {
		return done, err
	}
	for instances, err := range s.chunks(ctx) {
		if err != nil {
			return done, err
		}
		broken, err := s.incomplete(ctx, instancesOf(instances, owns), vhosts)
		if err != nil {
			return done, err
		}
		for _, i := range broken {
			mended, err := s.mend(ctx, i.ID, owns)
			if err != nil {
				return done, err
			}
			if mended {
				done.Instances = append(done.Instances, i.ID)
			}
		}
		crossOut(vhosts, instances)
	}
	if done.Orphans, err = s.dropOrphans(ctx, vhosts, owns); err != nil {
		return done, err
	}
	projected, err := s.project(ctx, owned(slices.Sorted(maps.Keys(vhosts)), owns))
	done.Lists, done.WrongType = projected.mended, projected.repaired
	return done, err
}

// instancesOf returns the instances that the caller owns.
func instancesOf(instances []app.Instance, owns app.Owner) []app.Instance {
	return slices.DeleteFunc(slices.Clone(instances), func(i app.Instance) bool { _, is := owns(i.ID); return !is })
}

// vhosts reads the members of every vhost, by vhost and url.
func (s *Store) vhosts(ctx context.Context) (map[string]map[string]string, error) {
	short, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	hosts, err := s.rdb.HKeys(short, s.keys.vhosts()).Result()
	if err != nil {
		return nil, wrap("list vhosts", err)
	}
	members := map[string]map[string]string{}
	for chunk := range slices.Chunk(hosts, batch) {
		some, err := s.members(ctx, chunk)
		if err != nil {
			return nil, err
		}
		maps.Copy(members, some)
	}
	return members, nil
}

// members reads the members of vhosts. It omits vhosts that are not in the index of vhosts.
func (s *Store) members(ctx context.Context, hosts []string) (map[string]map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for _, h := range hosts {
			p.HGetAll(ctx, s.keys.vhost(h))
			p.HExists(ctx, s.keys.vhosts(), h)
		}
		return nil
	})
	if err != nil {
		return nil, wrap("list backends", err)
	}
	members := map[string]map[string]string{}
	for n, h := range hosts {
		if cmds[2*n+1].(*redis.BoolCmd).Val() {
			members[h] = cmds[2*n].(*redis.MapStringStringCmd).Val()
		}
	}
	return members, nil
}

// incomplete returns the instances that are missing from a vhost or the index of addresses, or have a wrong entry there.
func (s *Store) incomplete(ctx context.Context, instances []app.Instance, vhosts map[string]map[string]string) ([]app.Instance, error) {
	if len(instances) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	addresses := make([]string, len(instances))
	for n, i := range instances {
		addresses[n] = i.Address
	}
	holders, err := s.rdb.HMGet(ctx, s.keys.addresses(), addresses...).Result()
	if err != nil {
		return nil, wrap("read addresses", err)
	}
	var broken []app.Instance
	for n, i := range instances {
		if !i.Understood() {
			continue // its newer version may register it elsewhere
		}
		held, _ := holders[n].(string)
		if !listed(i, vhosts) || !slices.Contains(strings.Fields(held), i.ID) {
			broken = append(broken, i)
		}
	}
	return broken, nil
}

// listed reports whether every vhost of an instance holds the right member for it.
func listed(i app.Instance, vhosts map[string]map[string]string) bool {
	for _, want := range hostsOf(app.Instance{}, i) {
		if want.Was != nil {
			continue // another instance may have its former address by now
		}
		m, ok := parseMember(vhosts[want.Host][want.URL])
		if !ok || m.wanted != want.N || m.stay != want.Keep || m.id != want.ID {
			return false
		}
	}
	return true
}

// mend writes an unchanged instance once more, which also writes all data derived from it. It first reads the instance
// again, because a concurrent change can look like a defect.
func (s *Store) mend(ctx context.Context, id string, owns app.Owner) (bool, error) {
	fence, is := owns(id)
	if !is {
		return false, nil
	}
	i, err := s.Get(ctx, id)
	if err != nil {
		return false, ignore(err, app.ErrNotFound)
	}
	vhosts, err := s.members(ctx, i.Hosts)
	if err != nil {
		return false, err
	}
	if broken, err := s.incomplete(ctx, []app.Instance{i}, vhosts); len(broken) == 0 {
		return false, err
	}
	_, err = s.Commit(ctx, app.Change{Steps: []app.Step{{Was: i, Is: i}}, Fence: fence})
	return err == nil, ignore(ignore(err, app.ErrConflict), app.ErrNotOwner)
}

// crossOut removes the members of registered instances from vhosts.
func crossOut(vhosts map[string]map[string]string, instances []app.Instance) {
	for _, i := range instances {
		for _, h := range i.Hosts {
			for _, url := range urlsOf(i) {
				if m, _ := parseMember(vhosts[h][url]); m.id == i.ID {
					delete(vhosts[h], url)
				}
			}
		}
	}
}

// urlsOf returns the URL of an instance, and its former URL while it is on the move.
func urlsOf(i app.Instance) []string {
	if from := i.Claims.Moved; from != "" {
		return []string{i.URL(), "http://" + from}
	}
	return []string{i.URL()}
}

// dropOrphans removes the members of vhosts whose instance is not registered or has another address. It keeps members
// without an instance: they are leaving.
func (s *Store) dropOrphans(ctx context.Context, vhosts map[string]map[string]string, owns app.Owner) ([]string, error) {
	var dropped []string
	for host, members := range vhosts {
		fence, is := owns(host)
		if !is {
			continue
		}
		for url, v := range members {
			m, ok := parseMember(v)
			if ok && m.id == "" {
				continue
			}
			orphan, err := s.dropOrphan(ctx, host, url, m.id, fence)
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

// dropOrphan removes a member from a vhost if it still belongs to the instance id, and the instance is still not
// registered there.
func (s *Store) dropOrphan(ctx context.Context, host, url, id string, fence app.Fence) (bool, error) {
	step := stepArg{ID: id} // not registered: the script verifies it
	switch i, err := s.Get(ctx, id); {
	case err == nil && slices.Contains(urlsOf(i), url) && (slices.Contains(i.Hosts, host) || !i.Understood()):
		return false, nil
	case err == nil:
		is := i
		is.Rev = app.NextRevision(i.Rev)
		if step, err = stepOf(app.Step{Was: i, Is: is}); err != nil {
			return false, err
		}
	case errors.Is(err, errUnreadable):
		return false, nil // All logs it; the member stays unchanged
	case !errors.Is(err, app.ErrNotFound):
		return false, err
	}
	// Read the vhost after the instance: a commit that moves the instance also removes its member.
	vhosts, err := s.members(ctx, []string{host})
	if err != nil {
		return false, err
	}
	if v, there := vhosts[host][url]; !there {
		return false, nil
	} else if m, _ := parseMember(v); m.id != id {
		return false, nil
	}
	step.Hosts = []hostArg{{Host: host, URL: url, Was: &id}}
	_, err = s.commit(ctx, changeArg{Steps: []stepArg{step}, Keep: keepEvents, Shard: fence.Shard, Term: fence.Term})
	return err == nil, ignore(ignore(err, app.ErrConflict), app.ErrNotOwner)
}

// ignore returns nil if err is of the given kind, and err otherwise.
func ignore(err, kind error) error {
	if errors.Is(err, kind) {
		return nil
	}
	return err
}
