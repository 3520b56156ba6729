package main

import (
	"bytes"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
)

func TestHistoryPrintsAStripAndTotals(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.String() != "/v1/services/web/history?range=1h" {
			t.Errorf("asked for %s", r.URL)
		}
		_, _ = w.Write([]byte(`{"total": {"availability": 0.99999, "unknown_seconds": 90, "passed": 90, "failed": 10, "flips": 2, "joined": 1, "instances": 3, "p50_ms": 12.34, "p95_ms": null},
			"buckets": [{"availability": null}, {"availability": 1}, {"availability": 0.995}, {"availability": 0.5}, {"availability": 0}],
			"vhosts": [{"host": "shop.example.com", "availability": null}],
			"departed": [{"instance": "web-1", "at": "2026-01-01T00:00:00Z", "from": "unhealthy", "reason": "forgotten", "actor": "ci"}]}`))
	}))
	defer server.Close()
	var out bytes.Buffer
	if err := run(t.Context(), []string{"history", "web", "--range", "1h", "--url", server.URL}, nil, &out, &out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{".#+-!  1h\n", "99.99 %", "1m30s", "100 ", "12.3ms", "shop.example.com  unknown", "web-1", "forgotten by ci"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("the output lacks %q:\n%s", want, out.String())
		}
	}
}
