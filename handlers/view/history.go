package view

import (
	"time"

	"rollcall/app/history"
)

// Statistics are the statistics of a bucket or of a range. An unknown value is null.
type Statistics struct {
	Availability *float64 `json:"availability"` // from 0 to 1, of the observed time
	Observed     float64  `json:"observed_seconds"`
	Unknown      float64  `json:"unknown_seconds"`
	Passed       uint32   `json:"passed"`
	Failed       uint32   `json:"failed"`
	Flips        uint32   `json:"flips"`
	Joined       uint32   `json:"joined"`
	Instances    uint32   `json:"instances"`
	P50          *float64 `json:"p50_ms"`
	P95          *float64 `json:"p95_ms"`
}

// Bucket is the statistics of a part of a range.
type Bucket struct {
	At time.Time `json:"at"`
	Statistics
}

// VhostHistory is the availability of a vhost.
type VhostHistory struct {
	Host         string   `json:"host"`
	Availability *float64 `json:"availability"`
	Observed     float64  `json:"observed_seconds"`
	Unknown      float64  `json:"unknown_seconds"`
}

// StatisticsOf returns the statistics of a record. unknown is the time without a record.
func StatisticsOf(r history.Record, unknown time.Duration) Statistics {
	s := Statistics{
		Observed: r.Observed.Seconds(), Unknown: unknown.Seconds(),
		Passed: r.Passed, Failed: r.Failed, Flips: r.Flips, Joined: r.Joined, Instances: r.Instances,
	}
	if share, known := r.Availability(); known {
		s.Availability = &share
	}
	if r.Passed > 0 {
		s.P50, s.P95 = milliseconds(r.Latency.Quantile(0.5)), milliseconds(r.Latency.Quantile(0.95))
	}
	return s
}

func milliseconds(d time.Duration) *float64 {
	ms := float64(d.Round(10*time.Microsecond)) / float64(time.Millisecond)
	return &ms
}

// TotalOf returns the statistics of all points together.
func TotalOf(points []history.Point, now time.Time) Statistics {
	unknown := time.Duration(0)
	for _, p := range points {
		unknown += p.Unknown(now)
	}
	return StatisticsOf(history.Total(points), unknown)
}

// Past is the history of a service: its statistics, the statistics of each of its present vhosts, and the instances that
// left.
type Past struct {
	Service  string
	Series   *history.Series
	Hosts    []string
	Vhosts   []*history.Series // in the order of Hosts
	Departed []history.Departure
}

// History is the answer to GET /v1/services/:name/history.
type History struct {
	Service  string              `json:"service"`
	Range    string              `json:"range"`
	Bucket   float64             `json:"bucket_seconds"`
	Total    Statistics          `json:"total"`
	Buckets  []Bucket            `json:"buckets"`
	Vhosts   []VhostHistory      `json:"vhosts"`
	Departed []history.Departure `json:"departed"`
}

// Over returns the history over a span of time until now, without the name of the span.
func (p Past) Over(span time.Duration, now time.Time) History {
	points := p.Series.Range(now, span)
	answer := History{
		Service: p.Service, Bucket: points[0].Width.Seconds(), Total: TotalOf(points, now),
		Buckets: []Bucket{}, Vhosts: []VhostHistory{}, Departed: p.Departed,
	}
	for _, point := range points {
		answer.Buckets = append(answer.Buckets, Bucket{At: point.At.UTC(), Statistics: StatisticsOf(point.Record, point.Unknown(now))})
	}
	for n, h := range p.Hosts {
		total := TotalOf(p.Vhosts[n].Range(now, span), now)
		answer.Vhosts = append(answer.Vhosts, VhostHistory{Host: h, Availability: total.Availability, Observed: total.Observed, Unknown: total.Unknown})
	}
	return answer
}
