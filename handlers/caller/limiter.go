package caller

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rollcall/handlers/input"
)

// sweepEvery is the time between removals of the callers that have not called recently.
const sweepEvery = time.Minute

// Limiter bounds the registrations a second of each caller. The zero value has no bound.
type Limiter struct {
	PerSecond int // 0: no limit

	mu      sync.Mutex
	callers map[string]*rate.Limiter
	swept   time.Time
}

// A LimitError refuses a caller that registers too often.
type LimitError struct {
	PerSecond int
	Again     time.Duration // wait before the next attempt
}

// Error implements error.
func (e *LimitError) Error() string {
	return fmt.Sprintf("more than %d registrations a second", e.PerSecond)
}

// Admit counts n registrations of a caller, at most input.MaxEntries. It returns a LimitError, and counts none, if the
// caller exceeds its rate.
func (l *Limiter) Admit(caller string, n int) error {
	if l.PerSecond == 0 {
		return nil
	}
	now := time.Now()
	turn := l.of(caller, now).ReserveN(now, n)
	if wait := turn.DelayFrom(now); wait > 0 {
		turn.CancelAt(now)
		return &LimitError{l.PerSecond, wait}
	}
	return nil
}

func (l *Limiter) of(caller string, now time.Time) *rate.Limiter {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.swept) > sweepEvery {
		fresh := map[string]*rate.Limiter{}
		for name, is := range l.callers {
			if is.TokensAt(now) < float64(is.Burst()) { // a full bucket equals a new one
				fresh[name] = is
			}
		}
		l.callers, l.swept = fresh, now
	}
	is, known := l.callers[caller]
	if !known {
		is = rate.NewLimiter(rate.Limit(l.PerSecond), max(2*l.PerSecond, input.MaxEntries))
		l.callers[caller] = is
	}
	return is
}
