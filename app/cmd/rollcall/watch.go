package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"time"

	"rollcall/app"
	"rollcall/app/client"
)

type watchCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
	Output  string `short:"o" enum:"text,json" default:"text" help:"text or json, a line each."`
}

const (
	reconnectAfter = time.Second
	maxSilence     = 45 * time.Second // of a stream, which has a comment every 15 s
)

// errOutput means that the output is closed.
var errOutput = errors.New("print")

// Run prints events, one a line, until it is interrupted. It reconnects when the connection breaks, and continues after
// the last event.
func (c watchCmd) Run(s *session) error {
	api, err := client.New(c.URL, c.Token, client.Options{Once: true})
	if err != nil {
		return err
	}
	last, connected := "", false
	for s.ctx.Err() == nil {
		params := &client.EventsParams{}
		if c.Service != "" {
			params.Service = &c.Service
		}
		if last != "" {
			params.LastEventID = &last
		}
		resp, err := client.Accepted(api.Events(s.ctx, params))
		switch {
		case s.ctx.Err() != nil:
		case client.IsStatus(err, http.StatusGone):
			fmt.Fprintln(s.err, "rollcall: some events were missed:", err)
			last = "0" // the oldest event
			continue
		case err != nil && !connected:
			return err
		case err == nil:
			connected = true
			if err = c.print(s, resp.Body, &last); errors.Is(err, errOutput) {
				return err
			}
		}
		if s.ctx.Err() == nil {
			fmt.Fprintln(s.err, "rollcall: reconnecting:", err)
			select {
			case <-time.After(reconnectAfter):
			case <-s.ctx.Done():
			}
		}
	}
	return nil
}

// print prints server-sent events until the stream ends. It drops an incomplete event: the next connection sends it
// again.
func (c watchCmd) print(s *session, stream io.ReadCloser, last *string) error {
	quiet := time.AfterFunc(maxSilence, func() { _ = stream.Close() })
	defer quiet.Stop()
	defer stream.Close()
	var id, kind, data string
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		quiet.Reset(maxSilence)
		name, value, field := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field && name == "id":
			id = value
		case field && name == "event":
			kind = value
		case field && name == "data":
			data = value
		case lines.Text() == "":
			if err := c.event(s, kind, data); err != nil {
				return err
			}
			*last = cmp.Or(id, *last)
			id, kind, data = "", "", ""
		}
	}
	return cmp.Or(lines.Err(), errors.New("the stream has ended"))
}

// event prints an event. An event without data only has an id.
func (c watchCmd) event(s *session, kind, data string) error {
	switch {
	case data == "":
		return nil
	case kind == "gap":
		fmt.Fprintln(s.err, "rollcall: some events were missed:", data)
		return nil
	}
	text := data
	if c.Output == "text" {
		var e app.Event
		if err := json.Unmarshal([]byte(data), &e); err != nil {
			return fmt.Errorf("read an event: %w", err)
		}
		text = fmt.Sprintf("%s  %-10s  %s  %s  %s", e.At.Local().Format("15:04:05.000"), e.Kind, e.Service, e.Instance, e.Reason)
		if e.Actor != "" {
			text += ", by " + e.Actor
		}
	}
	if _, err := fmt.Fprintln(s.out, app.Visible(text)); err != nil {
		return fmt.Errorf("%w: %w", errOutput, err)
	}
	return nil
}
