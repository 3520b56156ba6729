package handlers

import (
	"fmt"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"rollcall/handlers/input"
)

// forgetAfter is how often callers are forgotten who have not called for a while.
const forgetAfter = time.Minute

// limiter bounds how often each caller may do something. The zero value bounds nothing.
type limiter struct {
	perSecond int // 0: any number

	mu      sync.Mutex
	callers map[string]*rate.Limiter
	swept   time.Time
}

// A limitError says that a caller does something too often.
type limitError struct {
	perSecond int
	again     time.Duration // when it would be in time
}

func (e *limitError) Error() string {
	return fmt.Sprintf("more than %d registrations a second", e.perSecond)
}

// take notes that a caller does something n times, at most input.MaxEntries, unless that is too
// often.
func (l *limiter) take(caller string, n int) error {
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
	if now.Sub(l.swept) > forgetAfter {
		fresh := map[string]*rate.Limiter{}
		for name, is := range l.callers {
			if is.TokensAt(now) < float64(is.Burst()) { // the others are as if they had never called
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
