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

// What is wrong with an answer that has come, at least in part.
var (
	errNotHTTP = errors.New("the answer is not HTTP") // the transport accepts it all the same
	errStalled = errors.New("the backend has stopped sending")
)

// understood returns an error, and closes the answer, if it cannot be passed on: a
// status below 100, or a switch of protocols that the request did not ask for.
func checkResponse(r *http.Request, res *http.Response) error {
	asked, got := r.Header.Get("Upgrade"), res.Header.Get("Upgrade")
	switch {
	case res.StatusCode < 100:
		_ = res.Body.Close()
		return fmt.Errorf("%w: status %03d", errNotHTTP, res.StatusCode)
	case res.StatusCode == http.StatusSwitchingProtocols && (asked == "" || !strings.EqualFold(asked, got)):
		_ = res.Body.Close()
		return fmt.Errorf("%w: a switch to protocol %q when %q was asked for", errNotHTTP, got, asked)
	}
	return nil
}

// receive prepares an answer for the client.
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

// answer is the body of an answer. It ends when the backend sends nothing, or the client
// takes nothing, for Options.Timeout.
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

// Read waits for the backend; the copy to the client follows until the next Read.
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

func (a *answer) Close() error {
	a.stalled.Stop()
	return a.ReadCloser.Close()
}

// broken writes the one line of an answer whose rest does not come.
func (p *proxyRequest) logBroken(err error) {
	if p.ctx.Err() == nil { // the client is still there
		p.edge.opt.Log.WarnContext(p.ctx, "backend failed in the middle of an answer",
			"host", p.frontend.Requested, "backend", p.addr, "slot", p.backend.Position, "err", err)
	}
}
