package proctest

import (
	"sync/atomic"
	"testing"
	"time"
)

// Eventually waits until check finds nothing wrong, and fails the test with what it
// last found if that takes longer than within.
func Eventually(t testing.TB, within time.Duration, check func() error) {
	t.Helper()
	deadline := time.Now().Add(within)
	for {
		err := check()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("after %s: %v", within, err)
		}
		time.Sleep(20 * time.Millisecond)
	}
}

// Stalls measures for how long this machine lets a process wait that wants to run, until
// the test ends.
type Stalls struct{ worst atomic.Int64 }

// WatchStalls begins to measure.
func WatchStalls(t testing.TB) *Stalls {
	s := &Stalls{}
	done := make(chan struct{})
	t.Cleanup(func() { close(done) })
	go func() {
		const nap = 20 * time.Millisecond
		for {
			began := time.Now()
			select {
			case <-done:
				return
			case <-time.After(nap):
			}
			if late := int64(time.Since(began) - nap); late > s.worst.Load() {
				s.worst.Store(late)
			}
		}
	}()
	return s
}

// Slack is what a test allows for the machine.
func (s *Stalls) Slack() time.Duration { return time.Second + 4*time.Duration(s.worst.Load()) }
