package history

import (
	"encoding/binary"
	"errors"
	"math"
	"math/bits"
	"time"
)

// Record is the statistics of one bucket. The zero value observed nothing.
type Record struct {
	Observed time.Duration // how long a worker watched the availability; the rest of the bucket is unknown
	Up       time.Duration // the part of Observed with a healthy instance, of a vhost with a routable backend

	Passed    uint32 // checks
	Failed    uint32
	Flips     uint32 // changes of instances from healthy to unhealthy and back
	Joined    uint32 // new instances
	Instances uint32 // the most at once

	Latency Histogram // of passed checks
}

// Check counts a result.
func (r *Record) Check(passed bool, latency time.Duration) {
	if !passed {
		r.Failed++
		return
	}
	r.Passed++
	r.Latency.Add(latency)
}

// IsZero reports whether the record says nothing.
func (r *Record) IsZero() bool { return *r == Record{} }

// Merge adds another record: it sums everything but Instances, of which it keeps the larger.
func (r *Record) Merge(o *Record) {
	r.Observed += o.Observed
	r.Up += o.Up
	r.Passed, r.Failed = plus(r.Passed, o.Passed), plus(r.Failed, o.Failed)
	r.Flips, r.Joined = plus(r.Flips, o.Flips), plus(r.Joined, o.Joined)
	r.Instances = max(r.Instances, o.Instances)
	r.Latency.merge(&o.Latency)
}

// Availability returns the share of the observed time that was up, and whether any was observed.
func (r *Record) Availability() (share float64, known bool) {
	if r.Observed <= 0 {
		return 0, false
	}
	return min(max(float64(r.Up)/float64(r.Observed), 0), 1), true
}

// Contribution is an addition to the fine bucket of a time.
type Contribution struct {
	At     time.Time // by Redis's clock, any time in the bucket
	Record Record
}

const (
	version = 1

	// A closed record keeps the shape of its histogram and not its counts: closedRun buckets,
	// the largest of which is at most closedCount.
	closedRun   = 7
	closedCount = 127
)

var errEncoding = errors.New("not a record of history")

// Append encodes the contribution.
func (c *Contribution) Append(b []byte) []byte {
	b = binary.AppendVarint(append(b, version), c.At.UnixMilli())
	return c.Record.append(b)
}

// ReadContribution decodes a contribution.
func ReadContribution(b []byte) (c Contribution, err error) {
	if len(b) == 0 || b[0] != version {
		return c, errEncoding
	}
	at, size := binary.Varint(b[1:])
	if size <= 0 {
		return c, errEncoding
	}
	c.At = time.UnixMilli(at)
	_, err = c.Record.read(b[1+size:])
	return c, err
}

// append encodes the record. Durations are rounded to milliseconds.
func (r *Record) append(b []byte) []byte {
	observed, up := r.Observed.Milliseconds(), r.Up.Milliseconds()
	for _, ms := range [...]int64{observed, observed - up} {
		b = binary.AppendUvarint(b, uint64(max(ms, 0)))
	}
	for _, n := range [...]uint32{r.Passed, r.Failed, r.Flips, r.Joined, r.Instances} {
		b = binary.AppendUvarint(b, uint64(n))
	}
	first, end, scale := r.Latency.first(), r.Latency.end(), r.Latency.scale()
	b = append(b, byte(first), byte(end-first), byte(scale)) //nolint:gosec // below Buckets and 32
	for n := first; n < end; n++ {
		b = binary.AppendUvarint(b, uint64(r.Latency[n]>>scale))
	}
	return b
}

// read decodes a record, and returns the rest.
func (r *Record) read(b []byte) (rest []byte, err error) {
	d := decoder{b: b}
	observed, down := d.duration(), d.duration()
	r.Observed, r.Up = observed, observed-down
	for _, n := range [...]*uint32{&r.Passed, &r.Failed, &r.Flips, &r.Joined, &r.Instances} {
		*n = d.count()
	}
	first, length, scale := int(d.byte()), int(d.byte()), d.byte()
	if first+length > Buckets || scale >= 32 {
		return nil, errEncoding
	}
	for n := first; n < first+length; n++ {
		product := uint64(d.count()) << scale
		r.Latency[n] = uint32(min(product, math.MaxUint32))
	}
	if d.bad {
		return nil, errEncoding
	}
	return d.b, nil
}

// close makes the histogram small, for a bucket that is over: latencies at the ends move into
// closedRun buckets, and counts become multiples of a scale.
func (h *Histogram) close() {
	first, end := h.first(), h.end()
	for ; end-first > closedRun; first, end = h.first(), h.end() {
		if h[first] <= h[end-1] {
			h[first+1], h[first] = plus(h[first+1], h[first]), 0
		} else {
			h[end-2], h[end-1] = plus(h[end-2], h[end-1]), 0
		}
	}
	largest := uint32(0)
	for _, count := range h {
		largest = max(largest, count)
	}
	scale := uint32(1)
	for largest/scale > closedCount {
		scale *= 2
	}
	for n, count := range h {
		if count > 0 {
			h[n] = max(1, min((count-1)/scale+1, closedCount)) * scale
		}
	}
}

func (h *Histogram) first() int {
	for n, count := range h {
		if count > 0 {
			return n
		}
	}
	return 0
}

func (h *Histogram) end() int {
	for n := Buckets; n > 0; n-- {
		if h[n-1] > 0 {
			return n
		}
	}
	return 0
}

// scale returns the exponent of the largest power of two that divides all counts.
func (h *Histogram) scale() int {
	all := uint32(0)
	for _, count := range h {
		all |= count
	}
	if all == 0 {
		return 0
	}
	return bits.TrailingZeros32(all)
}

type decoder struct {
	b   []byte
	bad bool
}

func (d *decoder) signed() int64 {
	n, size := binary.Varint(d.b)
	d.skip(size)
	return n
}

func (d *decoder) duration() time.Duration {
	n, size := binary.Uvarint(d.b)
	d.skip(size)
	d.bad = d.bad || n > math.MaxInt32         // three weeks: no bucket is longer
	return time.Duration(n) * time.Millisecond //nolint:gosec // else bad
}

func (d *decoder) count() uint32 {
	n, size := binary.Uvarint(d.b)
	d.skip(size)
	d.bad = d.bad || n > math.MaxUint32
	return uint32(n) //nolint:gosec // else bad
}

func (d *decoder) byte() byte {
	if len(d.b) == 0 {
		d.bad = true
		return 0
	}
	n := d.b[0]
	d.skip(1)
	return n
}

func (d *decoder) skip(size int) {
	if size <= 0 {
		d.bad = true
		return
	}
	d.b = d.b[size:]
}
