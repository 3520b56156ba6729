package edge

import (
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strings"
	"time"
)

// Errors of an answer that has arrived, at least in part.
var (
	errNotHTTP = errors.New("the answer is not HTTP") // the transport accepts it
	errStalled = errors.New("the backend sends no more bytes")
)

// checkResponse closes a response that cannot be passed on, and returns an error: a status
// below 100, or a switch to a protocol that the request did not ask for.
func checkResponse(r *http.Request, res *http.Response) error {
	asked, got := r.Header.Get("Upgrade"), res.Header.Get("Upgrade")
	switch {
	case res.StatusCode < 100:
		_ = res.Body.Close()
		return fmt.Errorf("%w: status %03d", errNotHTTP, res.StatusCode)
	case res.StatusCode == http.StatusSwitchingProtocols && (asked == "" || !strings.EqualFold(asked, got)):
		_ = res.Body.Close()
		return fmt.Errorf("%w: a switch to protocol %q, requested %q", errNotHTTP, got, asked)
	}
	return nil
}

// modifyResponse prepares a response for the client.
func (p *proxyRequest) modifyResponse(res *http.Response) error {
	if p.debug {
		p.debugHeaders(res.Header)
	}
	if res.StatusCode == http.StatusSwitchingProtocols {
		return nil
	}
	endConnection(res.Header, res.Request)
	if kind, _, _ := mime.ParseMediaType(res.Header.Get("Content-Type")); kind != "text/event-stream" && res.Body != http.NoBody {
		res.Body = newAnswer(p, res.Body)
	}
	return nil
}

// answer is the body of a response. It ends if for Options.Timeout the backend sends no bytes
// or the client reads none.
type answer struct {
	io.ReadCloser
	request *proxyRequest
	timeout time.Duration
	stalled *time.Timer
}

func newAnswer(p *proxyRequest, body io.ReadCloser) *answer {
	a := &answer{ReadCloser: body, request: p, timeout: p.edge.opt.Timeout}
	a.stalled = time.AfterFunc(a.timeout, p.cancel)
	return a
}

// Read waits for the backend. The copy to the client follows until the next Read.
func (a *answer) Read(b []byte) (int, error) {
	client := a.request.client
	_ = client.SetWriteDeadline(time.Time{})
	a.stalled.Reset(a.timeout)
	n, err := a.ReadCloser.Read(b)
	if !a.stalled.Stop() {
		err = errStalled
	}
	if err != nil && err != io.EOF {
		a.request.logBroken(err)
	}
	_ = client.SetWriteDeadline(time.Now().Add(a.timeout))
	return n, err
}

// Close stops the timer and closes the body.
func (a *answer) Close() error {
	a.stalled.Stop()
	return a.ReadCloser.Close()
}

// logBroken logs a response that broke off.
func (p *proxyRequest) logBroken(err error) {
	if p.ctx.Err() == nil { // the client is still connected
		p.edge.opt.Log.WarnContext(p.ctx, "backend failed in the middle of an answer",
			"host", p.frontend.Requested, "backend", p.addr, "position", p.backend.Position, "err", err)
	}
}
