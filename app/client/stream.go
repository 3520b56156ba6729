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
		if IsStatus(err, http.StatusGone) { // start at the oldest event
			onBreak(err)
			oldest := "0"
			params.LastEventID = &oldest
			continue
		}
		if err == nil {
			connected = true
			err = params.follow(resp.Body, each)
		}
		if final := endOfStream(ctx, err, connected); final != nil {
			return final
		}
		onBreak(err)
		if err := sleep(ctx, reconnectAfter); err != nil {
			return err
		}
	}
}

// endOfStream returns the error that ends Stream, or nil if it reconnects.
func endOfStream(ctx context.Context, err error, connected bool) error {
	stopped, ok := errors.AsType[*stopError](err)
	switch {
	case ok:
		return stopped.error
	case ctx.Err() != nil:
		return ctx.Err()
	case !connected:
		return err
	}
	return nil
}

// follow reads the events of a stream and remembers the last one. It returns a stopError if each returns an error.
func (p *EventsParams) follow(stream io.ReadCloser, each func(Message) error) error {
	return readMessages(stream, func(m Message) error {
		if err := each(m); err != nil {
			return &stopError{err}
		}
		if m.ID != "" {
			p.LastEventID = &m.ID
		}
		return nil
	})
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
		if lines.Text() != "" {
			m.read(lines.Text())
			continue
		}
		if err := each(m); err != nil {
			return err
		}
		m = Message{}
	}
	return cmp.Or(lines.Err(), errors.New("the stream has ended"))
}

// read sets the field of one line of a message.
func (m *Message) read(line string) {
	name, value, _ := strings.Cut(line, ":")
	value = strings.TrimPrefix(value, " ")
	switch name {
	case "id":
		m.ID = value
	case "event":
		m.Kind = value
	case "data":
		m.Data = value
	}
}
