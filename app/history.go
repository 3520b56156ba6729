package app

import (
	"encoding/binary"
	"math"
	"time"
)

// Recent is what the owner of an instance has in memory beside the instance's record.
type Recent struct {
	Results []Result  // the last results, oldest first
	Due     time.Time // when the next probe is due; zero: none is
	At      time.Time // when the owner wrote this down; zero: never

	Disputed bool // another worker reaches the instance, and its owner does not
}

// historyLength is the number of results that a History keeps.
const historyLength = 20

// packedLength is the length of a packed result in bytes: 45 bits for the time in ms since 1970, 1
// for the pass, 10 for the code and 16 for the latency in ms.
const packedLength = 9

// History is the last results of an instance, packed, without their details. A worker has one for
// each of its instances. The zero value is empty.
type History struct {
	n       uint8 // bytes in use
	oldest  uint8 // where the oldest result begins; not 0 only in a full history
	results [historyLength * packedLength]byte
}

// Add appends a result. It drops the oldest one if the history is full.
func (h *History) Add(r Result) {
	to := h.results[h.oldest:] // of a full history the oldest result is overwritten
	if int(h.n) < len(h.results) {
		to = h.results[h.n:]
		h.n += packedLength
	} else if h.oldest += packedLength; int(h.oldest) == len(h.results) {
		h.oldest = 0
	}
	latency := uint64(min(max(r.Latency.Milliseconds(), 0), math.MaxUint16))
	n := uint64(r.At.UnixMilli())<<19 | uint64(r.Code&1023)<<8 | latency>>8
	if r.Passed {
		n |= 1 << 18
	}
	binary.BigEndian.PutUint64(to, n)
	to[packedLength-1] = byte(latency & 255)
}

// Packed returns the history in its stored form. The slice is valid until the next Add.
func (h *History) Packed() []byte {
	if h.oldest > 0 {
		results := h.results
		n := copy(h.results[:], results[h.oldest:])
		copy(h.results[n:], results[:h.oldest])
		h.oldest = 0
	}
	return h.results[:h.n]
}

// Unpack replaces the history by a stored one. It takes the newest results of one that is too long.
func (h *History) Unpack(packed []byte) {
	packed = packed[:len(packed)/packedLength*packedLength]
	packed = packed[max(0, len(packed)-len(h.results)):]
	h.n, h.oldest = uint8(copy(h.results[:], packed)), 0 //nolint:gosec // at most 180
}

// Results returns the results, oldest first.
func (h *History) Results() []Result {
	results := make([]Result, 0, int(h.n)/packedLength)
	for b := h.Packed(); len(b) >= packedLength; b = b[packedLength:] {
		n := binary.BigEndian.Uint64(b)
		results = append(results, Result{
			At:      time.UnixMilli(int64(n >> 19)),
			Passed:  n>>18&1 == 1,
			Code:    Code(n >> 8 & 1023),
			Latency: time.Duration(n&255<<8|uint64(b[8])) * time.Millisecond, //nolint:gosec // 16 bits
		})
	}
	return results
}
