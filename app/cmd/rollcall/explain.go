package main

import (
	"fmt"
	"net/url"
	"strconv"
	"text/tabwriter"
	"time"

	"rollcall/app"
)

type explainCmd struct {
	remote

	Host string `arg:"" help:"A Host header, as a browser sends it."`
}

// Run prints what the proxy makes of a Host header.
func (c explainCmd) Run(s *session) error {
	var e struct {
		LookedUp []struct {
			Host, Key, Type string
			Slots           int
			Wins            bool
		} `json:"looked_up"`
		Frontend *struct {
			Service, Identifier string
			Slots, Unlisted     []slot
		}
		Status  int
		Verdict string
	}
	if err := c.get(s.ctx, "/v1/explain?host="+url.QueryEscape(c.Host), &e); err != nil {
		return err
	}
	status := "asks a backend"
	if e.Status != 0 {
		status = "answers " + strconv.Itoa(e.Status)
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
			fmt.Fprintf(t, "%d\t%s\t%s\t%t\t%s%s\n", n, slot.URL, slot.Instance, slot.Routed, app.Visible(slot.Why), slot.leaving())
		}
		for _, slot := range e.Frontend.Unlisted {
			fmt.Fprintf(t, "-\t%s\t%s\t%t\t%s\n", slot.URL, slot.Instance, slot.Routed, app.Visible(slot.Why))
		}
	}
	return t.Flush()
}

type slot struct {
	URL, Instance, Why string
	Routed             bool
	Leaves             *time.Time
}

func (s slot) leaving() string {
	if s.Leaves == nil {
		return ""
	}
	return " in " + max(0, time.Until(*s.Leaves)).Round(100*time.Millisecond).String()
}
