package redisstore

import (
	"cmp"
	"context"
	"crypto/rand"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/webhook"
)

var (
	//go:embed lua/subscribe.lua
	subscribeSource string
	//go:embed lua/dispatch.lua
	dispatchSource string
	//go:embed lua/delivered.lua
	deliveredSource string
	//go:embed lua/pause.lua
	pauseSource string
	//go:embed lua/replay.lua
	replaySource string

	subscribeScript = redis.NewScript(subscribeSource)
	dispatchScript  = redis.NewScript(dispatchSource)
	deliveredScript = redis.NewScript(deliveredSource)
	pauseScript     = redis.NewScript(pauseSource)
	replayScript    = redis.NewScript(replaySource)
)

// leaveFor is how long a worker leaves a webhook that it does not understand to other workers.
const leaveFor = time.Second

// never is the due time of a webhook that waits for an event.
const never = "+inf"

// Webhooks implements webhook.Store and webhook.Outbox.
type Webhooks struct{ *Store }

var (
	_ webhook.Store  = Webhooks{}
	_ webhook.Outbox = Webhooks{}
)

// Webhooks returns the store of the webhooks.
func (s *Store) Webhooks() Webhooks { return Webhooks{s} }

// Add adds a webhook; see webhook.Store.
func (w Webhooks) Add(ctx context.Context, hook webhook.Webhook) error {
	doc, err := encodeWebhook(hook)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	added, err := subscribeScript.Run(ctx, w.rdb, []string{w.keys.webhooks(), w.keys.webhook(hook.ID), w.keys.events()},
		hook.ID, doc, webhook.MaxWebhooks, dueOf(hook)).Bool()
	if err != nil {
		return wrap("add webhook", err)
	}
	if !added {
		return &app.FieldError{
			Field: "url", Held: true, Problem: fmt.Sprintf("is one too many: there are %d webhooks", webhook.MaxWebhooks),
			Want: "delete unused webhooks",
		}
	}
	return nil
}

// dueOf returns the score of a webhook: its due time, or never.
func dueOf(w webhook.Webhook) string {
	if w.Due.IsZero() {
		return never
	}
	return strconv.FormatInt(w.Due.UnixMilli(), 10)
}

// Get returns a webhook; see webhook.Store.
func (w Webhooks) Get(ctx context.Context, id string) (webhook.Webhook, error) {
	found, err := w.read(ctx, id)
	if err != nil {
		return webhook.Webhook{}, err
	}
	if len(found) == 0 {
		return webhook.Webhook{}, noWebhook(id)
	}
	return found[0], nil
}

func noWebhook(id string) error { return fmt.Errorf("webhook %s: %w", id, app.ErrNotFound) }

// List returns all webhooks; see webhook.Store.
func (w Webhooks) List(ctx context.Context) ([]webhook.Webhook, error) {
	reading, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	ids, err := w.rdb.ZRange(reading, w.keys.webhooks(), 0, -1).Result()
	if err != nil {
		return nil, wrap("list webhooks", err)
	}
	hooks, err := w.read(ctx, ids...)
	slices.SortFunc(hooks, func(a, b webhook.Webhook) int {
		return cmp.Or(a.CreatedAt.Compare(b.CreatedAt), strings.Compare(a.ID, b.ID))
	})
	return hooks, err
}

// read returns the webhooks that exist.
func (w Webhooks) read(ctx context.Context, ids ...string) ([]webhook.Webhook, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	hashes, dues := make([]*redis.MapStringStringCmd, len(ids)), make([]*redis.FloatCmd, len(ids))
	cmds, err := w.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		for n, id := range ids {
			hashes[n], dues[n] = p.HGetAll(ctx, w.keys.webhook(id)), p.ZScore(ctx, w.keys.webhooks(), id)
		}
		return nil
	})
	if err := failed(cmds, err, noValue); err != nil {
		return nil, wrap("read webhooks", err)
	}
	var hooks []webhook.Webhook
	for n, id := range ids {
		if len(hashes[n].Val()) == 0 {
			continue
		}
		hook, err := decodeWebhook(id, hashes[n].Val())
		if err != nil {
			return nil, err
		}
		// The score of a claimed webhook is the end of the lease, not a due time.
		if due := dues[n].Val(); !math.IsInf(due, 1) && hashes[n].Val()["token"] == "" {
			hook.Due = time.UnixMilli(int64(due))
		}
		hooks = append(hooks, hook)
	}
	return hooks, nil
}

// Remove removes a webhook; see webhook.Store.
func (w Webhooks) Remove(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var removed *redis.IntCmd
	_, err := w.rdb.TxPipelined(ctx, func(p redis.Pipeliner) error {
		removed = p.ZRem(ctx, w.keys.webhooks(), id)
		p.Del(ctx, w.keys.webhook(id), w.keys.attempts(id))
		return nil
	})
	if err != nil {
		return wrap("remove webhook", err)
	}
	if removed.Val() == 0 {
		return noWebhook(id)
	}
	return nil
}

// Pause pauses or resumes a webhook; see webhook.Store.
func (w Webhooks) Pause(ctx context.Context, id, reason string, e app.Event) (bool, error) {
	event, err := encodeEvent(e)
	if err != nil {
		return false, err
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	is, err := pauseScript.Run(ctx, w.rdb, []string{w.keys.webhooks(), w.keys.webhook(id), w.keys.events()},
		id, reason, w.Now().UnixMilli(), event, keepEvents).Int()
	if err != nil {
		return false, wrap("pause webhook "+id, err)
	}
	if is < 0 {
		return false, noWebhook(id)
	}
	return is > 0, nil
}

// Replay requests that a webhook receive events once more; see webhook.Store.
func (w Webhooks) Replay(ctx context.Context, id string, r webhook.Replay) error {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	is, err := replayScript.Run(ctx, w.rdb, []string{w.keys.webhooks(), w.keys.webhook(id)},
		id, encodeReplay(r), w.Now().UnixMilli()).Int()
	switch {
	case err != nil:
		return wrap("replay to webhook "+id, err)
	case is < 0:
		return noWebhook(id)
	case is == 0:
		return fmt.Errorf("another replay to webhook %s is in progress: %w", id, app.ErrConflict)
	}
	return nil
}

// Attempts returns the last attempts; see webhook.Store.
func (w Webhooks) Attempts(ctx context.Context, id string) ([]webhook.Attempt, error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	var there *redis.IntCmd
	var docs *redis.StringSliceCmd
	_, err := w.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		there = p.Exists(ctx, w.keys.webhook(id))
		docs = p.LRange(ctx, w.keys.attempts(id), 0, -1)
		return nil
	})
	if err != nil {
		return nil, wrap("read attempts of webhook "+id, err)
	}
	if there.Val() == 0 {
		return nil, noWebhook(id)
	}
	attempts := make([]webhook.Attempt, len(docs.Val()))
	for n, doc := range docs.Val() {
		if attempts[n], err = decodeAttempt(doc); err != nil {
			return nil, err
		}
	}
	return attempts, nil
}

// Claim claims webhooks that are due; see webhook.Outbox.
func (w Webhooks) Claim(ctx context.Context, limit int) (claims []webhook.DeliveryClaim, next time.Time, err error) {
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	now, token := w.Now(), rand.Text()
	reply, err := dispatchScript.Run(ctx, w.rdb, []string{w.keys.webhooks(), w.keys.events()},
		w.keys.webhook(""), now.UnixMilli(), now.Add(webhook.DeliveryLease).UnixMilli(), limit, token).Slice()
	if err != nil {
		return nil, time.Time{}, wrap("claim webhooks", err)
	}
	for _, taken := range reply[1:] {
		id, hash := takenOf(taken)
		hook, err := decodeWebhook(id, hash)
		if err != nil { // the other claims go on
			w.log.ErrorContext(ctx, "cannot read a webhook; it receives no events", "webhook", id, "err", err)
			continue
		}
		claim := webhook.DeliveryClaim{Webhook: hook, Token: token}
		if !hook.Understood() { // left to a worker of a newer version
			hook.Due = now.Add(leaveFor)
			if err := w.Complete(ctx, claim, webhook.Delivery{Webhook: hook}); err != nil && !errors.Is(err, app.ErrClaimLost) {
				return claims, next, err
			}
			continue
		}
		claims = append(claims, claim)
	}
	if due, _ := reply[0].(string); due != "" {
		next = score(due)
	}
	return claims, next, nil
}

// takenOf reads {id, {field, value, ...}}.
func takenOf(reply any) (id string, hash map[string]string) {
	pair, _ := reply.([]any) // the script built the reply
	id, _ = pair[0].(string)
	flat, _ := pair[1].([]any)
	hash = map[string]string{}
	for n := 0; n < len(flat); n += 2 {
		field, _ := flat[n].(string)
		hash[field], _ = flat[n+1].(string)
	}
	return id, hash
}

// Complete ends a claim; see webhook.Outbox.
func (w Webhooks) Complete(ctx context.Context, c webhook.DeliveryClaim, d webhook.Delivery) error {
	hook, attempt, event := d.Webhook, "", ""
	due := dueOf(hook)
	fields := map[string]string{
		"cursor": string(hook.Cursor), "minute": encodeCount(hook.Minute, hook.Told), "failing": encodeCount(hook.Failing, hook.Failures),
	}
	if !hook.Repeated.IsZero() {
		fields["repeated"] = strconv.FormatInt(hook.Repeated.UnixMilli(), 10)
	}
	if hook.Paused != "" {
		fields["paused"] = hook.Paused
	}
	if c.Webhook.Replay != (webhook.Replay{}) {
		fields["replay"] = encodeReplay(hook.Replay)
	}
	doc, err := json.Marshal(fields)
	if err != nil {
		return fmt.Errorf("encode delivery: %w", err)
	}
	if d.Attempt != nil {
		if attempt, err = encodeAttempt(*d.Attempt); err != nil {
			return err
		}
	}
	if d.Event != nil {
		if event, err = encodeEvent(*d.Event); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, w.timeout)
	defer cancel()
	id := hook.ID
	held, err := deliveredScript.Run(ctx, w.rdb, []string{w.keys.webhooks(), w.keys.webhook(id), w.keys.attempts(id), w.keys.events()},
		id, c.Token, due, w.Now().UnixMilli(), doc, attempt, webhook.KeptAttempts, event, keepEvents).Bool()
	if err != nil {
		return wrap("complete the delivery to webhook "+id, err)
	}
	if !held {
		return fmt.Errorf("webhook %s: %w", id, app.ErrClaimLost)
	}
	return nil
}

func score(s string) time.Time {
	f, _ := strconv.ParseFloat(s, 64) // Redis wrote it
	return time.UnixMilli(int64(f))
}
