package main

import (
	"bytes"
	"image/color"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"gonum.org/v1/plot"
	"gonum.org/v1/plot/plotter"
	"gonum.org/v1/plot/vg"
	"gonum.org/v1/plot/vg/draw"
	"gonum.org/v1/plot/vg/vgsvg"
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

// In points: a picture's width, height and margin, the width of the legend beside lines, and the height of a bar with its gap.
const width, height, margin, legend, row = vg.Length(540), vg.Length(240), vg.Length(8), vg.Length(150), vg.Length(19.5)

// style makes a picture readable on white and on black: it has no background of its own. Arial and Helvetica have the widths
// of Liberation Sans, with which the texts were placed.
const style = `<style>
text{font-family:"Liberation Sans",Arial,Helvetica,sans-serif!important;fill:#24292f!important}
@media(prefers-color-scheme:dark){text{fill:#e6edf3!important}path[style*="stroke:#000000"]{stroke:#e6edf3!important}}
</style>
`

// colours differ for colour-blind readers, too, on white and on black.
var colours = []color.Color{
	color.RGBA{0x00, 0x72, 0xb2, 0xff},
	color.RGBA{0xe6, 0x9f, 0x00, 0xff},
	color.RGBA{0x00, 0x9e, 0x73, 0xff},
	color.RGBA{0xcc, 0x79, 0xa7, 0xff},
	color.RGBA{0xd5, 0x5e, 0x00, 0xff},
}

func drawAll(dir string, f figures) error {
	for _, c := range charts {
		if err := c.draw(filepath.Join(dir, c.file+".svg"), f); err != nil {
			return err
		}
	}
	return nil
}

// draw writes the picture of a chart, unless its figures were not measured.
func (c chart) draw(path string, f figures) error {
	p := plot.New()
	p.BackgroundColor = color.Transparent
	p.Title.Text, p.Title.TextStyle.Font.Size, p.Title.Padding = c.title, 12, 8
	names, height := plot.NewLegend(), height
	names.Top, names.Left, names.Padding = true, true, 4
	var drawn int
	var err error
	if c.bars {
		drawn, err = c.addBars(p, f)
		height = row*vg.Length(drawn) + 45
	} else {
		drawn, err = c.addLines(p, &names, f)
	}
	if err != nil || drawn == 0 {
		return err
	}
	svg := vgsvg.New(width, height)
	canvas := draw.Crop(draw.New(svg), margin, -margin, margin, -margin)
	if c.bars {
		p.Draw(canvas)
	} else {
		p.Draw(draw.Crop(canvas, 0, -legend, 0, 0))
		names.Draw(draw.Crop(canvas, width-legend, 0, 0, -2*margin))
	}
	var text bytes.Buffer
	if _, err := svg.WriteTo(&text); err != nil {
		return err
	}
	picture := strings.Replace(text.String(), "<g ", style+"<g ", 1)
	return os.WriteFile(path, []byte(picture), 0o644)
}

// addBars adds a bar for each median, with a line over its confidence interval. It returns the number of bars.
func (c chart) addBars(p *plot.Plot, f figures) (int, error) {
	var names, texts []string
	var ends plotter.XYs
	for _, s := range slices.Backward(c.series) { // the first is the topmost
		rounds := f.rounds(s.what, s.side, s.x)
		if len(rounds) == 0 {
			continue
		}
		is, at := spreadOf(rounds), float64(len(names))
		bar, err := plotter.NewBarChart(plotter.Values{is.Center}, row*3/4)
		if err != nil {
			return 0, err
		}
		bar.Horizontal, bar.XMin, bar.Color, bar.LineStyle.Width = true, at, colours[1], 0
		if strings.HasPrefix(s.side, us) {
			bar.Color = colours[0]
		}
		interval, err := plotter.NewLine(plotter.XYs{{X: is.Lo, Y: at}, {X: is.Hi, Y: at}})
		if err != nil {
			return 0, err
		}
		p.Add(bar, interval)
		names, texts, ends = append(names, s.label), append(texts, figure(is.Center)+" "+c.unit), append(ends, plotter.XY{X: is.Hi, Y: at})
	}
	if len(names) == 0 {
		return 0, nil
	}
	labels, err := plotter.NewLabels(plotter.XYLabels{XYs: ends, Labels: texts})
	if err != nil {
		return 0, err
	}
	labels.Offset = vg.Point{X: 5, Y: -4}
	p.Add(labels)
	p.HideX()
	p.NominalY(names...)
	p.X.Min, p.Y.Width, p.Y.Tick.Width = 0, 0, 0
	p.X.Max *= 1.05
	p.Y.Padding = 20 // for a font whose letters are wider
	return len(names), nil
}

// addLines adds a line of medians over a logarithmic axis for each series. It returns the number of lines.
func (c chart) addLines(p *plot.Plot, names *plot.Legend, f figures) (drawn int, err error) {
	grid := plotter.NewGrid()
	grid.Vertical.Color, grid.Horizontal.Color = nil, color.NRGBA{0x88, 0x88, 0x88, 0x66}
	p.Add(grid)
	marked := map[float64]bool{}
	for n, s := range c.series {
		var points plotter.XYs
		for _, sample := range f {
			if sample.What == s.what && sample.Side == s.side && len(sample.Rounds) > 0 {
				points = append(points, plotter.XY{X: float64(sample.X), Y: spreadOf(sample.Rounds).Center})
				marked[float64(sample.X)] = true
			}
		}
		if len(points) < 2 {
			continue
		}
		slices.SortFunc(points, func(a, b plotter.XY) int { return int(a.X - b.X) })
		line, dots, err := plotter.NewLinePoints(points)
		if err != nil {
			return 0, err
		}
		line.Color, line.Width, dots.Color, dots.Shape = colours[n], 1.5, colours[n], draw.CircleGlyph{}
		p.Add(line, dots)
		names.Add(s.label, line, dots)
		drawn++
	}
	p.X.Scale, p.X.Tick.Marker = plot.LogScale{}, plot.TickerFunc(func(_, _ float64) (ticks []plot.Tick) {
		for _, x := range slices.Sorted(maps.Keys(marked)) {
			ticks = append(ticks, plot.Tick{Value: x, Label: figure(x)})
		}
		return ticks
	})
	p.Y.Min, p.Y.Tick.Marker = 0, plot.TickerFunc(func(least, most float64) []plot.Tick {
		ticks := slices.DeleteFunc(plot.DefaultTicks{}.Ticks(least, most), plot.Tick.IsMinor)
		for n := range ticks {
			ticks[n].Label = figure(ticks[n].Value)
		}
		return ticks
	})
	return drawn, nil
}
