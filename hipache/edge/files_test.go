package edge_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"

	"rollcall/hipache/edge"
)

// places is how many clients there is room for when an edge has 30 files.
const places = 10

func fewFiles(o *edge.Options) { o.Files = 3 * places }

// visit asks once and keeps the connection.
func (s *stage) visit1(host string) (net.Conn, error) {
	c, r := s.raw("GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n")
	return c, okay(r)
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
		if _, err := s.visit1("a.test"); err != nil { // and leaves an idle connection
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
			if _, err := s.visit1("a.test"); err != nil {
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

func TestAClientThatWaitsForAPlaceDoesNotHoldUpTheEnd(t *testing.T) {
	t.Parallel()
	s := newStage(t, fewFiles)
	blocked := make(chan struct{}, places)
	end := make(chan struct{})
	s.frontend("a.test", handled(t, func(http.ResponseWriter, *http.Request) {
		blocked <- struct{}{}
		<-end
	}).URL)
	for range places + 1 {
		s.raw("GET / HTTP/1.1\r\nHost: a.test\r\n\r\n")
	}
	for range places {
		<-blocked
	}
	s.Cleanup(func() { close(end) }) // before the stage ends, which waits for Serve
}
