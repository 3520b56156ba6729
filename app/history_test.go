package app_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/app"
)

func TestAHistoryKeepsTheLastTwentyResults(t *testing.T) {
	t.Parallel()
	var h app.History
	var want []app.Result
	for n := range 45 {
		r := app.Result{At: time.UnixMilli(1_900_000_000_000 + int64(n)), Latency: time.Duration(n*1500) * time.Millisecond, Passed: n%3 > 0, Code: app.Code(n * 20)}
		h.Add(r)
		r.Latency = min(r.Latency, 65535*time.Millisecond)
		want = append(want, r)
		last := want[max(0, len(want)-20):]
		if diff := cmp.Diff(last, h.Results()); diff != "" {
			t.Fatalf("after %d results (-want +got):\n%s", n+1, diff)
		}
		var again app.History
		again.Unpack(append([]byte("123456789"), h.Packed()...)[9-9*(n%2):])
		if n%2 == 0 || n > 19 {
			if diff := cmp.Diff(last, again.Results()); diff != "" {
				t.Fatalf("stored and read after %d results (-want +got):\n%s", n+1, diff)
			}
		}
	}
}
