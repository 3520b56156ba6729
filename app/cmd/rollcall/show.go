package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/client"
	"rollcall/app/display"
)

const shown = 10 // results and events

type showCmd struct {
	remote
	watching

	ID     string `arg:"" predictor:"instance" help:"The id of an instance."`
	Output string `short:"o" enum:"table,json,yaml" default:"table" help:"table, json or yaml."`
}

// Run prints the fields of an instance, its last results and its last events.
func (c showCmd) Run(s *session) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	var past []app.Event
	revision := -1 // at which past was read: an event changes the instance
	return c.repeat(s, func(s *session) error {
		ctx, cancel := context.WithTimeout(s.ctx, answerWithin)
		defer cancel()
		i, err := client.Read[client.InstanceDetail](api.Instance(ctx, c.ID))
		if err != nil {
			return withSuggestedID(ctx, api, err, c.ID)
		}
		if c.Output != "table" {
			return output{Output: c.Output}.document(s, i)
		}
		if i.InstanceRevision != revision {
			if past, err = eventsOf(ctx, api, i.Id); err != nil {
				return err
			}
			revision = i.InstanceRevision
		}
		return c.details(s, i, past)
	})
}

// eventsOf returns the past events of an instance, oldest first.
func eventsOf(ctx context.Context, api *client.Client, id string) (past []app.Event, err error) {
	err = pastEvents(ctx, api, func(_ client.Message, e app.Event) error {
		if e.Instance == id {
			past = append(past, e)
		}
		return nil
	})
	return past, err
}

func (c showCmd) details(s *session, i client.InstanceDetail, past []app.Event) error {
	var b strings.Builder
	for _, f := range fieldsOf(i) {
		fmt.Fprintf(&b, "%-12s  %s\n", f[0], display.Visible(f[1]))
	}
	if len(i.Results) > 0 {
		b.WriteString("\nresults\n")
	}
	for _, r := range i.Results[max(0, len(i.Results)-shown):] {
		fmt.Fprintf(&b, "  %s  %s  %6s  %s\n", r.At.Local().Format("15:04:05"), outcomeOf(r), strconv.Itoa(r.LatencyMs)+"ms", display.Visible(r.Reason))
	}
	if len(past) > 0 {
		b.WriteString("\nevents\n")
	}
	for _, e := range past[max(0, len(past)-shown):] {
		fmt.Fprintf(&b, "  %s\n", display.Visible(eventLine(e, "2006-01-02 15:04:05")))
	}
	return s.printf("%s", b.String())
}

func outcomeOf(r client.Result) string {
	if r.Passed {
		return "passed"
	}
	return "failed"
}

// fieldsOf returns the names and values that show prints, in order.
func fieldsOf(i client.InstanceDetail) [][2]string {
	check := fmt.Sprintf("every %s, timeout %s, rise %d, fall %d", i.Check.Interval, i.Check.Timeout, i.Check.Rise, i.Check.Fall)
	target := string(i.Check.Kind)
	if i.Check.Target != nil {
		target = *i.Check.Target
	}
	fields := [][2]string{
		{"id", i.Id},
		{"service", i.Service},
		{"address", i.Address},
		{"state", stateText(i)},
		{"check", target + " " + check},
		{"vhosts", strings.Join(i.Hosts, " ")},
		{"weight", strconv.Itoa(i.Weight)},
		{"boot", text(i.Boot)},
		{"replaces", text(i.Replaces)},
		{"registered", i.RegisteredAt.Local().Format("2006-01-02 15:04:05")},
	}
	if o := i.Override; o != nil {
		fields = append(fields, [2]string{"override", "until " + o.Until.Local().Format("2006-01-02 15:04:05")})
	}
	if i.Tags != nil {
		fields = append(fields, [2]string{"tags", strings.Join(*i.Tags, " ")})
	}
	if i.Deadline != nil {
		fields = append(fields, [2]string{"deadline", "in " + time.Until(*i.Deadline).Round(time.Second).String()})
	}
	return slices.DeleteFunc(fields, func(f [2]string) bool { return f[1] == "" })
}

func stateText(i client.InstanceDetail) string {
	standing := client.Instance{State: i.State, Flapping: i.Flapping, Override: i.Override}.Standing()
	text := fmt.Sprintf("%s for %s", standing, age(i.Since))
	if i.Last != nil {
		text += ": " + i.Last.Reason
	}
	if i.Disputed != nil && *i.Disputed {
		text += "; another worker reaches it"
	}
	return text
}

type frontendsCmd struct {
	remote
	output
	watching

	Host string `arg:"" optional:"" help:"A vhost: print its backends."`
}

// Run prints the frontends, or the backends of one.
func (c frontendsCmd) Run(s *session) error {
	api, err := c.api()
	if err != nil {
		return err
	}
	return c.repeat(s, func(s *session) error {
		ctx, cancel := context.WithTimeout(s.ctx, answerWithin)
		defer cancel()
		list, err := client.Read[client.FrontendList](api.Frontends(ctx))
		if err != nil {
			return err
		}
		if c.Host == "" {
			return c.print(s, list.Frontends, frontendTable(list.Frontends))
		}
		hosts := []string{}
		for _, f := range list.Frontends {
			if f.Host == c.Host {
				return c.print(s, f, backendTable(f))
			}
			hosts = append(hosts, f.Host)
		}
		return suggesting(answerNo{fmt.Errorf("no instance serves the vhost %s", c.Host)}, c.Host, hosts)
	})
}

func frontendTable(all []client.Frontend) table {
	t := table{head: []string{"VHOST", "SERVICE", "ROUTED", "BACKENDS", "UNLISTED"}}
	for _, f := range all {
		routed := 0
		for _, slot := range f.Slots {
			if slot.Routed {
				routed++
			}
		}
		t.add(f.Host, f.Host, f.Service, strconv.Itoa(routed), strconv.Itoa(len(f.Slots)), strconv.Itoa(len(f.Unlisted)))
	}
	return t
}

func backendTable(f client.Frontend) table {
	t := table{head: []string{"BACKEND", "INSTANCE", "ROUTED", "REASON"}}
	for _, s := range append(f.Slots, f.Unlisted...) {
		t.add(text(s.Instance), s.Url, text(s.Instance), strconv.FormatBool(s.Routed), s.Why+leavesIn(s))
	}
	return t
}

type pickCmd struct {
	remote

	Service string `arg:"" predictor:"service" help:"A service."`
	By      string `enum:",rr,hash" default:"" help:"rr takes turns, hash keeps to one instance for the same key; by default at random by weight."`
	Key     string `help:"The key for --by hash."`
}

// Run prints the address of one healthy instance.
func (c pickCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	address, err := client.Text(api.Pick(ctx, c.Service, &client.PickParams{By: optional[client.PickParamsBy](c.By), Key: optional[string](c.Key)}))
	if err != nil {
		return withSuggestion(ctx, api, err, c.Service)
	}
	return s.printf("%s", address)
}
