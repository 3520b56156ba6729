package handlers

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	stats "rollcall/app/history"
	"rollcall/handlers/input"
)

// Histories reads the statistics of services and vhosts.
type Histories interface {
	// Series reads several series, in their order.
	Series(ctx context.Context, names ...string) ([]*stats.Series, error)
	// Departed lists the last instances of a service that left within a day, newest first.
	Departed(ctx context.Context, service string) ([]stats.Departure, error)
}

// ranges are the values of ?range=.
var ranges = map[string]time.Duration{"1h": time.Hour, "24h": 24 * time.Hour, "7d": 7 * 24 * time.Hour, "30d": 30 * 24 * time.Hour}

// statistics are those of a bucket or of a range. What is not known is null.
type statistics struct {
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

type bucketView struct {
	At time.Time `json:"at"`
	statistics
}

type vhostHistory struct {
	Host         string   `json:"host"`
	Availability *float64 `json:"availability"`
	Observed     float64  `json:"observed_seconds"`
	Unknown      float64  `json:"unknown_seconds"`
}

func statisticsOf(r stats.Record, unknown time.Duration) statistics {
	s := statistics{
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

func totalOf(points []stats.Point, now time.Time) statistics {
	unknown := time.Duration(0)
	for _, p := range points {
		unknown += p.Unknown(now)
	}
	return statisticsOf(stats.Total(points), unknown)
}

// serviceHistory answers with the history of a service.
type serviceHistory struct {
	reads
	histories Histories
	now       func() time.Time
}

// get answers with the statistics of a service, of its present vhosts, and the instances that left
// within a day.
func (a serviceHistory) get(c echo.Context) error {
	query := struct {
		Range string `field:"range" validate:"oneof=1h 24h 7d 30d"`
	}{Range: "24h"}
	if err := input.Query(c.Request(), &query); err != nil {
		return err
	}
	if _, err := a.age(); err != nil {
		return err
	}
	ctx, name := c.Request().Context(), c.Param("name")
	instances := a.replica.Instances(name)
	var hosts []string
	for _, i := range instances {
		hosts = append(hosts, i.Hosts...)
	}
	slices.Sort(hosts)
	hosts = slices.Compact(hosts)
	names := []string{stats.ServiceSeries(name)}
	for _, h := range hosts {
		names = append(names, stats.VhostSeries(h))
	}
	series, err := a.histories.Series(ctx, names...)
	if err != nil {
		return err
	}
	departed, err := a.histories.Departed(ctx, name)
	if err != nil {
		return err
	}
	if len(instances) == 0 && series[0].Empty() && len(departed) == 0 {
		return fmt.Errorf("service %s: %w", input.Quote(name), app.ErrNotFound)
	}
	now := a.now()
	points := series[0].Range(now, ranges[query.Range])
	answer := struct {
		Service  string            `json:"service"`
		Range    string            `json:"range"`
		Bucket   float64           `json:"bucket_seconds"`
		Total    statistics        `json:"total"`
		Buckets  []bucketView      `json:"buckets"`
		Vhosts   []vhostHistory    `json:"vhosts"`
		Departed []stats.Departure `json:"departed"`
	}{
		Service: name, Range: query.Range, Bucket: points[0].Width.Seconds(), Total: totalOf(points, now),
		Buckets: []bucketView{}, Vhosts: []vhostHistory{}, Departed: departed,
	}
	for _, p := range points {
		answer.Buckets = append(answer.Buckets, bucketView{p.At.UTC(), statisticsOf(p.Record, p.Unknown(now))})
	}
	for n, h := range hosts {
		total := totalOf(series[n+1].Range(now, ranges[query.Range]), now)
		answer.Vhosts = append(answer.Vhosts, vhostHistory{h, total.Availability, total.Observed, total.Unknown})
	}
	return c.JSON(http.StatusOK, answer)
}
