// Package client calls the HTTP API of Rollcall. Its types and calls are generated from the API's description,
// openapi.yaml.
//
// Every call returns an *http.Response; Read decodes it, and turns a problem of the API into an *Error:
//
//	c, err := client.New("http://127.0.0.1:8080", "")
//	list, err := client.Read[client.ServiceDetail](c.Service(ctx, "web", nil))
package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"regexp"
	"strings"
	"time"
)

//go:generate go run github.com/oapi-codegen/oapi-codegen/v2/cmd/oapi-codegen@v2.8.2 -config oapi-codegen.yaml ../../handlers/openapi.yaml

const (
	connectWithin = 10 * time.Second
	maxAnswer     = 64 << 20 // bytes of an answer that Read decodes

	// tries is how often a call is made while Rollcall cannot reach its registry: a script does not fail because
	// Redis fails over.
	tries      = 4
	retryAfter = time.Second
)

// Client calls one Rollcall. It is safe for concurrent use.
type Client struct{ *Calls }

// Options are the parts of a Client that a program may replace. The zero value is the default.
type Options struct {
	Connect time.Duration           // how long a connection may take; 0: 10 s
	Wrap    func(net.Conn) net.Conn // wraps each connection; nil: none

	Once        bool // a call is made once: the program has its own retry rule
	NoKeepAlive bool // each call has its own connection
}

// New returns a client of the Rollcall at a URL, such as http://10.0.0.5:8080 or 10.0.0.5:8080. The token is sent with
// each call if it is not empty. The client ignores HTTP_PROXY: a proxy would get the token, and Rollcall would register
// the proxy's address.
//
// A call that Rollcall answers with 503, because it cannot reach its registry, is made again after a second, up to four
// times in all, unless it creates a token or a webhook: a first call may have done so.
func New(url, token string, o Options) (*Client, error) {
	token = strings.TrimSpace(token)
	transport := NewTransport(o.Connect, o.Wrap)
	transport.DisableKeepAlives = o.NoKeepAlive
	doer := &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	calls, err := NewClient(WithScheme(strings.TrimSuffix(url, "/")), WithHTTPClient(retrying{doer, o.Once}),
		WithRequestEditorFn(func(_ context.Context, r *http.Request) error {
			if token != "" {
				r.Header.Set("Authorization", "Bearer "+token)
			}
			return repeatFields(r)
		}))
	if err != nil {
		return nil, err
	}
	return &Client{calls}, nil
}

var indexed = regexp.MustCompile(`%5B\d+%5D=`)

// repeatFields writes a list in a form as a repeated field, scope=a&scope=b. The generated calls write scope[0]=a&scope[1]=b,
// whatever the description of the API says.
func repeatFields(r *http.Request) error {
	if r.Header.Get("Content-Type") != "application/x-www-form-urlencoded" || r.GetBody == nil {
		return nil
	}
	body, err := r.GetBody()
	if err != nil {
		return err
	}
	form, err := io.ReadAll(body)
	if err != nil {
		return err
	}
	text := indexed.ReplaceAllString(string(form), "=")
	r.GetBody = func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }
	r.Body, _ = r.GetBody()
	r.ContentLength = int64(len(text))
	return nil
}

// NewTransport returns a transport without a proxy. Connections may take connect (0: 10 s), and wrap wraps them.
func NewTransport(connect time.Duration, wrap func(net.Conn) net.Conn) *http.Transport {
	if connect == 0 {
		connect = connectWithin
	}
	t := http.DefaultTransport.(*http.Transport).Clone() //nolint:forcetypeassert // by its documentation
	t.Proxy = nil
	dialer := net.Dialer{Timeout: connect, KeepAlive: 30 * time.Second}
	t.DialContext = func(ctx context.Context, network, address string) (net.Conn, error) {
		c, err := dialer.DialContext(ctx, network, address)
		if err != nil || wrap == nil {
			return c, err
		}
		return wrap(c), nil
	}
	return t
}

// WithScheme returns a URL that may be given as host:port.
func WithScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "http://" + address
	}
	return address
}

// retrying makes a call again while the answer is 503.
type retrying struct {
	client *http.Client
	once   bool
}

// Do implements HttpRequestDoer.
func (r retrying) Do(req *http.Request) (*http.Response, error) {
	for range tries - 1 {
		resp, err := r.client.Do(req)
		if err != nil || !r.repeats(req, resp) {
			return resp, err
		}
		if sleep(req.Context(), retryAfter) != nil {
			return resp, nil //nolint:nilerr // the last answer stands
		}
		_ = resp.Body.Close()
		if err := rewind(req); err != nil {
			return nil, err
		}
	}
	return r.client.Do(req)
}

// repeats reports whether a call may succeed when it is made again, and may be made again.
func (r retrying) repeats(req *http.Request, resp *http.Response) bool {
	return resp.StatusCode == http.StatusServiceUnavailable && !r.once && !creates(req) && (req.Body == nil || req.GetBody != nil)
}

// rewind makes the body of a request readable from its beginning again.
func rewind(req *http.Request) (err error) {
	if req.GetBody != nil {
		req.Body, err = req.GetBody()
	}
	return err
}

// sleep waits for a time. It returns the error of ctx if that is done earlier.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
	case <-ctx.Done():
	}
	return ctx.Err()
}

// creates reports whether each repetition of a call would create another object.
func creates(r *http.Request) bool {
	return r.Method == http.MethodPost && (strings.HasSuffix(r.URL.Path, "/v1/tokens") || strings.HasSuffix(r.URL.Path, "/v1/webhooks"))
}

// ErrNoAnswer means that the API did not answer.
var ErrNoAnswer = errors.New("no answer from Rollcall (ROLLCALL_URL)")

// Error is an answer that refuses a call.
type Error struct {
	Status  int
	Problem Problem // zero if the answer is not from Rollcall's API
	URL     string  // of the call, without a password
}

func (e *Error) Error() string {
	text := fmt.Sprintf("%s answered %d %s: is this the URL of Rollcall's API?", e.URL, e.Status, http.StatusText(e.Status))
	if e.Problem.Title != "" {
		text = e.problem()
	}
	if e.Status == http.StatusUnauthorized {
		text += "; set ROLLCALL_TOKEN to a valid token"
	}
	return text
}

// problem returns the title and the detail of the problem, or the detail alone if that ends with the title's words.
func (e *Error) problem() string {
	title, detail := e.Problem.Title, e.Problem.Detail
	switch {
	case detail == nil:
		return title
	case strings.HasSuffix(*detail, ": "+strings.ToLower(title)):
		return *detail
	}
	return title + ": " + *detail
}

// IsStatus reports whether an error is an answer with this status.
func IsStatus(err error, status int) bool {
	refused, ok := errors.AsType[*Error](err)
	return ok && refused.Status == status
}

// Accepted returns an answer with status 2xx or 304, whose body the caller closes. Any other answer is an *Error.
func Accepted(resp *http.Response, err error) (*http.Response, error) {
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNoAnswer, err)
	}
	if resp.StatusCode/100 == 2 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	refused := &Error{Status: resp.StatusCode, URL: resp.Request.URL.Redacted()}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&refused.Problem) != nil {
		refused.Problem = Problem{}
	}
	return nil, refused
}

// Text returns the body of an answer.
func Text(resp *http.Response, err error) ([]byte, error) {
	if resp, err = Accepted(resp, err); err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return text, nil
}

// Read decodes the JSON of an answer.
func Read[T any](resp *http.Response, err error) (T, error) {
	var answer T
	text, err := Text(resp, err)
	if err != nil {
		return answer, err
	}
	if err := json.Unmarshal(text, &answer); err != nil {
		return answer, fmt.Errorf("the answer is not the expected JSON: %w", err)
	}
	return answer, nil
}
