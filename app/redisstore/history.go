package redisstore

import (
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/history"
)

var (
	//go:embed lua/contribute.lua
	contributeSource string
	//go:embed lua/compact.lua
	compactSource string

	contributeScript = redis.NewScript(contributeSource)
	compactScript    = redis.NewScript(compactSource)
)

const (
	keepHistory   = 31 * 24 * time.Hour // of a service that has no instances any more
	compactAtOnce = 1000                // contributions
)

// History keeps the statistics of services and vhosts.
type History struct {
	store *Store
	scale history.Scale
}

// History returns the histories of the store, which have buckets of a scale.
func (s *Store) History(scale history.Scale) *History { return &History{s, scale} }

// Contribute adds a batch, unless it was added before. It returns the shards that were refused because another worker
// owns them; then it adds no part of the batch.
func (h *History) Contribute(ctx context.Context, b history.Batch) (refused []int, err error) {
	s := h.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	names := []string{s.keys.shards(), s.keys.workers(), s.keys.batches()}
	args := []any{b.Worker, b.Number, int(keepHistory.Seconds()), len(b.Terms)}
	for shard, term := range b.Terms {
		args = append(args, shard, term)
	}
	for series, c := range b.Series {
		names, args = append(names, s.keys.contributions(series)), append(args, c.Append(nil))
	}
	reply, err := contributeScript.Run(ctx, s.rdb, names, args...).StringSlice()
	if err != nil {
		return nil, wrap("add to histories", err)
	}
	for _, r := range reply {
		shard, _ := strconv.Atoi(r) // as it was sent
		refused = append(refused, shard)
	}
	return refused, nil
}

// Compact moves the contributions to a series into its buckets. The fence is of the owner of the service or vhost. It
// returns app.ErrNotOwner if that is another worker, and app.ErrConflict if the series has changed meanwhile.
func (h *History) Compact(ctx context.Context, f app.Fence, series string) error {
	s := h.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var list *redis.StringSliceCmd
	var fields *redis.SliceCmd
	if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		list = p.LRange(ctx, s.keys.contributions(series), 0, compactAtOnce-1)
		fields = p.HMGet(ctx, s.keys.history(series), "v", "m")
		return nil
	}); err != nil {
		return wrap("read the history of "+series, err)
	}
	if len(list.Val()) == 0 {
		return nil
	}
	contributions := h.decode(ctx, series, list.Val())
	version, _ := fields.Val()[0].(string)
	fine, _ := fields.Val()[1].(string)
	is := history.NewSeries(h.scale)
	h.read(ctx, series, is.ReadFine, fine)
	if err := h.readGroups(ctx, series, is, contributions); err != nil {
		return err
	}
	for _, c := range contributions {
		is.Add(c)
	}
	args := []any{f.Shard, f.Term, version, len(list.Val()), h.scale.Groups(), int(keepHistory.Seconds()), "v", rand.Text()[:8], "m", is.EncodeFine()}
	for n, group := range is.EncodeGroups() {
		args = append(args, groupField(n), group)
	}
	k := s.keys
	result, err := compactScript.Run(ctx, s.rdb, []string{k.shards(), k.history(series), k.contributions(series)}, args...).Text()
	switch {
	case err != nil:
		return wrap("write the history of "+series, err)
	case result == "lost":
		return fmt.Errorf("history of %s: %w", series, app.ErrNotOwner)
	case result == "stale":
		return fmt.Errorf("history of %s: %w", series, app.ErrConflict)
	}
	return nil
}

func groupField(n int64) string { return "d" + strconv.FormatInt(n, 10) }

// readGroups reads the groups that contributions belong to.
func (h *History) readGroups(ctx context.Context, series string, is *history.Series, contributions []history.Contribution) error {
	var names []string
	for _, c := range contributions {
		if name := groupField(h.scale.Group(c.At)); !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	groups, err := h.store.rdb.HMGet(ctx, h.store.keys.history(series), names...).Result()
	if err != nil {
		return wrap("read the history of "+series, err)
	}
	for _, v := range groups {
		group, _ := v.(string)
		h.read(ctx, series, is.ReadGroup, group)
	}
	return nil
}

// read reads a part of a series. It leaves out a part that it cannot read.
func (h *History) read(ctx context.Context, series string, read func([]byte) error, part string) {
	if err := read([]byte(part)); err != nil {
		h.store.log.WarnContext(ctx, "a part of a history cannot be read and is left out", "series", series, "err", err)
	}
}

func (h *History) decode(ctx context.Context, series string, list []string) []history.Contribution {
	contributions := make([]history.Contribution, 0, len(list))
	for _, text := range list {
		c, err := history.ReadContribution([]byte(text))
		if err != nil {
			h.store.log.WarnContext(ctx, "a contribution to a history cannot be read and is left out", "series", series, "err", err)
			continue
		}
		contributions = append(contributions, c)
	}
	return contributions
}

// Series reads several series.
func (h *History) Series(ctx context.Context, names ...string) ([]*history.Series, error) {
	s := h.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	lists, hashes := make([]*redis.StringSliceCmd, len(names)), make([]*redis.MapStringStringCmd, len(names))
	if _, err := s.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error { // no compaction in between
		for n, name := range names {
			lists[n], hashes[n] = p.LRange(ctx, s.keys.contributions(name), 0, -1), p.HGetAll(ctx, s.keys.history(name))
		}
		return nil
	}); err != nil {
		return nil, wrap("read histories", err)
	}
	all := make([]*history.Series, len(names))
	for n, name := range names {
		all[n] = history.NewSeries(h.scale)
		for field, part := range hashes[n].Val() {
			switch {
			case field == "m":
				h.read(ctx, name, all[n].ReadFine, part)
			case strings.HasPrefix(field, "d"):
				h.read(ctx, name, all[n].ReadGroup, part)
			}
		}
		for _, c := range h.decode(ctx, name, lists[n].Val()) {
			all[n].Add(c)
		}
	}
	return all, nil
}

// departedWithin is how long an instance that has left is listed.
const departedWithin = 24 * time.Hour

// Departed lists the last instances of a service that left, newest first.
func (h *History) Departed(ctx context.Context, service string) ([]history.Departure, error) {
	s := h.store
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	list, err := s.rdb.LRange(ctx, s.keys.departed(service), 0, -1).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return nil, wrap("read the departures of "+service, err)
	}
	departures := []history.Departure{}
	for _, doc := range list {
		var is struct {
			Instance, From, Reason, Actor string
			At                            int64
		}
		if err := json.Unmarshal([]byte(doc), &is); err != nil {
			s.log.WarnContext(ctx, "a departure cannot be read and is left out", "service", service, "err", err)
			continue
		}
		d := history.Departure{Instance: is.Instance, At: time.UnixMilli(is.At).UTC(), From: is.From, Reason: strings.ToValidUTF8(is.Reason, ""), Actor: is.Actor}
		if s.Now().Sub(d.At) < departedWithin {
			departures = append(departures, d)
		}
	}
	return departures, nil
}
