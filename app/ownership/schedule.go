package ownership

import "time"

// Delays of probes that do not wait for a whole interval.
const (
	// Undecided is the delay while an instance is starting or has a streak.
	Undecided = time.Second
	// Again is the delay after a first failure and after a first pass: the second result
	// decides.
	Again = 200 * time.Millisecond
)

// Pace is how soon an instance is probed again.
type Pace uint8

// The paces.
const (
	Steady Pace = iota // once an interval, at the instance's phase
	Soon               // after Undecided
	Now                // after Again
)

// Due is when the next probe of an instance is due, in ms, after one whose result was
// reached at now. It is a pure function: nothing about it is stored. A steady instance
// is probed at a phase of its own within its interval, so that a thousand instances that
// were registered in the same second are not probed in the same instant for ever.
// The result is later than now by at most the interval.
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
