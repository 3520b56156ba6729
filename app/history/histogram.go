package history

import (
	"math"
	"math/bits"
	"time"
)

const (
	// Buckets is the number of buckets of a Histogram.
	Buckets = 35

	shortest = 500 * time.Microsecond // the upper bound of the first bucket
)

// bounds are the upper bounds of the buckets, each √2 times the one before: 0.5 ms to 66 s.
var bounds = func() (b [Buckets]time.Duration) {
	for n := range b {
		b[n] = time.Duration(math.Round(float64(shortest) * math.Pow(2, float64(n)/2)))
	}
	return b
}()

// Histogram counts latencies in buckets. Histograms of different workers and times are added
// bucket by bucket.
type Histogram [Buckets]uint32

// Add counts one latency.
func (h *Histogram) Add(latency time.Duration) { h[bucketOf(latency)]++ }

// bucketOf returns the bucket of a latency. Longer ones than the last bound are in the last bucket.
func bucketOf(latency time.Duration) int {
	if latency <= shortest {
		return 0
	}
	n := 2 * (bits.Len64(uint64(latency/shortest)) - 1)
	if n >= Buckets {
		return Buckets - 1
	}
	for n < Buckets-1 && bounds[n] < latency {
		n++
	}
	return n
}

// Quantile returns the latency below which the fraction q of all is, 0 without any. It
// interpolates in the bucket that has it, so the result is within a factor of √2 of the exact
// value, or within 0.5 ms below 0.5 ms.
func (h *Histogram) Quantile(q float64) time.Duration {
	total := 0.0
	for _, count := range h {
		total += float64(count)
	}
	rank := q * total
	for n, count := range h {
		if count == 0 || rank > float64(count) {
			rank -= float64(count)
			continue
		}
		part := max(rank, 0) / float64(count)
		if n == 0 {
			return time.Duration(part * float64(shortest))
		}
		return time.Duration(float64(bounds[n-1]) * math.Pow(2, part/2))
	}
	return 0
}

func (h *Histogram) merge(o *Histogram) {
	for n, count := range o {
		h[n] = plus(h[n], count)
	}
}

// plus adds counts. It returns the largest count instead of an overflow.
func plus(a, b uint32) uint32 {
	if sum := a + b; sum >= a {
		return sum
	}
	return math.MaxUint32
}
