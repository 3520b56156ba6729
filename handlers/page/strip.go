package page

import (
	"context"
	"fmt"
	"math"
	"strings"
	"time"

	"rollcall/app/history"
)

// Histories reads the statistics of services and vhosts.
type Histories interface {
	// Series reads several series, in their order.
	Series(ctx context.Context, names ...string) ([]*history.Series, error)
	// Departed lists the last instances of a service that left within a day, newest first.
	Departed(ctx context.Context, service string) ([]history.Departure, error)
}

// span is a range of a history that the page offers.
type span struct {
	Name   string
	Length time.Duration
}

var spans = []span{{"1h", time.Hour}, {"24h", 24 * time.Hour}, {"7d", 7 * 24 * time.Hour}, {"30d", 30 * 24 * time.Hour}}

// strip shows the availability in the buckets of a range, oldest first.
type strip struct {
	Bars    []stripBar
	Width   int
	Uptime  string // share of the observed time; empty if no time was observed
	Summary string // for readers who cannot see the strip
}

// stripBar is one bucket. Down is the height of the part without a healthy instance.
type stripBar struct {
	X, Down, Up int
	Known       bool
	Text        string
}

// Size of a strip, in units of its view box.
const (
	stripStep   = 10
	stripHeight = 100
	stripLeast  = 15 // height of the shortest outage
)

func stripOf(points []history.Point, now time.Time) strip {
	s := strip{Width: len(points) * stripStep}
	unknown, length := time.Duration(0), time.Duration(0)
	for n, p := range points {
		unknown += p.Unknown(now)
		length += p.Width
		share, known := p.Record.Availability()
		b := stripBar{X: n * stripStep, Known: known, Text: p.At.UTC().Format("2 Jan 15:04 UTC") + ": " + uptime(share, known)}
		if known && share < 1 {
			b.Down = max(stripLeast, int(math.Round((1-share)*stripHeight)))
		}
		b.Up = stripHeight - b.Down
		s.Bars = append(s.Bars, b)
	}
	total := history.Total(points)
	share, known := total.Availability()
	if known {
		s.Uptime = uptime(share, known)
	}
	s.Summary = fmt.Sprintf("Uptime over %s: %s", inWords(length), uptime(share, known))
	if known && unknown >= time.Minute {
		s.Summary += fmt.Sprintf(", %s unknown", inWords(unknown))
	}
	s.Summary += "."
	return s
}

// uptime formats a share of the observed time. It rounds down, so that 100 % means no outage.
func uptime(share float64, known bool) string {
	switch {
	case !known:
		return "unknown"
	case share >= 1:
		return "100 %"
	}
	return fmt.Sprintf("%.2f %%", math.Floor(share*10000)/100)
}

// stripsFresh is how old a strip on the overview may be. Histories change once a minute.
const stripsFresh = 30 * time.Second

// strips returns the strips of services over the last 24 hours. It returns none if Redis does not answer.
func (p *Page) strips(ctx context.Context, services []serviceRow) map[string]strip {
	if _, err := p.Replica.Age(time.Now()); err != nil {
		return nil
	}
	names := make([]string, len(services))
	for n, s := range services {
		names[n] = s.Name
	}
	found, err := p.dayStrips.get(stripsFresh, names, func(missing []string) (map[string]strip, error) { return p.readStrips(ctx, missing) })
	if err != nil {
		return nil
	}
	return found
}

func (p *Page) readStrips(ctx context.Context, services []string) (map[string]strip, error) {
	names := make([]string, len(services))
	for n, service := range services {
		names[n] = history.ServiceSeries(service)
	}
	series, err := p.Histories.Series(ctx, names...)
	if err != nil {
		return nil, err
	}
	now, all := p.Now(), map[string]strip{}
	for n, service := range services {
		all[service] = stripOf(series[n].Range(now, 24*time.Hour), now)
	}
	return all, nil
}

// plot is the latencies of a range as two lines on an axis that begins at zero.
type plot struct {
	P50, P95       string // paths
	Width          int
	Top, Middle    string // labels of the axis
	Begin          string
	Now50, Now95   string // over the whole range
	Passed, Failed uint32
	Flips          uint32
	Instances      uint32 // the most at once
}

func plotOf(points []history.Point, length time.Duration) plot {
	total, slowest := history.Total(points), time.Duration(0)
	for n := range points {
		if r := &points[n].Record; r.Passed > 0 {
			slowest = max(slowest, r.Latency.Quantile(0.95))
		}
	}
	top := niceTop(slowest)
	line := func(q float64) string {
		var path strings.Builder
		pen := "M"
		for n := range points {
			if points[n].Record.Passed == 0 {
				pen = "M"
				continue
			}
			y := stripHeight * (1 - float64(points[n].Record.Latency.Quantile(q))/float64(top))
			fmt.Fprintf(&path, "%s%d %.1fh%d", pen, n*stripStep, y, stripStep)
			pen = "L"
		}
		return path.String()
	}
	p := plot{
		P50: line(0.5), P95: line(0.95), Width: len(points) * stripStep, Top: latency(top), Middle: latency(top / 2),
		Begin: inWords(length) + " ago", Passed: total.Passed, Failed: total.Failed, Flips: total.Flips, Instances: total.Instances,
	}
	if total.Passed > 0 {
		p.Now50, p.Now95 = latency(total.Latency.Quantile(0.5)), latency(total.Latency.Quantile(0.95))
	}
	return p
}

// niceTop returns the end of an axis: 2, 4 or 10 times a power of ten, and at least 2 ms.
func niceTop(d time.Duration) time.Duration {
	for unit := time.Millisecond; ; unit *= 10 {
		for _, n := range []time.Duration{2, 4, 10} {
			if d <= n*unit {
				return n * unit
			}
		}
	}
}

// past is the history of a service on its page.
type past struct {
	Find     listQuery
	Spans    []span
	Strip    strip
	Plot     plot
	Departed []departure
	Unread   bool
}

// departure is an instance that left within a day.
type departure struct {
	history.Departure
	When moment
}

func (p *Page) past(ctx context.Context, service string, f listQuery) (past, error) {
	v, length := past{Find: f, Spans: spans}, 24*time.Hour
	for _, s := range spans {
		if s.Name == f.Range {
			length = s.Length
		}
	}
	_, err := p.Replica.Age(time.Now())
	var series []*history.Series
	if err == nil {
		series, err = p.Histories.Series(ctx, history.ServiceSeries(service))
	}
	var left []history.Departure
	if err == nil {
		left, err = p.Histories.Departed(ctx, service)
	}
	if err != nil {
		v.Unread = unread(err)
		if v.Unread {
			err = nil
		}
		return v, err
	}
	now := p.Now()
	points := series[0].Range(now, length)
	v.Strip, v.Plot = stripOf(points, now), plotOf(points, length)
	for _, d := range left {
		v.Departed = append(v.Departed, departure{d, p.moment(d.At)})
	}
	return v, nil
}
