package main

import (
	"fmt"
	"io"
	"strconv"
	"text/tabwriter"
	"time"

	"rollcall/app/client"
	"rollcall/app/display"
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
	fmt.Fprintf(s.out, "%s: %s. The proxy %s.\n\n", c.Host, e.Verdict, answerOf(e))
	t := tabwriter.NewWriter(s.out, 0, 4, 2, ' ', 0)
	for _, n := range e.LookedUp {
		wins := ""
		if n.Wins {
			wins = "<- answers"
		}
		fmt.Fprintf(t, "%s\t%s\t%d backends\t%s\n", n.Key, n.Type, n.Slots, wins)
	}
	if e.Frontend != nil {
		printBackends(t, *e.Frontend)
	}
	return t.Flush()
}

// answerOf words the action of the proxy on a request.
func answerOf(e client.Explanation) string {
	if e.Status != nil {
		return "answers " + strconv.Itoa(*e.Status)
	}
	return "asks a backend"
}

func printBackends(out io.Writer, f client.Frontend) {
	fmt.Fprintf(out, "\nPOSITION\tBACKEND\tINSTANCE\tREQUESTS\tWHY\n")
	for n, b := range f.Slots {
		fmt.Fprintf(out, "%d\t%s%s\n", n, backendColumns(b), leavesIn(b))
	}
	for _, b := range f.Unlisted {
		fmt.Fprintf(out, "-\t%s\n", backendColumns(b))
	}
}

func backendColumns(b client.Slot) string {
	instance := ""
	if b.Instance != nil {
		instance = *b.Instance
	}
	return fmt.Sprintf("%s\t%s\t%t\t%s", b.Url, instance, b.Routed, display.Visible(b.Why))
}

// leavesIn returns when a backend leaves its list, such as " in 4.2s".
func leavesIn(s client.Slot) string {
	if s.Leaves == nil {
		return ""
	}
	return " in " + max(0, time.Until(*s.Leaves)).Round(100*time.Millisecond).String()
}
