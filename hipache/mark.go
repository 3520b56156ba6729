package hipache

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// PassiveTTL is how long Hipache and PlanB keep a mark unless told otherwise.
const PassiveTTL = 30 * time.Second

// Marker marks backends as a proxy does when it has seen one fail.
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

// Mark takes a slot of a requested host's list out of traffic and announces it.
// The url is announced as it is stored: the readers that compare it literally
// (PlanB's active checks, hchecker) find it, and those that know Hipache's
// spelling use SameBackend.
//
// The time to live is the set's, not the mark's: every mark renews those before it.
func (m *Marker) Mark(ctx context.Context, host, url string, slot, n int) error {
	key := m.keys.Dead(host)
	said := Announcement{Host: host, URL: url, Slot: slot, Len: n}
	_, err := m.redis.TxPipelined(ctx, func(p redis.Pipeliner) error {
		p.SAdd(ctx, key, slot)
		p.Expire(ctx, key, m.ttl)
		p.Publish(ctx, DeadChannel, said.String())
		return nil
	})
	if err != nil {
		return fmt.Errorf("mark slot %d of %s: %w", slot, host, err)
	}
	return nil
}
