package harness

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strings"
)

// Ask makes a call as curl does, for tests that compare status codes, headers and texts. With a form it sends the request
// of curl -d. headers are name, value, name, value, ...
func Ask(ctx context.Context, c *http.Client, method, address string, form url.Values, headers ...string) (status int, header http.Header, body string, err error) {
	var data io.Reader
	if form != nil {
		data = strings.NewReader(form.Encode())
		headers = append(headers, "Content-Type", "application/x-www-form-urlencoded")
	}
	r, err := http.NewRequestWithContext(ctx, method, address, data)
	if err != nil {
		return 0, nil, "", err
	}
	for n := 0; n < len(headers); n += 2 {
		r.Header.Set(headers[n], headers[n+1])
	}
	resp, err := c.Do(r)
	if err != nil {
		return 0, nil, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, resp.Header, string(text), err
}
