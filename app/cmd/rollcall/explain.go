package main

import (
	"fmt"
	"strconv"
	"text/tabwriter"
	"time"

	"rollcall/app"
	"rollcall/app/client"
)

type explainCmd struct {
	remote

	Host string `arg:"" help:"A Host header, or a URL."`
}

// Run prints how the proxy routes a Host header.
func (c explainCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	e, err := client.Read[client.Explanation](api.Explain(ctx, &client.ExplainParams{Host: c.Host}))
	if err != nil {
		return err
	}
	status := "asks a backend"
	if e.Status != nil {
		status = "answers " + strconv.Itoa(*e.Status)
	}
	fmt.Fprintf(s.out, "%s: %s. The proxy %s.\n\n", c.Host, e.Verdict, status)
	t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	for _, n := range e.LookedUp {
		wins := ""
		if n.Wins {
			wins = "<- answers"
		}
		fmt.Fprintf(t, "%s\t%s\t%d slots\t%s\n", n.Key, n.Type, n.Slots, wins)
	}
	if e.Frontend != nil {
		fmt.Fprintf(t, "\nSLOT\tBACKEND\tINSTANCE\tREQUESTS\tWHY\n")
		for n, slot := range e.Frontend.Slots {
			fmt.Fprintf(t, "%d\t%s%s\n", n, slotColumns(slot), leavesIn(slot))
		}
		for _, slot := range e.Frontend.Unlisted {
			fmt.Fprintf(t, "-\t%s\n", slotColumns(slot))
		}
	}
	return t.Flush()
}

func slotColumns(s client.Slot) string {
	instance := ""
	if s.Instance != nil {
		instance = *s.Instance
	}
	return fmt.Sprintf("%s\t%s\t%t\t%s", s.Url, instance, s.Routed, app.Visible(s.Why))
}

// leavesIn returns when a backend leaves its list, such as " in 4.2s".
func leavesIn(s client.Slot) string {
	if s.Leaves == nil {
		return ""
	}
	return " in " + max(0, time.Until(*s.Leaves)).Round(100*time.Millisecond).String()
}
