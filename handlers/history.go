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
	"rollcall/handlers/view"
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
		Service  string              `json:"service"`
		Range    string              `json:"range"`
		Bucket   float64             `json:"bucket_seconds"`
		Total    view.Statistics     `json:"total"`
		Buckets  []view.Bucket       `json:"buckets"`
		Vhosts   []view.VhostHistory `json:"vhosts"`
		Departed []stats.Departure   `json:"departed"`
	}{
		Service: name, Range: query.Range, Bucket: points[0].Width.Seconds(), Total: view.TotalOf(points, now),
		Buckets: []view.Bucket{}, Vhosts: []view.VhostHistory{}, Departed: departed,
	}
	for _, p := range points {
		answer.Buckets = append(answer.Buckets, view.Bucket{At: p.At.UTC(), Statistics: view.StatisticsOf(p.Record, p.Unknown(now))})
	}
	for n, h := range hosts {
		total := view.TotalOf(series[n+1].Range(now, ranges[query.Range]), now)
		answer.Vhosts = append(answer.Vhosts, view.VhostHistory{Host: h, Availability: total.Availability, Observed: total.Observed, Unknown: total.Unknown})
	}
	return c.JSON(http.StatusOK, answer)
}
