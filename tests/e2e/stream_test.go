package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
)

// sse is an event as a browser would dispatch it.
type sse struct{ id, kind, data string }

// stream is an open connection to /v1/events.
type stream struct {
	body  io.ReadCloser
	lines *bufio.Reader
	last  string // id of the last complete event, or the last complete id without data
}

// listen opens a stream, or returns the error answer.
func listen(ctx context.Context, client *http.Client, base, query, last string) (*stream, answer, error) {
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, base+"/v1/events"+query, nil)
	if err != nil {
		return nil, answer{}, err
	}
	if last != "" {
		r.Header.Set("Last-Event-ID", last)
	}
	resp, err := client.Do(r)
	if err != nil {
		return nil, answer{}, err
	}
	if resp.StatusCode != http.StatusOK {
		defer resp.Body.Close()
		text, err := io.ReadAll(resp.Body)
		return nil, answer{status: resp.StatusCode, header: resp.Header, body: string(text)}, err
	}
	return &stream{body: resp.Body, lines: bufio.NewReaderSize(resp.Body, 512), last: last}, answer{status: http.StatusOK, header: resp.Header}, nil
}

// next returns the next event with data. It drops an incomplete event at the end of a stream, as the
// specification says.
func (s *stream) next() (sse, error) {
	var e sse
	for {
		line, err := s.lines.ReadString('\n')
		if err != nil {
			return sse{}, err
		}
		name, value, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ": ")
		switch {
		case line == "\n":
			if e.id != "" {
				s.last = e.id
			}
			if e.data != "" {
				return e, nil
			}
			e = sse{}
		case name == "id":
			e.id = value
		case name == "event":
			e.kind = value
		case name == "data":
			e.data = value
		case name != "":
			return sse{}, fmt.Errorf("a line that is none of a stream: %q", line)
		}
	}
}

func (s *stream) close() { _ = s.body.Close() }

// open opens a stream and fails the test on an error answer.
func (w *web) open(query, last string) *stream {
	w.t.Helper()
	s, a, err := listen(w.t.Context(), w.client, w.base, query, last)
	if err != nil || s == nil {
		w.t.Fatalf("events%s after %q: %v %v", query, last, a, err)
	}
	w.t.Cleanup(s.close)
	if got := a.header.Get("Content-Type"); got != "text/event-stream" {
		w.t.Errorf("events are %s", got)
	}
	return s
}

// expect reads the next event of a stream.
func (s *stream) expect(t testing.TB, kind, instance string) sse {
	t.Helper()
	e, err := s.next()
	if err != nil {
		t.Fatalf("waiting for %s of %s: %v", kind, instance, err)
	}
	if got := decode[struct{ Instance string }](t, e.data).Instance; e.kind != kind || got != instance {
		t.Errorf("got %s of %s, want %s of %s", e.kind, got, kind, instance)
	}
	return e
}
