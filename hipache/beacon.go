package hipache

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// BeaconEvery is how often the beacon has to be renewed, beaconTTL how long it lasts
// when it is not.
const (
	BeaconEvery = 10 * time.Second
	beaconTTL   = time.Minute
)

// Beacon tells every Hipache on a Redis that an active health checker is at work.
// Hipache then stops marking backends by itself, but goes on sending to those that
// fail and are not marked yet, so it is for those who know why they want it. PlanB
// does not look at it.
type Beacon struct {
	Redis redis.Cmdable
}

// Shine renews the beacon. Hipache looks every 30 s, and believes it for 30 s.
func (b Beacon) Shine(ctx context.Context, now time.Time) error {
	if err := b.Redis.Set(ctx, PingKey, now.Unix(), beaconTTL).Err(); err != nil {
		return fmt.Errorf("write %s: %w", PingKey, err)
	}
	return nil
}

// Douse takes the beacon away, so that Hipache marks by itself again.
func (b Beacon) Douse(ctx context.Context) error {
	if err := b.Redis.Del(ctx, PingKey).Err(); err != nil {
		return fmt.Errorf("delete %s: %w", PingKey, err)
	}
	return nil
}
