package edge

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"rollcall/hipache"
)

// slowReads is a Redis that answers a batch when the test permits it.
type slowReads struct {
	*reads
	asked  chan []string
	answer chan struct{}
	wg     sync.WaitGroup
}

func newSlowReads() *slowReads {
	s := &slowReads{asked: make(chan []string, 100), answer: make(chan struct{})}
	s.reads = newReads(func(hosts []string) []hipache.Found {
		s.asked <- hosts
		<-s.answer
		found := make([]hipache.Found, len(hosts))
		for i, host := range hosts {
			found[i].Frontend.Requested = host
			if host == "none.test" {
				found[i].Err = hipache.ErrNoFrontend
			}
		}
		return found
	})
	return s
}

// start begins a lookup and returns when it waits in a batch or its read has begun.
func (s *slowReads) start(t *testing.T, host string) {
	before := s.waiting()
	s.wg.Go(func() {
		f, err := s.lookup(host)
		if f.Requested != host || errors.Is(err, hipache.ErrNoFrontend) != (host == "none.test") {
			t.Errorf("%s: got %+v, %v", host, f, err)
		}
	})
	for end := time.Now().Add(10 * time.Second); s.waiting() == before; time.Sleep(time.Millisecond) {
		if len(s.asked) > 0 {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%s neither waits nor is asked for", host)
		}
	}
}

func (s *slowReads) waiting() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.next == nil {
		return 0
	}
	return len(s.next.hosts)
}

func TestReadsShareARoundTrip(t *testing.T) {
	t.Parallel()
	s := newSlowReads()
	for i := range batchesUnderWay { // no lookup waits while fewer round trips are running
		s.start(t, fmt.Sprint(i))
		if got := <-s.asked; !cmp.Equal(got, []string{fmt.Sprint(i)}) {
			t.Errorf("asked for %q", got)
		}
	}
	for _, host := range []string{"a.test", "0", "none.test"} {
		s.start(t, host)
	}
	s.wg.Go(func() { _, _ = s.lookup("a.test") }) // an equal host is read once
	close(s.answer)
	if got := <-s.asked; !cmp.Equal(got, []string{"a.test", "0", "none.test"}) {
		t.Errorf("asked for %q, want all that waited, and 0 again: its read began before", got)
	}
	s.wg.Wait()
}

func TestReadsBoundABatch(t *testing.T) {
	t.Parallel()
	s := newSlowReads()
	for range batchesUnderWay {
		s.start(t, "first")
		<-s.asked
	}
	for i := range maxBatch + 1 {
		s.start(t, fmt.Sprint(i))
	}
	close(s.answer)
	s.wg.Wait()
	if a, b := len(<-s.asked), len(<-s.asked); a+b != maxBatch+1 || max(a, b) != maxBatch {
		t.Errorf("asked for %d and %d hosts, want at most %d at once", a, b, maxBatch)
	}
}
