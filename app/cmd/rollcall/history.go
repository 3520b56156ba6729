package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"rollcall/app/client"
	"rollcall/app/display"
)

type historyCmd struct {
	remote

	Service string `arg:"" predictor:"service" help:"A service."`
	Range   string `default:"24h" help:"The time before now: 1h, 24h, 7d or 30d."`
	Output  string `short:"o" enum:"table,json" default:"table" help:"table or json."`
}

// stripWidth is the largest number of characters of a strip.
const stripWidth = 60

// Run prints the availability of a service as a strip, its totals, its vhosts, and the instances
// that left.
func (c historyCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	length := client.HistoryRange(c.Range)
	answer, err := client.Text(api.History(ctx, c.Service, &client.HistoryParams{Range: &length}))
	if err != nil {
		return withSuggestion(ctx, api, err, c.Service)
	}
	if c.Output == "json" {
		_, err := s.out.Write(answer)
		return err
	}
	var h client.History
	if err := json.Unmarshal(answer, &h); err != nil {
		return fmt.Errorf("read the answer: %w", err)
	}
	return printHistory(s.out, h, c.Range)
}

func printHistory(out io.Writer, h client.History, span string) error {
	n := h.Total
	fmt.Fprintf(out, "%s  %s\n\n", strip(h.Buckets), span)
	t := tabwriter.NewWriter(out, 0, 4, 2, ' ', 0)
	fmt.Fprintln(t, "AVAILABILITY\tUNKNOWN\tCHECKS\tFAILED\tFLIPS\tINSTANCES\tJOINED\tP50\tP95")
	unknown := (time.Duration(n.UnknownSeconds) * time.Second).String()
	fmt.Fprintf(t, "%s\t%s\t%d\t%d\t%d\t%d\t%d\t%s\t%s\n", percent(n.Availability), unknown, n.Passed+n.Failed, n.Failed, n.Flips, n.Instances, n.Joined,
		latency(n.P50Ms), latency(n.P95Ms))
	if len(h.Vhosts) > 0 {
		fmt.Fprintln(t, "\nVHOST\tAVAILABILITY")
	}
	for _, v := range h.Vhosts {
		fmt.Fprintf(t, "%s\t%s\n", v.Host, percent(v.Availability))
	}
	if len(h.Departed) > 0 {
		fmt.Fprintln(t, "\nLEFT\tINSTANCE\tSTATE\tREASON")
	}
	for _, d := range h.Departed {
		reason := display.Visible(d.Reason)
		if d.Actor != nil {
			reason += " by " + display.Visible(*d.Actor)
		}
		fmt.Fprintf(t, "%s ago\t%s\t%s\t%s\n", time.Since(d.At).Round(time.Second), d.Instance, d.From, reason)
	}
	return t.Flush()
}

// strip draws the availability, oldest first: '#' is 100 %, '+' at least 99 %, '-' less, '!' is 0 %,
// and '.' is unknown. One character stands for several buckets if there are many; it shows the
// worst of them.
func strip(buckets []client.HistoryBucket) string {
	group := max(1, (len(buckets)+stripWidth-1)/stripWidth)
	var b strings.Builder
	for len(buckets) > 0 {
		n := min(group, len(buckets))
		b.WriteByte(worst(buckets[:n]))
		buckets = buckets[n:]
	}
	return b.String()
}

func worst(buckets []client.HistoryBucket) byte {
	const order = ".#+-!"
	most := 0
	for _, s := range buckets {
		most = max(most, strings.IndexByte(order, character(s.Availability)))
	}
	return order[most]
}

func character(availability *float64) byte {
	switch a := availability; {
	case a == nil:
		return '.'
	case *a == 1:
		return '#'
	case *a >= 0.99:
		return '+'
	case *a > 0:
		return '-'
	}
	return '!'
}

// percent never rounds a share below 1 to 100 %.
func percent(share *float64) string {
	if share == nil {
		return "unknown"
	}
	p := 100 * *share
	if *share < 1 {
		p = min(p, 99.99)
	}
	return fmt.Sprintf("%.2f %%", p)
}

func latency(ms *float64) string {
	if ms == nil {
		return "-"
	}
	return (time.Duration(*ms*1000) * time.Microsecond).Round(100 * time.Microsecond).String()
}
