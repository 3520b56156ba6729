package hipache

import (
	"context"
	"slices"

	"github.com/redis/go-redis/v9"
)

// Listen calls heard with every announcement of a failing backend until ctx ends. It
// reconnects without limit, and calls listening whenever announcements begin to arrive.
// Announcements are only a hint: Redis does not keep them for later subscribers. A proxy
// announces a backend with each failing request, so Listen drops an announcement that equals
// another one waiting to be handled.
func Listen(ctx context.Context, rdb redis.UniversalClient, listening func(), heard func(Announcement)) {
	sub := rdb.Subscribe(ctx, DeadChannel)
	defer sub.Close()
	messages := sub.ChannelWithSubscriptions()
	for {
		select {
		case <-ctx.Done():
			return
		case m, open := <-messages:
			if !open {
				return
			}
			for _, a := range announcements(append([]any{m}, waiting(messages)...), listening) {
				heard(a)
			}
		}
	}
}

// waiting returns up to 1000 messages that have already arrived.
func waiting(messages <-chan any) (all []any) {
	for len(all) < 1000 {
		select {
		case m, open := <-messages:
			if !open {
				return all
			}
			all = append(all, m)
		default:
			return all
		}
	}
	return all
}

// announcements returns the different announcements among messages. It calls listening for each
// message that confirms the subscription.
func announcements(messages []any, listening func()) (all []Announcement) {
	for _, m := range messages {
		switch m := m.(type) {
		case *redis.Subscription:
			listening()
		case *redis.Message:
			if a, ok := ParseAnnouncement(m.Payload); ok && !slices.Contains(all, a) {
				all = append(all, a)
			}
		}
	}
	return all
}
