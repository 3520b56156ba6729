package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"strings"
	"time"
)

type watchCmd struct {
	remote

	Service string `arg:"" optional:"" help:"Only this service."`
	Output  string `short:"o" enum:"text,json" default:"text" help:"text or json, a line each."`
}

// reconnectAfter is how long watch waits before it connects anew.
const reconnectAfter = time.Second

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
		resp, err := c.do(s.ctx, http.MethodGet, path, headers)
		switch {
		case err != nil && s.ctx.Err() != nil:
			return nil
		case isStatus(err, http.StatusGone):
			fmt.Fprintln(s.err, "rollcall:", err)
			last = ""
			continue
		case err != nil && !connected:
			return err
		case err == nil:
			connected = true
			err = c.print(s, resp, &last)
			_ = resp.Body.Close()
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

// print reads server-sent events until the stream ends.
func (c watchCmd) print(s *session, resp *http.Response, last *string) error {
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), ": ")
		switch name {
		case "id":
			*last = value
		case "data":
			if err := c.line(s, value); err != nil {
				return err
			}
		}
	}
	return lines.Err()
}

func (c watchCmd) line(s *session, data string) error {
	if c.Output == "json" {
		_, err := fmt.Fprintln(s.out, data)
		return err
	}
	var e struct {
		At                                        time.Time
		Kind, Service, Instance, From, To, Reason string
		First                                     string
	}
	if err := json.Unmarshal([]byte(data), &e); err != nil {
		return fmt.Errorf("read an event: %w", err)
	}
	if e.First != "" {
		_, err := fmt.Fprintln(s.err, "rollcall: events before", e.First, "were missed")
		return err
	}
	_, err := fmt.Fprintf(s.out, "%s  %-10s  %s  %s  %s\n", e.At.Local().Format("15:04:05.000"), e.Kind, e.Service, e.Instance, e.Reason)
	return err
}
