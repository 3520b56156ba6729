package hipache

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// PingEvery is the interval at which a health checker must renew its Ping. Without a
// renewal the Ping lasts for pingTTL.
const (
	PingEvery = 10 * time.Second
	pingTTL   = time.Minute
)

// Ping is the key that announces an active health checker to every Hipache on a Redis. While
// it exists, Hipache marks no backend by itself, but still sends requests to failing backends
// without a mark. Write it only where that is wanted. PlanB ignores it.
type Ping struct {
	Redis redis.Cmdable
}

// Renew writes the key with the time of the last sweep. Hipache reads the key every 30 s and
// relies on it for 30 s.
func (p Ping) Renew(ctx context.Context, now time.Time) error {
	if err := p.Redis.Set(ctx, PingKey, now.Unix(), pingTTL).Err(); err != nil {
		return fmt.Errorf("write %s: %w", PingKey, err)
	}
	return nil
}

// Clear deletes the key, so that Hipache marks backends by itself again.
func (p Ping) Clear(ctx context.Context) error {
	if err := p.Redis.Del(ctx, PingKey).Err(); err != nil {
		return fmt.Errorf("delete %s: %w", PingKey, err)
	}
	return nil
}
