package ownership

import "time"

// Delays of probes that do not wait for a whole interval.
const (
	// Undecided is the delay while an instance is starting or has a streak.
	Undecided = time.Second
	// Again is the delay after a first failure and after a first pass. The second result decides.
	Again = 200 * time.Millisecond
)

// Pace is how soon the next probe of an instance is due.
type Pace uint8

// The paces.
const (
	Steady Pace = iota // once an interval, at the instance's phase
	Soon               // after Undecided
	Now                // after Again
)

// Due returns when the next probe of an instance is due, in ms, after a result at now. It is a pure
// function without stored state. A steady instance has a phase of its own within its interval, so
// that the probes of a thousand instances that were registered in the same second spread over the
// interval. Due returns a time within the interval after now.
func Due(hash uint64, interval time.Duration, p Pace, now int64) int64 {
	ms := max(interval.Milliseconds(), 1)
	switch p {
	case Now:
		return now + min(Again.Milliseconds(), ms)
	case Soon:
		return now + min(Undecided.Milliseconds(), ms)
	case Steady:
	}
	phase := int64(hash >> 8 % uint64(ms)) //nolint:gosec // the remainder is below ms; the low bits are the shard
	return now + ms - ((now-phase)%ms+ms)%ms
}
