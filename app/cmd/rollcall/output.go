package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/term"
	"sigs.k8s.io/yaml"

	"rollcall/app"
	"rollcall/app/display"
)

// output is how a command prints objects.
type output struct {
	Output string `short:"o" enum:"table,wide,json,yaml" default:"table" help:"table, wide, json or yaml."`
	Quiet  bool   `short:"q" help:"Print only ids, one a line."`
}

// table is the rows of an output. The id of each row is its first cell, unless ids has them.
type table struct {
	head []string
	wide int // how many of the last columns only -o wide prints
	rows [][]string
	ids  []string
}

func (t *table) add(id string, cells ...string) {
	t.ids = append(t.ids, id)
	t.rows = append(t.rows, cells)
}

// print prints a document, or its table.
func (o output) print(s *session, document any, t table) error {
	switch {
	case o.Quiet:
		return s.printf("%s", lines(t.ids))
	case o.Output == "json" || o.Output == "yaml":
		return o.document(s, document)
	case o.Output != "wide" && t.wide > 0:
		t = t.narrow()
	}
	return t.print(s)
}

func (o output) document(s *session, document any) error {
	text, err := json.MarshalIndent(document, "", "  ")
	if err == nil && o.Output == "yaml" {
		text, err = yaml.JSONToYAML(text)
	}
	if err != nil {
		return fmt.Errorf("print: %w", err)
	}
	return s.printf("%s\n", bytes.TrimSuffix(text, []byte("\n")))
}

func lines(all []string) string {
	if len(all) == 0 {
		return ""
	}
	return strings.Join(all, "\n") + "\n"
}

// narrow returns the table without its wide columns.
func (t table) narrow() table {
	n := len(t.head) - t.wide
	rows := make([][]string, len(t.rows))
	for k, row := range t.rows {
		rows[k] = row[:n]
	}
	return table{head: t.head[:n], rows: rows, ids: t.ids}
}

const (
	gap       = 2 // spaces between columns
	leastCell = 8 // characters to which the table shortens a cell
)

// print prints the columns side by side. On a terminal it shortens the widest columns until a row fits.
func (t table) print(s *session) error {
	widths := make([]int, len(t.head))
	for _, row := range append([][]string{t.head}, t.rows...) {
		for n := range row {
			row[n] = display.Visible(row[n])
			widths[n] = max(widths[n], utf8.RuneCountInString(row[n]))
		}
	}
	if s.width > 0 {
		fit(widths, s.width)
	}
	var b strings.Builder
	t.row(&b, s, widths, t.head)
	for _, row := range t.rows {
		t.row(&b, s, widths, row)
	}
	return s.printf("%s", b.String())
}

// fit shortens the widest columns until a row has at most total characters.
func fit(widths []int, total int) {
	for {
		sum, widest := gap*(len(widths)-1), 0
		for n, w := range widths {
			sum += w
			if w > widths[widest] {
				widest = n
			}
		}
		if sum <= total || widths[widest] <= leastCell {
			return
		}
		widths[widest]--
	}
}

func (t table) row(b *strings.Builder, s *session, widths []int, cells []string) {
	for n, cell := range cells {
		cell = shorten(cell, widths[n])
		pad := strings.Repeat(" ", widths[n]-utf8.RuneCountInString(cell)+gap)
		if s.color && t.head[n] == "STATE" {
			cell = colored(cell)
		}
		b.WriteString(cell)
		if n < len(cells)-1 {
			b.WriteString(pad)
		}
	}
	b.WriteByte('\n')
}

// shorten returns a text of at most width characters.
func shorten(text string, width int) string {
	if utf8.RuneCountInString(text) <= width {
		return text
	}
	return string([]rune(text)[:width-1]) + "…"
}

// colored returns a state in its color: green, yellow or red.
func colored(state string) string {
	color := ""
	switch first, rest, _ := strings.Cut(state, ","); {
	case first == "healthy" && rest == "", first == "active":
		color = "32"
	case first == "healthy", first == "starting", first == "draining", first == "paused":
		color = "33"
	case first == "unhealthy", first == "failed", first == "failing":
		color = "31"
	default:
		return state
	}
	return "\x1b[" + color + "m" + state + "\x1b[0m"
}

func (s *session) printf(format string, args ...any) error {
	if _, err := fmt.Fprintf(s.out, format, args...); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}

// setTerminal sets the width and the colors of the output.
func (s *session) setTerminal(out io.Writer, environ []string) {
	f, ok := out.(*os.File)
	if !ok || !term.IsTerminal(int(f.Fd())) {
		return
	}
	s.terminal, s.color = true, !slices.ContainsFunc(environ, refusesColor)
	if width, _, err := term.GetSize(int(f.Fd())); err == nil {
		s.width = width
	}
}

// refusesColor reports whether an environment variable forbids colours.
func refusesColor(variable string) bool {
	return strings.HasPrefix(variable, "NO_COLOR=") && variable != "NO_COLOR=" || variable == "TERM=dumb"
}

// watching repeats a command.
type watching struct {
	Watch bool `short:"w" help:"Print again when the output changes, until interrupted."`
}

const watchEvery = time.Second

// repeat runs a command once, or until it is interrupted. On a terminal each output replaces the last one.
func (w watching) repeat(s *session, once func(*session) error) error {
	if !w.Watch {
		return once(s)
	}
	for last := ""; ; {
		var b strings.Builder
		copied := *s
		copied.out = &b
		if err := once(&copied); err != nil {
			return err
		}
		if text := b.String(); text != last {
			if err := s.redraw(text); err != nil {
				return err
			}
			last = text
		}
		if err := app.Sleep(s.ctx, watchEvery); err != nil {
			return err
		}
	}
}

// redraw replaces the text on a terminal. Elsewhere it appends the new text.
func (s *session) redraw(text string) error {
	if s.terminal {
		text = "\x1b[H\x1b[2J" + text
	}
	return s.printf("%s", text)
}

// age returns the time since a moment, in its largest unit: 12s, 5m, 3h or 4d.
func age(at time.Time) string {
	switch d := max(0, time.Since(at)); {
	case d < 2*time.Minute:
		return fmt.Sprintf("%ds", int(d.Seconds()))
	case d < 2*time.Hour:
		return fmt.Sprintf("%dm", int(d.Minutes()))
	case d < 48*time.Hour:
		return fmt.Sprintf("%dh", int(d.Hours()))
	default:
		return fmt.Sprintf("%dd", int(d.Hours()/24))
	}
}

// text returns the value of a pointer, or "" for nil.
func text[T ~string](p *T) string {
	if p == nil {
		return ""
	}
	return string(*p)
}

// optional returns a pointer to a text, or nil if it is empty.
func optional[T ~string](text string) *T {
	if text == "" {
		return nil
	}
	v := T(text)
	return &v
}
