package page

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/labstack/echo/v4"

	"rollcall/app"
	"rollcall/app/diagnose"
	"rollcall/handlers/input"
)

// vhostOfInstance is a vhost of an instance, and the reason why the instance gets its requests or not.
type vhostOfInstance struct {
	Host, Why string
	Routed    bool
	Only      bool // no other instance of the vhost is routed
}

// instanceBody is the body of an instance's page.
type instanceBody struct {
	app.Instance
	Condition, Why               string
	Since, Registered, Next, End moment
	Until                        moment // end of the override
	Ends, Unless                 string // outcome at End, and the condition that prevents it
	Target                       string
	Chart                        chart
	Vhosts                       []vhostOfInstance
	Unread                       bool // the registry is out of reach: results or vhosts are missing
	Events                       []eventRow
	Hold                         time.Duration // drain period
	Calm                         time.Duration // health that ends flapping
	Leaving                      bool
	Flaps                        bool
}

// instance shows an instance: its state and the reason, its last results, its vhosts, its events and the actions of an
// operator. For an instance that has gone it shows the events.
func (p *Page) instance(c echo.Context, _ []app.Instance) (view, error) {
	id := c.Param("id")
	events := p.latest(2*panelRows, func(e app.Event) bool { return e.Instance == id })
	i, recent, err := p.instanceAndResults(c, id)
	if errors.Is(err, app.ErrNotFound) && len(events) > 0 {
		return view{template: "gone", Title: id, Section: "instances", Body: events}, nil
	}
	if errors.Is(err, app.ErrNotFound) {
		return view{}, input.Hint(fmt.Errorf("instance %s: %w", input.Quote(id), app.ErrNotFound), "look for it among the instances")
	}
	if err != nil && !unread(err) {
		return view{}, err
	}
	body := p.instanceBody(i, recent, events, err != nil)
	if body.Vhosts, err = p.vhostsOfInstance(c, i); err != nil && !unread(err) {
		return view{}, err
	}
	body.Unread = body.Unread || err != nil
	return view{template: "instance", Title: id, Section: "instances", Body: body}, nil
}

func (p *Page) instanceBody(i app.Instance, recent app.Recent, events []eventRow, unread bool) instanceBody {
	body := instanceBody{
		Instance: i, Condition: conditionOf(i), Since: p.moment(i.ChangedAt), Registered: p.moment(i.RegisteredAt),
		Next: p.moment(recent.Due), End: p.moment(i.Deadline()), Until: p.moment(i.Override.Until),
		Target: diagnose.Target(i), Chart: chartOf(recent.Results), Unread: unread, Events: events, Hold: p.DrainPeriod, Calm: app.CalmAfter,
		Leaving: i.State == app.Draining, Flaps: i.Flapping(p.Now()),
	}
	if results := recent.Results; len(results) > 0 {
		body.Chart.First, body.Chart.Last = p.moment(results[0].At), p.moment(results[len(results)-1].At)
	}
	body.Ends, body.Unless = diagnose.Deadline(i)
	body.Why = diagnose.Instance(i, recent)
	if unread {
		body.Why = "Last known state: " + diagnose.Summary(i) + "."
	}
	if i.State == app.Draining {
		if at := slices.IndexFunc(events, func(e eventRow) bool { return e.Kind == app.EventDraining }); at >= 0 {
			body.Why = "It is leaving: " + events[at].Reason + ". That is final."
		}
	}
	return body
}

// instanceAndResults reads an instance and its last results, oldest first. If the registry is out of reach, it returns
// the instance in the replica together with the error.
func (p *Page) instanceAndResults(c echo.Context, id string) (app.Instance, app.Recent, error) {
	_, err := p.Replica.Age(time.Now())
	var i app.Instance
	if err == nil {
		i, err = p.Registry.Get(c.Request().Context(), id)
	}
	if unread(err) {
		known, ok := p.Replica.Instance(id)
		if !ok {
			return known, app.Recent{}, fmt.Errorf("instance %s: %w", id, app.ErrNotFound)
		}
		return known, app.Recent{}, err
	}
	if err != nil {
		return i, app.Recent{}, err
	}
	recent, err := p.Store.Recent(c.Request().Context(), id)
	return i, recent, err
}

func (p *Page) vhostsOfInstance(c echo.Context, i app.Instance) (list []vhostOfInstance, err error) {
	if len(i.Hosts) == 0 {
		return nil, nil
	}
	frontends, err := p.readVhosts(c)
	for _, f := range frontends {
		if !slices.Contains(i.Hosts, f.Host) {
			continue
		}
		listed, unlisted := diagnose.Backends(f, p.Replica.Instance)
		backends := append(listed, unlisted...)
		others := slices.ContainsFunc(backends, func(b diagnose.Backend) bool { return b.Routed && b.Instance != i.ID })
		if at := slices.IndexFunc(backends, func(b diagnose.Backend) bool { return b.Instance == i.ID }); at >= 0 { // of weight equal ones
			b := backends[at]
			list = append(list, vhostOfInstance{f.Host, b.Reason, b.Routed, b.Routed && !others})
		}
	}
	return list, err
}

// chart is the last results as bars, oldest first.
type chart struct {
	Bars    []chartBar
	Width   int
	Top     string // label of the axis's end; the axis begins at zero
	Middle  string
	Summary string // for readers who cannot see the chart

	First, Last moment // times of the oldest and the newest result
}

// chartBar is one result.
type chartBar struct {
	X, Y, Height int
	Passed       bool
	At           time.Time
	Reason       string
	Latency      string
}

// Size of a chart, in units of its view box.
const (
	chartStep   = 16
	chartHeight = 48
	chartBars   = 20
)

// chartOf draws latencies on an axis from zero to a round figure.
func chartOf(results []app.Result) chart {
	c := chart{Width: max(len(results), chartBars) * chartStep}
	slowest, failures := time.Millisecond, 0
	for _, r := range results {
		slowest = max(slowest, r.Latency)
		if !r.Passed {
			failures++
		}
	}
	top := niceTop(slowest)
	c.Top, c.Middle = latency(top), latency(top/2)
	for n, r := range results {
		b := chartBar{
			X: n*chartStep + 2, Height: max(2, int(chartHeight*r.Latency/top)), Passed: r.Passed,
			At: r.At.UTC(), Reason: r.Reason(), Latency: latency(r.Latency),
		}
		b.Y = chartHeight - b.Height
		c.Bars = append(c.Bars, b)
	}
	c.Summary = fmt.Sprintf("The last %d results, oldest first: %d passed, %d failed. The slowest took %s.",
		len(results), len(results)-failures, failures, latency(slowest))
	return c
}

func latency(d time.Duration) string {
	if d < time.Millisecond {
		return "< 1 ms"
	}
	return fmt.Sprintf("%d ms", d.Milliseconds())
}
