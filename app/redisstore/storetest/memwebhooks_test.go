package storetest_test

import (
	"testing"

	"rollcall/app/redisstore/storetest"
)

func TestMemWebhooks(t *testing.T) {
	t.Parallel()
	storetest.WebhookContract(t, func(*testing.T) storetest.WebhookSubject {
		clock := storetest.NewClock()
		return storetest.WebhookSubject{WebhookStore: storetest.NewMemWebhooks(clock.Now), Clock: clock}
	})
}
