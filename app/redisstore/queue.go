package redisstore

import (
	"context"
	_ "embed"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
)

var (
	//go:embed lua/claim.lua
	claimSource string
	//go:embed lua/keep.lua
	keepSource string
	//go:embed lua/settle.lua
	settleSource string

	claimScript  = redis.NewScript(claimSource)
	keepScript   = redis.NewScript(keepSource)
	settleScript = withVhosts(settleSource)
)

// Queue is one of the store's queues of due work.
type Queue struct {
	store    *Store
	name     string
	standing bool // its times are on the clock that stands still during outages
}

var _ app.Queue = Queue{}

// Probes is the queue of probes that are due.
func (s *Store) Probes() Queue { return Queue{store: s, name: dueQueue} }

// Deadlines is the queue of states that end by themselves.
func (s *Store) Deadlines() Queue { return Queue{store: s, name: deadlineQueue, standing: true} }

// Overrides is the queue of overrides that expire.
func (s *Store) Overrides() Queue { return Queue{store: s, name: overrideQueue} }

// clock is how scripts are told which of the two clocks the queue's times are on.
func (q Queue) clock() string {
	if q.standing {
		return "1"
	}
	return "0"
}

// Claim takes up to limit entries that fall due until horizon; see app.Queue.
func (q Queue) Claim(ctx context.Context, horizon time.Time, limit int) ([]app.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, q.store.timeout)
	defer cancel()
	k := q.store.keys
	from := []string{k.queue(q.name), k.queue(dueQueue), k.queue(deadlineQueue), k.clock()}
	reply, err := claimScript.Run(ctx, q.store.rdb, from, k.prefix, q.store.Now().UnixMilli(), horizon.UnixMilli(),
		app.ClaimLease.Milliseconds(), limit, q.clock()).StringSlice()
	if err != nil {
		return nil, wrap("claim from "+q.name, err)
	}
	ms, _ := strconv.ParseInt(reply[0], 10, 64) // the script wrote it
	away, token := milliseconds(ms), reply[1]
	n := (len(reply) - 2) / 5
	column := func(c int) []string { return reply[2+c*n : 2+(c+1)*n] }
	ids, times, docs, due, deadlines := column(0), column(1), column(2), column(3), column(4)
	claims := make([]app.Claim, 0, n)
	for n, id := range ids {
		i, err := q.store.recent.decode(id, docs[n], q.store.now())
		if err != nil { // the worker puts back what it does not understand
			q.store.log.ErrorContext(ctx, "an instance cannot be read and is not checked", "instance", id, "err", err)
		}
		c := app.Claim{Queue: q.name, Instance: i, Due: score(times[n]), Token: token}
		if q.standing {
			c.Due = c.Due.Add(away)
		}
		if due[n] != "" {
			c.Instance.Due = score(due[n])
		}
		if deadlines[n] != "" {
			c.Instance.Deadline = score(deadlines[n]).Add(away)
		}
		claims = append(claims, c)
	}
	q.store.stats.Claims.Add(int64(len(claims)))
	return claims, nil
}

// Renew makes claims last another lease; see app.Queue.
func (q Queue) Renew(ctx context.Context, claims []app.Claim) ([]app.Claim, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, q.store.timeout)
	defer cancel()
	args := []any{q.store.Now().UnixMilli(), app.ClaimLease.Milliseconds(), q.clock()}
	for _, c := range claims {
		args = append(args, c.Instance.ID, c.Token)
	}
	k := q.store.keys
	reply, err := keepScript.Run(ctx, q.store.rdb, []string{k.queue(q.name), k.clock()}, args...).StringSlice()
	if err != nil {
		return nil, wrap("renew claims of "+q.name, err)
	}
	kept := make([]app.Claim, 0, len(claims))
	for n, c := range claims {
		if reply[n+1] == "1" {
			c.Token = reply[0]
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// Any returns some instances that have an entry; see app.Queue.
func (q Queue) Any(ctx context.Context, n int) ([]app.Instance, error) {
	ctx, cancel := context.WithTimeout(ctx, q.store.timeout)
	defer cancel()
	name := q.store.keys.queue(q.name)
	now := strconv.FormatInt(q.store.Now().UnixMilli(), 10)
	var last, others *redis.StringSliceCmd
	_, err := q.store.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		last = p.ZRangeArgs(ctx, redis.ZRangeArgs{Key: name, Start: now, Stop: "-inf", ByScore: true, Rev: true, Count: int64(n / 2)})
		others = p.ZRandMember(ctx, name, n)
		return nil
	})
	if err != nil {
		return nil, wrap("look into "+q.name, err)
	}
	ids := last.Val()
	for _, id := range others.Val() {
		if len(ids) < n && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 {
		return nil, nil
	}
	docs, err := q.store.documents(ctx, ids)
	if err != nil {
		return nil, err
	}
	var some []app.Instance
	for n, doc := range docs {
		if text, ok := doc.(string); ok {
			if i, err := decode(ids[n], text); err == nil && i.Understood() { // others say so
				some = append(some, i)
			}
		}
	}
	return some, nil
}

// Settle ends claims on instances that did not change; see app.Queue.
func (q Queue) Settle(ctx context.Context, settled []app.Settlement) error {
	if len(settled) == 0 {
		return nil
	}
	args := make([]any, 0, 3+6*len(settled))
	args = append(args, q.store.settings(), q.name, q.clock())
	for _, s := range settled {
		i, result, hosts := s.Claim.Instance, "", ""
		if s.Result != nil {
			result = encodeResult(*s.Result)
			if s.Result.Passed && i.Routable() {
				hosts = strings.Join(i.Hosts, " ")
			}
		}
		args = append(args, i.ID, s.Claim.Token, s.Due.UnixMilli(), result, i.URL(), hosts)
	}
	ctx, cancel := context.WithTimeout(ctx, q.store.timeout)
	defer cancel()
	if err := settleScript.Run(ctx, q.store.rdb, nil, args...).Err(); err != nil {
		return wrap("settle "+q.name, err)
	}
	return nil
}
