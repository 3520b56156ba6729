package history

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"time"
)

// Scale is the width of the buckets, and how many of them a series keeps.
type Scale struct {
	Fine, Coarse         time.Duration // Coarse is a multiple of Fine
	FineKept, CoarseKept int
}

// Default is minutes for three hours, and hours for 30 days.
var Default = Scale{Fine: time.Minute, Coarse: time.Hour, FineKept: 180, CoarseKept: 30 * 24}

// GroupSize is how many coarse buckets are encoded together.
const GroupSize = 24

// The newest buckets keep exact histograms: contributions to them may still come.
const (
	openFine   = 8
	openCoarse = 2
)

// Index returns the number of the bucket of a time.
func Index(at time.Time, width time.Duration) int64 {
	ms, w := at.UnixMilli(), width.Milliseconds()
	if ms < 0 {
		return (ms+1)/w - 1
	}
	return ms / w
}

// Group returns the number of the group that holds the coarse bucket of a time.
func (s Scale) Group(at time.Time) int64 { return floorDiv(Index(at, s.Coarse), GroupSize) }

func floorDiv(n, by int64) int64 {
	if n < 0 {
		return (n+1)/by - 1
	}
	return n / by
}

// Series is the history of a service or vhost. The buckets of a series are the groups that it was
// read with, and what was added. Bounds are numbers of buckets and not ages, so that a step of
// Redis's clock removes nothing but the oldest buckets.
type Series struct {
	scale        Scale
	fine, coarse map[int64]*Record
}

// NewSeries returns an empty series.
func NewSeries(s Scale) *Series {
	return &Series{scale: s, fine: map[int64]*Record{}, coarse: map[int64]*Record{}}
}

// Add adds a contribution to its fine and its coarse bucket.
func (s *Series) Add(c Contribution) {
	add(s.fine, Index(c.At, s.scale.Fine), &c.Record)
	add(s.coarse, Index(c.At, s.scale.Coarse), &c.Record)
}

func add(to map[int64]*Record, n int64, r *Record) {
	if to[n] == nil {
		to[n] = &Record{}
	}
	to[n].Merge(r)
}

// EncodeFine encodes the newest fine buckets.
func (s *Series) EncodeFine() []byte {
	numbers := slices.Sorted(maps.Keys(s.fine))
	numbers = numbers[max(0, len(numbers)-s.scale.FineKept):]
	return encode(s.fine, numbers, openFine)
}

// EncodeGroups encodes the coarse buckets by group.
func (s *Series) EncodeGroups() map[int64][]byte {
	byGroup := map[int64][]int64{}
	for _, n := range slices.Sorted(maps.Keys(s.coarse)) {
		g := floorDiv(n, GroupSize)
		byGroup[g] = append(byGroup[g], n)
	}
	groups := make(map[int64][]byte, len(byGroup))
	for g, numbers := range byGroup {
		groups[g] = encode(s.coarse, numbers, openCoarse)
	}
	return groups
}

// Groups is how many groups of coarse buckets are kept.
func (s Scale) Groups() int { return s.CoarseKept/GroupSize + 1 }

// encode writes buckets in ascending order. It closes the histograms of all but the open newest ones.
func encode(of map[int64]*Record, numbers []int64, open int) []byte {
	b := []byte{version}
	last := int64(0)
	for k, n := range numbers {
		r := *of[n]
		if k < len(numbers)-open {
			r.Latency.close()
		}
		b = binary.AppendVarint(b, n-last)
		b = r.append(b)
		last = n
	}
	return b
}

// ReadFine adds encoded fine buckets to the series.
func (s *Series) ReadFine(b []byte) error { return read(s.fine, b) }

// ReadGroup adds an encoded group of coarse buckets to the series.
func (s *Series) ReadGroup(b []byte) error { return read(s.coarse, b) }

func read(to map[int64]*Record, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	if b[0] != version {
		return errEncoding
	}
	n := int64(0)
	for b = b[1:]; len(b) > 0; {
		d := decoder{b: b}
		n += d.signed()
		var r Record
		rest, err := r.read(d.b)
		if d.bad || err != nil {
			return errEncoding
		}
		add(to, n, &r)
		b = rest
	}
	return nil
}

// Point is one bucket of an answer.
type Point struct {
	At     time.Time // when the bucket begins, by Redis's clock
	Width  time.Duration
	Record Record
}

// Unknown returns the part of the bucket that no worker observed, of a bucket that has lasted until now.
func (p Point) Unknown(now time.Time) time.Duration {
	lasted := min(p.Width, max(now.Sub(p.At), 0))
	return max(0, lasted-p.Record.Observed)
}

// Range returns the buckets of the time before now, oldest first, without a gap: fine ones if the
// series keeps fine ones for so long, else coarse ones. The last one is the bucket of now.
func (s *Series) Range(now time.Time, length time.Duration) []Point {
	width, of := s.scale.Coarse, s.coarse
	if length <= s.scale.Fine*time.Duration(s.scale.FineKept) {
		width, of = s.scale.Fine, s.fine
	}
	last := Index(now, width)
	count := int64(length / width)
	points := make([]Point, 0, count)
	for n := last - count + 1; n <= last; n++ {
		p := Point{At: time.UnixMilli(n * width.Milliseconds()), Width: width}
		if r := of[n]; r != nil {
			p.Record = *r
		}
		points = append(points, p)
	}
	return points
}

// Total merges points.
func Total(points []Point) (r Record) {
	for n := range points {
		r.Merge(&points[n].Record)
	}
	return r
}

// Empty reports whether the series has no buckets.
func (s *Series) Empty() bool { return len(s.fine)+len(s.coarse) == 0 }

// Batch is contributions that a worker sends in one step. Its worker and number name it: the
// store adds a batch once, however often the worker sends it.
type Batch struct {
	Worker string
	Number int64          // larger than of all batches before
	Terms  map[int]string // by shard: the terms of the shards whose things contribute
	Series map[string]Contribution
}

// ServiceSeries is the name of the series of a service.
func ServiceSeries(name string) string { return "service:" + name }

// NameOf returns the service or vhost of a series.
func NameOf(series string) string {
	_, name, _ := strings.Cut(series, ":")
	return name
}

// VhostSeries is the name of the series of a vhost.
func VhostSeries(host string) string { return "vhost:" + host }

// Departure is an instance that has left.
type Departure struct {
	Instance string    `json:"instance"`
	At       time.Time `json:"at"`
	From     string    `json:"from"` // its state before
	Reason   string    `json:"reason"`
	Actor    string    `json:"actor,omitempty"` // a token's name; empty: Rollcall itself, or any caller
}
