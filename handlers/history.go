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
	past, err := a.read(c.Request().Context(), c.Param("name"))
	if err != nil {
		return err
	}
	answer := past.over(ranges[query.Range], a.now())
	answer.Range = query.Range
	return c.JSON(http.StatusOK, answer)
}

// read reads the history of a service. It returns ErrNotFound if the service has neither an instance nor a history.
func (a serviceHistory) read(ctx context.Context, name string) (servicePast, error) {
	instances := a.replica.Instances(name)
	past := servicePast{name: name, hosts: hostsOf(instances)}
	series, err := a.histories.Series(ctx, past.seriesNames()...)
	if err != nil {
		return past, err
	}
	past.service, past.vhosts = series[0], series[1:]
	if past.departed, err = a.histories.Departed(ctx, name); err != nil {
		return past, err
	}
	if len(instances) == 0 && past.service.Empty() && len(past.departed) == 0 {
		return past, fmt.Errorf("service %s: %w", input.Quote(name), app.ErrNotFound)
	}
	return past, nil
}

// hostsOf returns the vhosts of instances, sorted, each once.
func hostsOf(instances []app.Instance) []string {
	var hosts []string
	for _, i := range instances {
		hosts = append(hosts, i.Hosts...)
	}
	slices.Sort(hosts)
	return slices.Compact(hosts)
}

// servicePast is the history of a service: its statistics, the statistics of each of its present vhosts, and the
// instances that left.
type servicePast struct {
	name     string
	service  *stats.Series
	hosts    []string
	vhosts   []*stats.Series // in the order of hosts
	departed []stats.Departure
}

// seriesNames returns the names of the service's series and of the series of its vhosts, in their order.
func (p servicePast) seriesNames() []string {
	names := []string{stats.ServiceSeries(p.name)}
	for _, h := range p.hosts {
		names = append(names, stats.VhostSeries(h))
	}
	return names
}

// serviceHistoryAnswer is the answer to GET /v1/services/:name/history.
type serviceHistoryAnswer struct {
	Service  string              `json:"service"`
	Range    string              `json:"range"`
	Bucket   float64             `json:"bucket_seconds"`
	Total    view.Statistics     `json:"total"`
	Buckets  []view.Bucket       `json:"buckets"`
	Vhosts   []view.VhostHistory `json:"vhosts"`
	Departed []stats.Departure   `json:"departed"`
}

// over returns the history over a span of time until now.
func (p servicePast) over(span time.Duration, now time.Time) serviceHistoryAnswer {
	points := p.service.Range(now, span)
	answer := serviceHistoryAnswer{
		Service: p.name, Bucket: points[0].Width.Seconds(), Total: view.TotalOf(points, now),
		Buckets: []view.Bucket{}, Vhosts: []view.VhostHistory{}, Departed: p.departed,
	}
	for _, point := range points {
		answer.Buckets = append(answer.Buckets, view.Bucket{At: point.At.UTC(), Statistics: view.StatisticsOf(point.Record, point.Unknown(now))})
	}
	for n, h := range p.hosts {
		total := view.TotalOf(p.vhosts[n].Range(now, span), now)
		answer.Vhosts = append(answer.Vhosts, view.VhostHistory{Host: h, Availability: total.Availability, Observed: total.Observed, Unknown: total.Unknown})
	}
	return answer
}
