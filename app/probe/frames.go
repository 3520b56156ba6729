package probe

import (
	"bufio"
	"errors"
)

// HTTP/2 frames begin with 24 bits of length and 8 of type (RFC 9113, section 4.1).
const (
	frameHeader   = 9
	settingsFrame = 4
	lastFrameType = 9 // of those that net/http knows
)

// frames passes on what the other side of an HTTP/2 connection sends. It ends the
// connection unless that begins with SETTINGS, as HTTP/2 does, and drops the frames
// that every receiver must ignore: net/http writes a line to the log for each.
type frames struct {
	*conn
	in    *bufio.Reader
	begun bool
	rest  int // bytes of the current frame that are still to come
}

func newFrames(c *conn) *frames { return &frames{conn: c, in: bufio.NewReader(c)} }

func (f *frames) Read(b []byte) (int, error) {
	for f.rest == 0 {
		h, err := f.in.Peek(frameHeader)
		if err != nil {
			return 0, err
		}
		length, kind := frameHeader+int(h[0])<<16+int(h[1])<<8+int(h[2]), h[3]
		if !f.begun && kind != settingsFrame {
			return 0, f.fail(errors.New(beginning(h)))
		}
		f.begun = true
		if kind <= lastFrameType {
			f.rest = length
		} else if _, err := f.in.Discard(length); err != nil {
			return 0, err
		}
	}
	n, err := f.in.Read(b[:min(len(b), f.rest)])
	f.rest -= n
	return n, err
}
