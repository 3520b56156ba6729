package redisstore_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"rollcall/tests/apptest"
	"rollcall/tests/harness"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	apptest.WebhookContract(t, func(t *testing.T) apptest.WebhookSubject {
		return webhookSubject(harness.SharedRedis(t), harness.Prefix(t))
	})
}

func TestWebhooksOnMiniredis(t *testing.T) {
	t.Parallel()
	apptest.WebhookContract(t, func(t *testing.T) apptest.WebhookSubject {
		c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return webhookSubject(c, "")
	})
}

func webhookSubject(c *redis.Client, prefix string) apptest.WebhookSubject {
	s := prefixedSite(c, prefix)
	return apptest.WebhookSubject{WebhookStore: s.Webhooks(), Clock: s.clock}
}
