package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// The edge has 200 files, and 300 visitors keep their connections open. The edge serves each of
// them, and also 300 slow requests at the same time.
func TestAnEdgeWithFewFilesGivesUpIdleConnections(t *testing.T) {
	t.Parallel()
	k := newStack(t)
	edge := k.Process("edge", "sh", "-c", `ulimit -n 200; exec "$@"`, "few-files").Addr("edge")
	backends := make([]string, 3)
	slow := make(chan struct{})
	for i := range backends {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		server := &http.Server{ReadHeaderTimeout: harness.Patience, Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				<-slow
			}
			_, _ = io.WriteString(w, "here")
		})}
		var serving sync.WaitGroup
		serving.Go(func() { _ = server.Serve(l) })
		t.Cleanup(func() { _ = server.Close(); serving.Wait() })
		backends[i] = "http://" + l.Addr().String()
		k.Redis.RPush(t.Context(), fmt.Sprintf("frontend:%d.localhost", i), "id", backends[i])
	}
	visit := func(ctx context.Context, n int, path string) error {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", edge)
		if err != nil {
			return err
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetDeadline(time.Now().Add(harness.Patience))
		_, _ = fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %d.localhost\r\n\r\n", path, n%len(backends))
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			return err
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); res.StatusCode != http.StatusOK || string(body) != "here" {
			return errors.Join(fmt.Errorf("%s %q", res.Status, body), err)
		}
		return nil
	}
	for n := range 300 {
		if err := visit(t.Context(), n, "/"); err != nil {
			t.Fatalf("visitor %d: %v", n, err)
		}
	}
	var visitors sync.WaitGroup
	for n := range 300 {
		visitors.Go(func() {
			if err := visit(t.Context(), n, "/slow"); err != nil {
				t.Errorf("visitor %d of those at the same time: %v", n, err)
			}
		})
	}
	time.AfterFunc(500*time.Millisecond, func() { close(slow) }) // most requests have arrived by then
	visitors.Wait()
}
