package edge_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"testing"
	"time"

	"rollcall/hipache/edge"
	"rollcall/tests/harness"
)

// places is the number of clients of an edge with 30 files.
const places = 10

func fewFiles(o *edge.Options) { o.SetFiles(3 * places) }

// stays sends a request and keeps the connection.
func (s *stage) stays(host string) error {
	_, r := s.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	return okay(r)
}

func okay(r *bufio.Reader) error {
	res, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %w", res.Status, err)
	}
	return nil
}

func TestIdleClientsMakeRoomForOthers(t *testing.T) {
	t.Parallel()
	s := newStage(t, fewFiles)
	s.frontend("a.test", named(t, "up").URL)
	for n := range 5 * places {
		if err := s.stays("a.test"); err != nil { // and leaves an idle connection
			t.Fatalf("client %d: %v", n, err)
		}
	}
}

func TestMoreClientsThanPlacesAreServedInTurn(t *testing.T) {
	t.Parallel()
	s := newStage(t, fewFiles)
	var mu sync.Mutex
	busy, most := 0, 0
	full, proceed := make(chan struct{}), make(chan struct{})
	s.frontend("a.test", handled(t, func(http.ResponseWriter, *http.Request) {
		mu.Lock()
		busy++
		most = max(most, busy)
		if busy == places {
			close(full)
		}
		mu.Unlock()
		<-proceed
		mu.Lock()
		busy--
		mu.Unlock()
	}).URL)
	var clients sync.WaitGroup
	for range 3 * places {
		clients.Go(func() {
			if err := s.stays("a.test"); err != nil {
				t.Error(err)
			}
		})
	}
	<-full
	close(proceed)
	clients.Wait()
	if most > places {
		t.Errorf("%d requests at once, want at most %d", most, places)
	}
}

func TestAWaitingClientDoesNotDelayShutdown(t *testing.T) {
	t.Parallel()
	s := newStage(t)
	url, hits := rude(t, hang)
	s.frontend("a.test", url)
	o := edge.Options{Grace: 50 * time.Millisecond}
	fewFiles(&o)
	stop, served := s.serveAnother(o)
	for range places + 1 {
		s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	}
	harness.Await(t, "every place is taken", func() bool { return hits.Load() == places })
	stop()
	select {
	case err := <-served:
		if !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v, want to hear that requests were cut", err)
		}
	case <-time.After(patience):
		t.Error("the edge still serves")
	}
}
