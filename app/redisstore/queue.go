package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"fmt"
	"strconv"
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
	other    string
	standing bool // its times are on the clock that stands still during outages
}

var _ app.Queue = Queue{}

// Probes is the queue of probes that are due.
func (s *Store) Probes() Queue { return Queue{store: s, name: dueQueue, other: deadlineQueue} }

// Deadlines is the queue of states that end by themselves.
func (s *Store) Deadlines() Queue {
	return Queue{store: s, name: deadlineQueue, other: dueQueue, standing: true}
}

// Claim takes up to limit entries that fall due until horizon; see app.Queue.
func (q Queue) Claim(ctx context.Context, horizon time.Time, limit int) ([]app.Claim, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	k := q.store.keys
	standing := "0"
	if q.standing {
		standing = "1"
	}
	reply, err := claimScript.Run(ctx, q.store.rdb, []string{k.queue(q.name), k.queue(q.other), k.clock()}, k.prefix,
		q.store.Now().UnixMilli(), horizon.UnixMilli(), app.ClaimLease.Milliseconds(), limit, standing).StringSlice()
	if err != nil {
		return nil, wrap("claim from "+q.name, err)
	}
	ms, _ := strconv.ParseInt(reply[0], 10, 64) // the script wrote it
	away := milliseconds(ms)
	claims := make([]app.Claim, 0, len(reply)/5)
	for r := reply[1:]; len(r) >= 5; r = r[5:] {
		i, err := decode(r[0], r[3])
		if err != nil {
			return claims, err
		}
		c := app.Claim{Queue: q.name, Instance: i, Due: score(r[1]), Token: r[2]}
		if q.standing {
			c.Due = c.Due.Add(away)
			c.Instance.Deadline = c.Due
			if r[4] != "" {
				c.Instance.Due = score(r[4])
			}
		} else {
			c.Instance.Due = c.Due
			if r[4] != "" {
				c.Instance.Deadline = score(r[4]).Add(away)
			}
		}
		claims = append(claims, c)
	}
	return claims, nil
}

// Renew makes claims last another lease; see app.Queue.
func (q Queue) Renew(ctx context.Context, claims []app.Claim) ([]app.Claim, error) {
	if len(claims) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	token := strconv.FormatInt(q.store.Now().Add(app.ClaimLease).UnixMilli(), 10)
	args := []any{token}
	for _, c := range claims {
		args = append(args, c.Instance.ID, c.Token)
	}
	held, err := keepScript.Run(ctx, q.store.rdb, []string{q.store.keys.queue(q.name)}, args...).Int64Slice()
	if err != nil {
		return nil, wrap("renew claims of "+q.name, err)
	}
	kept := make([]app.Claim, 0, len(claims))
	for n, c := range claims {
		if held[n] == 1 {
			c.Token = token
			kept = append(kept, c)
		}
	}
	return kept, nil
}

// settlementArg is a settlement as settle.lua reads it.
type settlementArg struct {
	ID     string   `json:"id"`
	Token  string   `json:"token"`
	Due    int64    `json:"due"`
	Result string   `json:"result,omitempty"`
	URL    string   `json:"url,omitempty"`
	Hosts  []string `json:"hosts,omitempty"`
}

// Settle ends claims on instances that did not change; see app.Queue.
func (q Queue) Settle(ctx context.Context, settled []app.Settlement) error {
	if len(settled) == 0 {
		return nil
	}
	args := make([]settlementArg, len(settled))
	for n, s := range settled {
		i := s.Claim.Instance
		args[n] = settlementArg{ID: i.ID, Token: s.Claim.Token, Due: s.Due.UnixMilli()}
		if s.Result != nil {
			args[n].Result = encodeResult(*s.Result)
			if s.Result.Passed && i.Routable() {
				args[n].URL, args[n].Hosts = i.URL(), i.Hosts
			}
		}
	}
	doc, err := json.Marshal(args)
	if err != nil {
		return fmt.Errorf("encode settlements: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if err := settleScript.Run(ctx, q.store.rdb, nil, q.store.settings(), q.name, doc).Err(); err != nil {
		return wrap("settle "+q.name, err)
	}
	return nil
}
