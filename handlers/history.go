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
	answer := past.Over(ranges[query.Range], a.now())
	answer.Range = query.Range
	return c.JSON(http.StatusOK, answer)
}

// read reads the history of a service. It returns ErrNotFound if the service has neither an instance nor a history.
func (a serviceHistory) read(ctx context.Context, name string) (view.Past, error) {
	instances := a.replica.Instances(name)
	past := view.Past{Service: name, Hosts: hostsOf(instances)}
	series, err := a.histories.Series(ctx, seriesOf(name, past.Hosts)...)
	if err != nil {
		return past, err
	}
	past.Series, past.Vhosts = series[0], series[1:]
	if past.Departed, err = a.histories.Departed(ctx, name); err != nil {
		return past, err
	}
	if len(instances) == 0 && past.Series.Empty() && len(past.Departed) == 0 {
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

// seriesOf returns the names of a service's series and of the series of vhosts, in their order.
func seriesOf(service string, vhosts []string) []string {
	names := []string{stats.ServiceSeries(service)}
	for _, h := range vhosts {
		names = append(names, stats.VhostSeries(h))
	}
	return names
}
