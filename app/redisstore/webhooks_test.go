package redisstore_test

import (
	"testing"

	"github.com/alicebob/miniredis/v2"
	"github.com/redis/go-redis/v9"

	"rollcall/app/redisstore/storetest"
	"rollcall/tests/harness"
)

func TestWebhooks(t *testing.T) {
	t.Parallel()
	storetest.WebhookContract(t, func(t *testing.T) storetest.WebhookSubject {
		return webhookSubject(harness.SharedRedis(t), harness.Prefix(t))
	})
}

func TestWebhooksOnMiniredis(t *testing.T) {
	t.Parallel()
	storetest.WebhookContract(t, func(t *testing.T) storetest.WebhookSubject {
		c := redis.NewClient(&redis.Options{Addr: miniredis.RunT(t).Addr(), ContextTimeoutEnabled: true})
		t.Cleanup(func() { _ = c.Close() })
		return webhookSubject(c, "")
	})
}

func webhookSubject(c *redis.Client, prefix string) storetest.WebhookSubject {
	s := prefixedSite(c, prefix)
	return storetest.WebhookSubject{WebhookStore: s.Webhooks(), Clock: s.clock}
}
