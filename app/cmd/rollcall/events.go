package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"rollcall/app"
	"rollcall/app/client"
	"rollcall/app/display"
)

// errOutput means that the output is closed.
var errOutput = errors.New("print")

// eventOutput is how a command prints events.
type eventOutput struct {
	Output string `short:"o" enum:"text,json" default:"text" help:"text or json, a line each."`
}

// print prints an event. A message without data only has an id.
func (o eventOutput) print(s *session, m client.Message) error {
	switch {
	case m.Data == "":
		return nil
	case m.Kind == "gap":
		fmt.Fprintln(s.err, "rollcall: some events were missed:", m.Data)
		return nil
	case o.Output == "json":
		return s.printf("%s\n", display.Visible(m.Data))
	}
	var e app.Event
	if err := json.Unmarshal([]byte(m.Data), &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	return s.printf("%s\n", display.Visible(eventLine(e, "15:04:05.000")))
}

func eventLine(e app.Event, layout string) string {
	line := fmt.Sprintf("%s  %-10s  %s  %s  %s", e.At.Local().Format(layout), e.Kind, e.Service, e.Instance, e.Reason)
	if e.Actor != "" {
		line += ", by " + e.Actor
	}
	return line
}

type watchCmd struct {
	remote
	eventOutput

	Service string `arg:"" optional:"" predictor:"service" help:"Only this service."`
}

// Run prints events, one a line, until it is interrupted. It reconnects when the connection breaks, and continues after
// the last event.
func (c watchCmd) Run(s *session) error {
	api, err := client.New(c.URL, c.Token, client.Options{Once: true})
	if err != nil {
		return err
	}
	return api.Stream(s.ctx, client.EventsParams{Service: optional[string](c.Service)},
		func(m client.Message) error { return c.print(s, m) },
		func(err error) { fmt.Fprintln(s.err, "rollcall: reconnecting:", err) })
}

type eventsCmd struct {
	remote
	eventOutput

	Since   time.Duration `default:"1h" help:"The time before now."`
	Service string        `predictor:"service" help:"Only this service."`
	Kind    string        `help:"Only events of this kind, such as unhealthy."`
}

// Run prints the past events, oldest first.
func (c eventsCmd) Run(s *session) error {
	api, ctx, cancel, err := c.client(s.ctx)
	defer cancel()
	if err != nil {
		return err
	}
	from := time.Now().Add(-c.Since)
	return pastEvents(ctx, api, func(m client.Message, e app.Event) error {
		if e.At.Before(from) || !c.selects(e) {
			return nil
		}
		return c.print(s, m)
	})
}

func (c eventsCmd) selects(e app.Event) bool {
	return (c.Service == "" || e.Service == c.Service) && (c.Kind == "" || string(e.Kind) == c.Kind)
}

// errEnd means that the stream has reached the present.
var errEnd = errors.New("the last event")

// pastEvents calls each for the events from the oldest that Rollcall keeps to the present. It reads events of all
// services: a filtered stream does not tell when it has reached the present.
func pastEvents(ctx context.Context, api *client.Client, each func(client.Message, app.Event) error) error {
	list, err := client.Read[client.ServiceList](api.Services(ctx))
	if err != nil {
		return err
	}
	last, oldest := app.Revision(list.Revision), "0"
	if !last.Valid() || last.Compare("0-0") == 0 {
		return nil
	}
	err = api.Stream(ctx, client.EventsParams{LastEventID: &oldest}, func(m client.Message) error {
		if err := readEvent(m, each); err != nil {
			return err
		}
		if id := app.Revision(m.ID); id.Valid() && id.Compare(last) >= 0 {
			return errEnd
		}
		return nil
	}, func(error) {})
	if errors.Is(err, errEnd) {
		return nil
	}
	return err
}

// readEvent calls each with the event of a message, if it has one.
func readEvent(m client.Message, each func(client.Message, app.Event) error) error {
	var e app.Event
	if m.Kind == "gap" || json.Unmarshal([]byte(m.Data), &e) != nil {
		return nil //nolint:nilerr // it has none
	}
	return each(m, e)
}
