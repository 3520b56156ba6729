package edge_test

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

func TestServeEndsRequestsAndThenTunnels(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	asked, answer := make(chan struct{}), make(chan struct{})
	s.frontend("slow.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		_, _ = io.WriteString(w, "done")
	}).URL)
	s.frontend("ws.test", handled(t, func(w http.ResponseWriter, _ *http.Request) {
		c, rw, _ := http.NewResponseController(w).Hijack()
		defer c.Close()
		_, _ = rw.WriteString("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
		_ = rw.Flush()
		_, _ = io.Copy(io.Discard, rw)
	}).URL)
	stop, served := s.serveAnother(edge.Options{})

	_, tunnel := s.raw("GET / HTTP/1.1\r\nHost: ws.test\r\nConnection: Upgrade\r\nUpgrade: x\r\n\r\n")
	if res, err := http.ReadResponse(tunnel, nil); err != nil || res.StatusCode != 101 {
		t.Fatalf("got %+v, %v", res, err)
	}
	if got := s.get("__ping__"); got.body != "OK" { // and leaves an idle connection
		t.Errorf("got %q", got.body)
	}
	_, slow := s.raw("GET / HTTP/1.1\r\nHost: slow.test\r\n\r\n")
	<-asked
	stop()
	harness.Await(t, "no more connections", func() bool {
		c, err := net.Dial("tcp", s.addr)
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(answer)
	res, err := http.ReadResponse(slow, nil)
	if err != nil {
		t.Fatal(err)
	}
	if body, _ := io.ReadAll(res.Body); string(body) != "done" {
		t.Errorf("got %d %q", res.StatusCode, body)
	}
	if err := <-served; err != nil {
		t.Errorf("serve: %v", err)
	}
	if _, err := tunnel.ReadByte(); err != io.EOF {
		t.Errorf("tunnel: got %v, want its end", err)
	}
}

func TestServeEndsAfterItsGrace(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	url, hits := rude(t, hang)
	s.frontend("a.test", url)
	stop, served := s.serveAnother(edge.Options{Grace: 50 * time.Millisecond})
	s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	harness.Await(t, "a request is under way", func() bool { return hits.Load() == 1 })
	stop()
	if err := <-served; !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v, want to hear that requests were cut", err)
	}
}
