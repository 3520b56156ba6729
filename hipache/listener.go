package hipache

import (
	"context"

	"github.com/redis/go-redis/v9"
)

// Listen calls heard with every announcement of a failing backend, until the context
// is over. It connects anew for as long as it takes. Announcements made while it was
// away are lost: they make things faster and must not be relied on.
func Listen(ctx context.Context, rdb redis.UniversalClient, heard func(Announcement)) {
	sub := rdb.Subscribe(ctx, DeadChannel)
	defer sub.Close()
	messages := sub.Channel()
	for {
		select {
		case <-ctx.Done():
			return
		case m, open := <-messages:
			if !open {
				return
			}
			if a, ok := ParseAnnouncement(m.Payload); ok {
				heard(a)
			}
		}
	}
}
