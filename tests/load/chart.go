package main

import (
	"cmp"
	"fmt"
	"html"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// chart is a picture of samples: lines over connections or instances, or bars.
type chart struct {
	file, title, unit string
	series            []series
	bars              bool
}

type series struct {
	label, what, side string
	x                 int // of a bar
}

var charts = []chart{
	{file: "registrations", title: "Registrations a second by connections", unit: "/s", series: []series{
		{label: "Rollcall, known ids", what: "registrations, known ids", side: us},
		{label: "F2, known ids", what: "registrations, known ids", side: "F2"},
		{label: "F1, known ids", what: "registrations, known ids", side: "F1"},
		{label: "Rollcall, new ids", what: "registrations, new ids", side: us},
		{label: "F1, new ids", what: "registrations, new ids", side: "F1"},
	}},
	{file: "reads", title: "Reads a second by connections", unit: "/s", series: []series{
		{label: "Rollcall, ten instances", what: "reads of ten healthy instances", side: us},
		{label: "F3, kept encoded", what: "reads of ten healthy instances", side: "F3"},
		{label: "Rollcall, pick", what: "picks", side: us},
	}},
	{file: "probes", title: "CPU seconds of 10,000 probes", unit: "s", bars: true, series: []series{
		{label: "F4, 1,000/s", what: "CPU of 10,000 probes", side: "F4", x: 1000},
		{label: "Rollcall, 1,000/s", what: "CPU of 10,000 probes", side: us, x: 1000},
		{label: "… with its Redis", what: "CPU of 10,000 probes", side: us + " with Redis", x: 1000},
		{label: "haproxy, 1,000/s", what: "CPU of 10,000 probes", side: "haproxy", x: 1000},
		{label: "F4, 100/s", what: "CPU of 10,000 probes", side: "F4", x: 100},
		{label: "Rollcall, 100/s", what: "CPU of 10,000 probes", side: us, x: 100},
		{label: "… with its Redis", what: "CPU of 10,000 probes", side: us + " with Redis", x: 100},
		{label: "haproxy, 100/s", what: "CPU of 10,000 probes", side: "haproxy", x: 100},
		{label: "blackbox_exporter, 100/s", what: "CPU of 10,000 probes", side: "blackbox_exporter", x: 100},
	}},
	{file: "verdicts", title: "Seconds from failure to verdict, interval 1 s", unit: "s", bars: true, series: []series{
		{label: "refused: Rollcall", what: "failure to verdict, refused", side: us, x: 1},
		{label: "refused: haproxy", what: "failure to verdict, refused", side: "haproxy", x: 1},
		{label: "hangs: Rollcall", what: "failure to verdict, hanging", side: us, x: 1},
		{label: "hangs: haproxy", what: "failure to verdict, hanging", side: "haproxy", x: 1},
		{label: "10 of 20 hang: Rollcall", what: "failure to verdict, ten of twenty hang", side: us, x: 1},
		{label: "10 of 20 hang: haproxy", what: "failure to verdict, ten of twenty hang", side: "haproxy", x: 1},
	}},
	{file: "growth", title: "CPU seconds of 10,000 probes by instances", unit: "s", series: []series{
		{label: "worker", what: "CPU of 10,000 probes by size", side: us},
		{label: "its Redis", what: "CPU of 10,000 probes by size", side: "its Redis"},
	}},
	{file: "memory", title: "MiB of memory by instances", unit: "MiB", series: []series{
		{label: "worker", what: "memory of cron", side: us},
		{label: "web", what: "memory of web", side: us},
	}},
	{file: "workers", title: "Probes a second, as many as can be, by workers", unit: "/s", bars: true, series: []series{
		{label: "F4", what: "probes a second, as many as can be", side: "F4", x: 1},
		{label: "one worker", what: "probes a second, as many as can be", side: us, x: 1},
		{label: "two", what: "probes a second, as many as can be", side: us, x: 2},
		{label: "four", what: "probes a second, as many as can be", side: us, x: 4},
	}},
}

const (
	width, height = 720, 320
	left, right   = 60, 20
	top, bottom   = 40, 40
)

// style is readable on white and on black: the picture has no background of its own.
const style = `<style>
text{font:13px system-ui,sans-serif;fill:#24292f}.grid{stroke:#8886;stroke-width:1}.err{stroke:#24292f;stroke-width:1.5}
.t{font-weight:600;font-size:15px}
@media(prefers-color-scheme:dark){text{fill:#e6edf3}.err{stroke:#e6edf3}}
</style>
`

// colours differ for colour-blind readers, too, on white and on black.
var colours = []string{"#0072b2", "#e69f00", "#009e73", "#cc79a7", "#d55e00"}

func drawAll(dir string, f figures) error {
	for _, c := range charts {
		var picture string
		if c.bars {
			picture = c.drawBars(f)
		} else {
			picture = c.drawLines(f)
		}
		if picture == "" {
			continue
		}
		if err := os.WriteFile(filepath.Join(dir, c.file+".svg"), []byte(picture), 0o644); err != nil {
			return err
		}
	}
	return nil
}

func (c chart) frame(w, h int, body string) string {
	return fmt.Sprintf("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\" aria-label=%q>\n%s<text class=\"t\" x=\"10\" y=\"22\">%s</text>\n%s</svg>\n",
		w, h, html.EscapeString(c.title), style, html.EscapeString(c.title), body)
}

// drawBars draws a bar for each median, with a line from the smallest to the largest.
func (c chart) drawBars(f figures) string {
	const row, label, room = 26, 190, 70
	type bar struct {
		series
		spread
	}
	var bars []bar
	for _, s := range c.series {
		if rounds := f.rounds(s.what, s.side, s.x); len(rounds) > 0 {
			bars = append(bars, bar{s, spreadOf(rounds)})
		}
	}
	if len(bars) == 0 {
		return ""
	}
	most := slices.MaxFunc(bars, func(a, b bar) int { return cmp.Compare(a.high, b.high) }).high
	at := func(v float64) float64 { return label + v/most*(width-label-room) }
	var b strings.Builder
	for n, bar := range bars {
		y := float64(top + n*row)
		colour := colours[1]
		if strings.HasPrefix(bar.side, us) {
			colour = colours[0]
		}
		fmt.Fprintf(&b, "<text x=\"%d\" y=\"%.0f\" text-anchor=\"end\">%s</text>", label-8, y+15, html.EscapeString(bar.label))
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%.0f\" width=\"%.1f\" height=\"18\" rx=\"2\" fill=\"%s\"/>", label, y+2, at(bar.median)-label, colour)
		fmt.Fprintf(&b, "<path class=\"err\" d=\"M%.1f %.0fH%.1f\"/>", at(bar.low), y+11, at(bar.high))
		fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%.0f\">%s %s</text>\n", at(bar.high)+6, y+15, figure(bar.median), c.unit)
	}
	return c.frame(width, top+len(bars)*row+10, b.String())
}

// drawLines draws medians over a logarithmic axis.
func (c chart) drawLines(f figures) string {
	type line struct {
		series
		points []*sample
	}
	var lines []line
	most, first, last := 0.0, math.MaxInt, 0
	for _, s := range c.series {
		l := line{series: s}
		for _, p := range f {
			if p.What == s.what && p.Side == s.side && len(p.Rounds) > 0 {
				l.points = append(l.points, p)
				most, first, last = max(most, spreadOf(p.Rounds).median), min(first, p.X), max(last, p.X)
			}
		}
		if len(l.points) > 0 {
			slices.SortFunc(l.points, func(a, b *sample) int { return a.X - b.X })
			lines = append(lines, l)
		}
	}
	if len(lines) == 0 || first == last || most == 0 {
		return ""
	}
	const legend = 200
	x := func(v int) float64 {
		return left + math.Log(float64(v)/float64(first))/math.Log(float64(last)/float64(first))*(width-left-right-legend)
	}
	y := func(v float64) float64 { return height - bottom - v/most*(height-top-bottom) }
	var b strings.Builder
	for n := range 5 {
		v := most * float64(n) / 4
		fmt.Fprintf(&b, "<path class=\"grid\" d=\"M%d %.1fH%d\"/><text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%s</text>\n", left, y(v), width-right-legend, left-6, y(v)+4, figure(v))
	}
	marked := map[int]bool{}
	for n, l := range lines {
		var path strings.Builder
		for i, p := range l.points {
			v := spreadOf(p.Rounds).median
			fmt.Fprintf(&path, "%c%.1f %.1f", "ML"[min(i, 1)], x(p.X), y(v))
			fmt.Fprintf(&b, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3\" fill=\"%s\"/>", x(p.X), y(v), colours[n])
			if !marked[p.X] {
				fmt.Fprintf(&b, "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%s</text>", x(p.X), height-bottom+20, figure(float64(p.X)))
				marked[p.X] = true
			}
		}
		fmt.Fprintf(&b, "<path d=\"%s\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n", path.String(), colours[n])
		fmt.Fprintf(&b, "<rect x=\"%d\" y=\"%d\" width=\"12\" height=\"12\" fill=\"%s\"/><text x=\"%d\" y=\"%d\">%s</text>\n",
			width-legend, top+n*22, colours[n], width-legend+18, top+n*22+11, html.EscapeString(l.label))
	}
	return c.frame(width, height, b.String())
}
