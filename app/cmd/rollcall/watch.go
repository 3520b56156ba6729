package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"rollcall/app"
)

type watchCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
	Output  string `short:"o" enum:"text,json" default:"text" help:"text or json, a line each."`
}

const (
	reconnectAfter = time.Second
	maxSilence     = 45 * time.Second // of a stream that says every 15 s that it is alive
)

// errOutput means that nobody takes what is printed.
var errOutput = errors.New("print")

// Run prints what happens, a line each, until it is interrupted. It connects anew when
// the connection breaks, and goes on where it was.
func (c watchCmd) Run(s *session) error {
	path := "/v1/events?service=" + url.QueryEscape(c.Service)
	last, connected := "", false
	for s.ctx.Err() == nil {
		headers := map[string]string{}
		if last != "" {
			headers["Last-Event-ID"] = last
		}
		resp, err := c.do(s.ctx, path, headers) //nolint:bodyclose // print closes it
		switch {
		case s.ctx.Err() != nil:
		case isStatus(err, http.StatusGone):
			fmt.Fprintln(s.err, "rollcall: some events were missed:", err)
			last = "0" // the oldest there is, none of which was printed
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
			fmt.Fprintln(s.err, "rollcall: connecting anew:", err)
			select {
			case <-time.After(reconnectAfter):
			case <-s.ctx.Done():
			}
		}
	}
	return nil
}

// print reads server-sent events until the stream ends. An event counts when it is
// complete: what a broken connection has left of one is sent again.
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

// event prints an event; one without data only has an id.
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
		var e struct {
			At                              time.Time
			Kind, Service, Instance, Reason string
			Actor                           string
		}
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
