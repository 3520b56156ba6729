package apptest_test

import (
	"testing"

	"rollcall/tests/apptest"
)

func TestMemWebhooks(t *testing.T) {
	t.Parallel()
	apptest.WebhookContract(t, func(*testing.T) apptest.WebhookSubject {
		clock := apptest.NewClock()
		return apptest.WebhookSubject{WebhookStore: apptest.NewMemWebhooks(clock.Now), Clock: clock}
	})
}
