package hipache

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// PassiveTTL is how long Hipache and PlanB keep a mark unless told otherwise.
const PassiveTTL = 30 * time.Second

//go:embed mark.lua
var markSource string

var markScript = redis.NewScript(markSource)

// Marker marks and announces backends as a proxy does when it has seen one fail.
type Marker struct {
	redis redis.Cmdable
	keys  Keys
	ttl   time.Duration
}

// NewMarker returns a Marker whose marks last ttl. It must have the primary: on a
// replica every Mark is an error, and proxies have no protection.
func NewMarker(r redis.Cmdable, k Keys, ttl time.Duration) *Marker {
	return &Marker{redis: r, keys: k, ttl: ttl}
}

// Mark takes a backend out of the requested host's traffic and announces it. It
// reports false, and neither marks nor announces, when no other backend of the
// frontend is open or the backend has left the list; see mark.lua.
//
// The URL is announced as it is stored, so that readers that compare it literally
// (PlanB's active checks, hchecker) find it.
//
// The time to live is the set's, not the mark's: every mark renews those before it.
func (m *Marker) Mark(ctx context.Context, f Frontend, b Backend) (marked bool, err error) {
	keys := []string{m.keys.Frontend(f.Host), m.keys.Dead(f.Requested)}
	n, err := markScript.Run(ctx, m.redis, keys, f.Requested, b.URL, m.ttl.Milliseconds()).Int()
	if err != nil {
		return false, fmt.Errorf("mark slot %d of %s: %w", b.Position, f.Requested, err)
	}
	return n > 0, nil
}

// Announce reports a backend that may be failing, without a mark: the health checkers
// that listen probe it and decide.
func (m *Marker) Announce(ctx context.Context, f Frontend, b Backend) error {
	a := Announcement{Host: f.Requested, URL: b.URL, Position: b.Position, Len: len(f.Backends)}
	if err := m.redis.Publish(ctx, DeadChannel, a.String()).Err(); err != nil {
		return fmt.Errorf("announce slot %d of %s: %w", b.Position, f.Requested, err)
	}
	return nil
}
