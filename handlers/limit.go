package handlers

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rollcall/handlers/input"
)

// sweepEvery is the time between removals of the callers that have not called recently.
const sweepEvery = time.Minute

// limiter bounds the registrations a second of each caller. The zero value has no bound.
type limiter struct {
	perSecond int // 0: no limit

	mu      sync.Mutex
	callers map[string]*rate.Limiter
	swept   time.Time
}

// A limitError refuses a caller that registers too often.
type limitError struct {
	perSecond int
	again     time.Duration // wait before the next attempt
}

// Error implements error.
func (e *limitError) Error() string {
	return fmt.Sprintf("more than %d registrations a second", e.perSecond)
}

// admit counts n registrations of a caller, at most input.MaxEntries. It returns a limitError, and counts none, if the
// caller exceeds its rate.
func (l *limiter) admit(caller string, n int) error {
	if l.perSecond == 0 {
		return nil
	}
	now := time.Now()
	turn := l.of(caller, now).ReserveN(now, n)
	if wait := turn.DelayFrom(now); wait > 0 {
		turn.CancelAt(now)
		return &limitError{l.perSecond, wait}
	}
	return nil
}

func (l *limiter) of(caller string, now time.Time) *rate.Limiter {
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
		is = rate.NewLimiter(rate.Limit(l.perSecond), max(2*l.perSecond, input.MaxEntries))
		l.callers[caller] = is
	}
	return is
}
