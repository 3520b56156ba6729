package client

import (
	"bufio"
	"cmp"
	"context"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"
)

const (
	reconnectAfter = time.Second
	maxSilence     = 45 * time.Second // of a stream, which has a comment every 15 s
)

// Message is one server-sent event of GET /v1/events. Data is empty if the message only has an id, and Kind is "gap" if
// Rollcall no longer has some of the events.
type Message struct{ ID, Kind, Data string }

// Stream reads events until ctx ends or each returns an error, and returns that error. It reconnects when the connection
// breaks, and continues after the last message. onBreak gets the reason of each break; the error of the first connection
// ends Stream. params.LastEventID is where the stream starts.
func (c *Client) Stream(ctx context.Context, params EventsParams, each func(Message) error, onBreak func(error)) error {
	for connected := false; ; {
		resp, err := Accepted(c.Events(ctx, &params))
		switch {
		case IsStatus(err, http.StatusGone): // start at the oldest event
			onBreak(err)
			oldest := "0"
			params.LastEventID = &oldest
			continue
		case err != nil && !connected && ctx.Err() == nil:
			return err
		case err == nil:
			connected = true
			err = readMessages(resp.Body, func(m Message) error {
				if err := each(m); err != nil {
					return &stopError{err}
				}
				if m.ID != "" {
					params.LastEventID = &m.ID
				}
				return nil
			})
		}
		if stopped, ok := errors.AsType[*stopError](err); ok {
			return stopped.error
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		onBreak(err)
		select {
		case <-time.After(reconnectAfter):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// A stopError is an error of the function that gets the messages.
type stopError struct{ error }

// readMessages reads server-sent events until the stream ends. It drops an incomplete message: the next connection sends
// it again.
func readMessages(stream io.ReadCloser, each func(Message) error) error {
	quiet := time.AfterFunc(maxSilence, func() { _ = stream.Close() })
	defer quiet.Stop()
	defer stream.Close()
	var m Message
	lines := bufio.NewScanner(stream)
	for lines.Scan() {
		quiet.Reset(maxSilence)
		name, value, field := strings.Cut(lines.Text(), ":")
		value = strings.TrimPrefix(value, " ")
		switch {
		case field && name == "id":
			m.ID = value
		case field && name == "event":
			m.Kind = value
		case field && name == "data":
			m.Data = value
		case lines.Text() == "":
			if err := each(m); err != nil {
				return err
			}
			m = Message{}
		}
	}
	return cmp.Or(lines.Err(), errors.New("the stream has ended"))
}
