package hipache

import (
	"context"
	_ "embed"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// PassiveTTL is the default lifetime of a mark by Hipache or PlanB.
const PassiveTTL = 30 * time.Second

//go:embed mark.lua
var markSource string

var markScript = redis.NewScript(markSource)

// Marker marks and announces failing backends as a proxy does.
type Marker struct {
	redis redis.Cmdable
	keys  Keys
	ttl   time.Duration
}

// NewMarker returns a Marker whose marks last ttl. r must be the primary: every Mark on a
// replica fails, and leaves proxies without protection.
func NewMarker(r redis.Cmdable, k Keys, ttl time.Duration) *Marker {
	return &Marker{redis: r, keys: k, ttl: ttl}
}

// Mark takes a backend out of the requested host's traffic and announces it. It reports false,
// and neither marks nor announces, if the frontend has no other unmarked backend or the
// backend has left the list; see mark.lua.
//
// The URL is announced as stored, because some readers compare it literally (PlanB's active
// checks, hchecker).
//
// The time to live belongs to the set, not to the mark: every mark renews the earlier ones.
func (m *Marker) Mark(ctx context.Context, f Frontend, b Backend) (marked bool, err error) {
	keys := []string{m.keys.Frontend(f.Host), m.keys.Dead(f.Requested)}
	n, err := markScript.Run(ctx, m.redis, keys, f.Requested, b.URL, m.ttl.Milliseconds()).Int()
	if err != nil {
		return false, fmt.Errorf("mark position %d of %s: %w", b.Position, f.Requested, err)
	}
	return n > 0, nil
}

// Announce reports a backend that may be failing, without a mark. Health checkers that listen
// probe it and decide.
func (m *Marker) Announce(ctx context.Context, f Frontend, b Backend) error {
	a := Announcement{Host: f.Requested, URL: b.URL, Position: b.Position, Len: len(f.Backends)}
	if err := m.redis.Publish(ctx, DeadChannel, a.String()).Err(); err != nil {
		return fmt.Errorf("announce position %d of %s: %w", b.Position, f.Requested, err)
	}
	return nil
}
