package probe_test

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"time"

	"rollcall/app"
	"rollcall/app/probe"
)

func ExampleProber() {
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	prober := probe.New(probe.Options{})
	defer prober.Close()

	check := app.DefaultCheck(app.HTTP)
	check.Timeout = 10 * time.Second
	result := prober.Probe(context.Background(), app.Instance{Address: server.Listener.Addr().String(), Check: check})
	fmt.Println(result.Passed, result.Reason())
	// Output: false status 503 Service Unavailable: want 200-399
}
