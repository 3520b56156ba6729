package hipache

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Listen calls heard with every announcement of a failing backend, until the context
// is over. It connects anew for as long as it takes, and calls listening each time that
// announcements begin to arrive. Announcements made before are lost: they make things
// faster and must not be relied on. Equal ones that arrive while others are handled count
// once: a proxy announces a backend with each request that fails.
func Listen(ctx context.Context, rdb redis.UniversalClient, listening func(), heard func(Announcement)) {
	sub := rdb.Subscribe(ctx, DeadChannel)
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions()
	for {
		var waiting []any
		select {
		case <-ctx.Done():
			return
		case m, open := <-messages:
			if !open {
				return
			}
			waiting = append(waiting, m)
		}
		for more := true; more && len(waiting) < 1000; {
			select {
			case m, open := <-messages:
				if more = open; open {
					waiting = append(waiting, m)
				}
			default:
				more = false
			}
		}
		var said []Announcement
		for _, m := range waiting {
			switch m := m.(type) {
			case *redis.Subscription:
				listening()
			case *redis.Message:
				if a, ok := ParseAnnouncement(m.Payload); ok && !slices.Contains(said, a) {
					said = append(said, a)
				}
			}
		}
		for _, a := range said {
			heard(a)
		}
	}
}
