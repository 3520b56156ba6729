package redisstore

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/redis/go-redis/v9"

	"rollcall/app"
	"rollcall/app/diagnose"
)

// agentRecord is the stored form of an agent's last report.
type agentRecord struct {
	Synced     int64             `json:"synced"` // ms since 1970
	Containers int               `json:"containers"`
	Refused    map[string]string `json:"refused,omitempty"`
}

// Agent returns the last report of an agent, or the zero value. It returns a FieldError if the agent is unknown and there are
// app.MaxAgents others.
func (s *Store) Agent(ctx context.Context, node string) (app.Agent, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	var doc *redis.StringCmd
	var known *redis.IntCmd
	cmds, err := s.rdb.Pipelined(ctx, func(p redis.Pipeliner) error {
		doc, known = p.HGet(ctx, s.keys.agents(), node), p.HLen(ctx, s.keys.agents())
		return nil
	})
	if err := failed(cmds, err, noValue); err != nil {
		return app.Agent{}, wrap("read agent "+node, err)
	}
	if doc.Val() == "" && known.Val() >= app.MaxAgents {
		return app.Agent{}, &app.FieldError{
			Field: "node", Held: true, Problem: fmt.Sprintf("is one too many: there are %d agents", app.MaxAgents),
			Want: "remove former ones: HDEL " + s.keys.agents() + " NODE",
		}
	}
	return s.decodeAgent(ctx, node, doc.Val()), nil
}

// decodeAgent returns a report with the name of the node alone if the document cannot be read: the next report replaces it.
func (s *Store) decodeAgent(ctx context.Context, node, doc string) app.Agent {
	var r agentRecord
	if err := json.Unmarshal([]byte(cmp.Or(doc, "{}")), &r); err != nil {
		s.log.WarnContext(ctx, "cannot read the report of an agent", "node", node, "err", err)
		return app.Agent{Node: node}
	}
	return app.Agent{Node: node, SyncedAt: time.UnixMilli(r.Synced), Containers: r.Containers, Refused: r.Refused}
}

// PutAgent replaces the report of an agent, and appends events.
func (s *Store) PutAgent(ctx context.Context, a app.Agent, events []app.Event) error {
	doc, err := json.Marshal(agentRecord{a.SyncedAt.UnixMilli(), a.Containers, a.Refused})
	if err != nil {
		return fmt.Errorf("encode agent %s: %w", a.Node, err)
	}
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	if err := s.rdb.HSet(ctx, s.keys.agents(), a.Node, doc).Err(); err != nil {
		return wrap("put agent "+a.Node, err)
	}
	for _, e := range events {
		if _, err := s.AppendEvent(ctx, e); err != nil {
			return err
		}
	}
	return nil
}

// Agents returns the last report of each agent, by node.
func (s *Store) Agents(ctx context.Context) (diagnose.Agents, error) {
	ctx, cancel := context.WithTimeout(ctx, s.timeout)
	defer cancel()
	all := diagnose.Agents{Key: s.keys.agents()}
	docs, err := s.rdb.HGetAll(ctx, all.Key).Result()
	if err != nil {
		return all, wrap("read the agents", err)
	}
	for node, doc := range docs {
		all.Agents = append(all.Agents, s.decodeAgent(ctx, node, doc))
	}
	slices.SortFunc(all.Agents, func(a, b app.Agent) int { return cmp.Compare(a.Node, b.Node) })
	return all, nil
}
