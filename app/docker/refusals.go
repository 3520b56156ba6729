package docker

import (
	"context"
	"log/slog"
	"maps"
	"time"
)

// forgetRefusal is the time after which a refusal that has not occurred again is forgotten. A restart loop is one refusal.
const forgetRefusal = time.Hour

// refusals are the containers that are not registered. The loop owns them.
type refusals struct {
	log  *slog.Logger
	byID map[string]refusal
}

type refusal struct {
	name, reason string
	at           time.Time // last occurrence
}

func newRefusals(log *slog.Logger) *refusals {
	return &refusals{log: log, byID: map[string]refusal{}}
}

// add logs a reason once per container.
func (r *refusals) add(ctx context.Context, id, name, reason string) {
	if r.byID[id].reason != reason {
		r.log.ErrorContext(ctx, "container not registered", "container", id[:min(shortID, len(id))], "name", name, "reason", reason)
	}
	r.byID[id] = refusal{name, reason, time.Now()}
}

// prune forgets old refusals, but for the given containers.
func (r *refusals) prune(running map[string]*known) {
	maps.DeleteFunc(r.byID, func(id string, f refusal) bool { return running[id] == nil && time.Since(f.at) > forgetRefusal })
}

func (r *refusals) remove(id string) { delete(r.byID, id) }
