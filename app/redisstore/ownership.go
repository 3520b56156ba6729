package redisstore

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/ownership"
)

var (
	//go:embed lua/own.lua
	ownSource string
	//go:embed lua/flush.lua
	flushSource string

	ownScript   = redis.NewScript(ownSource)
	flushScript = redis.NewScript(flushSource)
)

// Own runs lua/own.lua for a worker. A call that returns an error may still have been carried out.
func (s *Store) Own(ctx context.Context, c ownership.Call) (ownership.Reply, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	limit := c.Limit
	if limit == 0 {
		limit = ownership.Shards
	}
	args := []any{c.Worker, c.Count, flag(c.Stopping), limit, flag(c.Suspended), c.Known, s.keys.channel(sharesChannel), len(c.Gone)}
	for _, g := range c.Gone {
		args = append(args, g.Worker, g.Count)
	}
	for _, n := range c.Release {
		args = append(args, n)
	}
	for _, g := range c.Give {
		args = append(args, fmt.Sprint(g.Shard, " ", g.Worker))
	}
	k, before := s.keys, s.now()
	reply, err := ownScript.Run(ctx, s.rdb, []string{k.workers(), k.shards(), k.events(), k.web()}, args...).StringSlice()
	if err != nil {
		return ownership.Reply{}, s.noteRefusal(wrap("renew the worker's lease", err))
	}
	_ = s.noteRefusal(nil)
	if reply[0] == "reused" {
		return ownership.Reply{Reused: true}, nil
	}
	r := ownership.Reply{Last: reply[1], Version: reply[4], Full: reply[5] != ""}
	r.Now, _ = strconv.ParseInt(reply[2], 10, 64)
	s.noteClock(time.UnixMilli(r.Now), before)
	r.Web, _ = strconv.ParseInt(reply[3], 10, 64) // a value that is not a number counts as unchanged
	n, _ := strconv.Atoi(reply[6])
	rest := reply[7:]
	for i := range n {
		value, suspended := strings.CutSuffix(rest[2*i+1], " s")
		count, _ := strconv.ParseInt(value, 10, 64)
		r.Workers = append(r.Workers, ownership.Peer{Worker: rest[2*i], Count: count, Suspended: suspended})
	}
	if rest = rest[2*n:]; r.Full {
		r.Owned = make(map[int]ownership.Term, len(rest)/2)
		for i := 0; i+1 < len(rest); i += 2 {
			shard, err := strconv.Atoi(rest[i])
			if err != nil {
				return ownership.Reply{}, fmt.Errorf("renew the worker's lease: shard %q is not a number", rest[i])
			}
			r.Owned[shard] = ownership.Term(rest[i+1])
		}
	}
	return r, nil
}

func flag(set bool) string {
	if set {
		return "1"
	}
	return ""
}

// Flush writes the records of shards under the worker's terms. It returns the refused shards, which another worker owns.
func (s *Store) Flush(ctx context.Context, flushes []ownership.Flush) (refused []int, err error) {
	if len(flushes) == 0 {
		return nil, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	names, args := []string{s.keys.shards()}, make([]any, 0, 3*len(flushes))
	for _, f := range flushes {
		names = append(names, s.keys.record(f.Shard))
		args = append(args, f.Shard, string(f.Term), f.Record)
	}
	reply, err := flushScript.Run(ctx, s.rdb, names, args...).StringSlice()
	if err != nil {
		return nil, wrap("flush", err)
	}
	for _, r := range reply {
		shard, _ := strconv.Atoi(r) // the script returns the number as it was sent
		refused = append(refused, shard)
	}
	return refused, nil
}

// Flushed reads the records of shards. The record of a shard that has none is empty.
func (s *Store) Flushed(ctx context.Context, shards []int) ([][]byte, error) {
	records := make([][]byte, len(shards))
	for n, shard := range shards { // one call for each, because records may be large
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		record, err := s.rdb.Get(ctx, s.keys.record(shard)).Bytes()
		cancel()
		if err != nil && !errors.Is(err, redis.Nil) && !wrongType(err) {
			return nil, wrap("read the records of shards", err)
		}
		records[n] = record
	}
	return records, nil
}

// Beats returns the time of each instance's last heartbeat in ms by Redis's clock, 0 for none, and the present time by
// that clock.
func (s *Store) Beats(ctx context.Context, ids []string) (now int64, beats []int64, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var clock *redis.TimeCmd
	var values *redis.SliceCmd
	if _, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		clock, values = p.Time(ctx), p.HMGet(ctx, s.keys.beats(), ids...)
		return nil
	}); err != nil {
		return 0, nil, wrap("read heartbeats", err)
	}
	beats = make([]int64, len(ids))
	for n, v := range values.Val() {
		text, _ := v.(string)
		beats[n], _ = strconv.ParseInt(text, 10, 64)
	}
	return clock.Val().UnixMilli(), beats, nil
}

// Recent returns the owner's data about an instance that is not in its document. It first asks the owner to flush the
// shard, and waits up to askedFor.
func (s *Store) Recent(ctx context.Context, id string) (app.Recent, error) {
	shard := ownership.ShardOf(id)
	s.asking.ask(ctx, s, shard)
	records, err := s.Flushed(ctx, []int{shard})
	if err != nil {
		return app.Recent{}, err
	}
	at, entries, err := ownership.ReadRecord(records[0])
	if err != nil {
		s.log.WarnContext(ctx, "the record of a shard cannot be read and is left out", "shard", shard, "err", err)
	}
	for p := range entries {
		if p.ID != id || len(p.History) == 0 {
			continue
		}
		var h app.History
		h.Unpack(p.History)
		r := app.Recent{Results: h.Results(), At: time.UnixMilli(at), Disputed: p.Dispute}
		if p.Due > 0 {
			r.Due = time.UnixMilli(p.Due)
		}
		return r, nil
	}
	results, err := s.Results(ctx, id) // an instance that sends heartbeats keeps its results in a key
	return app.Recent{Results: results}, err
}

const (
	askEvery = time.Second            // shortest interval between two requests for one shard
	askedFor = 200 * time.Millisecond // longest wait for an answer
)

// asking holds the time of the last request for each shard.
type asking struct {
	mu   sync.Mutex
	last map[int]time.Time
}

// ask requests a flush from the owner of a shard, and waits for it. It returns at once if the shard was requested less
// than askEvery ago.
func (a *asking) ask(ctx context.Context, s *Store, shard int) {
	now := time.Now()
	a.mu.Lock()
	if a.last == nil {
		a.last = map[int]time.Time{}
	}
	recently := now.Sub(a.last[shard]) < askEvery
	if !recently {
		a.last[shard] = now
	}
	a.mu.Unlock()
	if recently {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, askedFor)
	defer cancel()
	sub := s.rdb.Subscribe(ctx, s.keys.channel(flushedChannel))
	defer sub.Close()
	if _, err := sub.Receive(ctx); err != nil {
		return
	}
	if n, err := s.rdb.Publish(ctx, s.keys.channel(askChannel), shard).Result(); err != nil || n == 0 {
		return // no worker is subscribed
	}
	for want := strconv.Itoa(shard); ; {
		m, err := sub.ReceiveMessage(ctx)
		if err != nil || m.Payload == want {
			return
		}
	}
}

// ProbeNow asks the owner of an instance to probe it at once.
func (s *Store) ProbeNow(ctx context.Context, id string) error {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return wrapIf("have "+id+" probed", s.rdb.Publish(ctx, s.keys.channel(probeChannel), id).Err())
}

// Asked holds the functions that answer the messages of other processes.
type Asked struct {
	Shares func()                                                       // shards or workers have changed
	Flush  func(ctx context.Context, shard int) (owned bool, err error) // a web process requests the record of a shard
	Probe  func(id string)                                              // an instance is to be probed at once

	Question func(q ownership.Question) // a worker asks for a second opinion
	Opinion  func(o ownership.Opinion)  // a worker answers a question
}

// Answer calls the functions of a for the messages of other processes until ctx is done. Messages sent while Redis is
// unreachable are lost.
func (s *Store) Answer(ctx context.Context, a Asked) {
	k := s.keys
	shares, ask, probe := k.channel(sharesChannel), k.channel(askChannel), k.channel(probeChannel)
	sub := s.rdb.Subscribe(ctx, shares, ask, probe, k.channel(opinionChannel))
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, open := <-messages:
			switch {
			case !open:
				return
			case m.Channel == shares:
				a.Shares()
			case m.Channel == probe:
				a.Probe(m.Payload)
			case m.Channel == ask:
				s.flushAsked(ctx, m.Payload, a)
			default:
				s.opinion(ctx, m.Payload, a)
			}
		}
	}
}

// An opinionMessage is a message on opinionChannel, which all workers read. Exactly one field is set.
type opinionMessage struct {
	Question *ownership.Question `json:"question,omitempty"`
	Opinion  *ownership.Opinion  `json:"opinion,omitempty"`
}

// SendQuestion sends a question to the worker that it names. If the message is lost, no opinion comes.
func (s *Store) SendQuestion(ctx context.Context, q ownership.Question) error {
	return s.sendOpinion(ctx, opinionMessage{Question: &q})
}

// SendOpinion sends the answer to a question.
func (s *Store) SendOpinion(ctx context.Context, o ownership.Opinion) error {
	return s.sendOpinion(ctx, opinionMessage{Opinion: &o})
}

func (s *Store) sendOpinion(ctx context.Context, m opinionMessage) error {
	text, err := json.Marshal(m)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	return wrapIf("send to another worker", s.rdb.Publish(ctx, s.keys.channel(opinionChannel), text).Err())
}

func (s *Store) opinion(ctx context.Context, payload string, a Asked) {
	var m opinionMessage
	switch err := json.Unmarshal([]byte(payload), &m); {
	case err != nil:
		s.log.WarnContext(ctx, "a message of another worker cannot be read", "err", err)
	case m.Question != nil:
		a.Question(*m.Question)
	case m.Opinion != nil:
		a.Opinion(*m.Opinion)
	}
}

func (s *Store) flushAsked(ctx context.Context, payload string, a Asked) {
	shard, err := strconv.Atoi(payload)
	if err != nil {
		return
	}
	if owned, err := a.Flush(ctx, shard); owned && err == nil {
		ctx, cancel := context.WithTimeout(ctx, s.timeout)
		defer cancel()
		s.rdb.Publish(ctx, s.keys.channel(flushedChannel), payload)
	}
}
