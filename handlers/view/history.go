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
