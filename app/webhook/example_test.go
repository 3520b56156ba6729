package webhook_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"time"

	"rollcall/app/webhook"
)

func ExampleSender_Ping() {
	receiver := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Println(r.Method, r.URL.Path, r.Header.Get("Content-Type"))
		w.WriteHeader(http.StatusNoContent)
	}))
	defer receiver.Close()

	sender := webhook.NewSender(func(a netip.Addr) bool { return a.IsLoopback() }, time.Now)
	attempt := sender.Ping(context.Background(), webhook.Webhook{
		ID: "deploys", URL: receiver.URL + "/hook", Secret: "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", Format: webhook.EventFormat,
	})
	fmt.Println(attempt.Passed, attempt.Reason())
	// Output:
	// POST /hook application/json
	// true status 204 No Content
}
