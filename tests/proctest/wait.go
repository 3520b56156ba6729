package proctest

import (
	"sync/atomic"
	"testing"
	"time"
)

// Eventually repeats check until it returns nil. After within, it fails the test with the last error.
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

// Stalls measures how long this machine delays a runnable process, until the test ends.
type Stalls struct{ worst atomic.Int64 }

// WatchStalls starts the measurement.
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

// Slack returns the tolerance of a test for delays of the machine.
func (s *Stalls) Slack() time.Duration { return time.Second + 4*time.Duration(s.worst.Load()) }
