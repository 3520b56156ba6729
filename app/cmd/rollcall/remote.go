package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// remote is what a command needs to talk to a running Rollcall.
type remote struct {
	URL   string `env:"ROLLCALL_URL" default:"http://127.0.0.1:8080" help:"Where Rollcall's API is (${env})."`
	Token string `env:"ROLLCALL_TOKEN" help:"Bearer token for it (${env})."`
}

// answerWithin is how long a command waits for an answer that is not asked to wait.
const answerWithin = 10 * time.Second

// awayTries is how often a command asks, a second apart, while Rollcall cannot reach its
// registry: a script is not to fail because a Redis fails over.
const awayTries = 4

// remoteError is what the server said instead of an answer.
type remoteError struct {
	status int
	kind   string // urn:rollcall:...
	text   string
}

func (e *remoteError) Error() string { return e.text }

// do asks and returns the answer, which the caller closes, if it is a good
// one; else an error that says what the server said. 304 is a good one.
func (r remote) do(ctx context.Context, path string, headers map[string]string) (*http.Response, error) {
	return r.send(ctx, http.MethodGet, path, headers, "")
}

// change makes a call that changes something, with a form, and returns its answer.
func (r remote) change(ctx context.Context, method, path string, form url.Values) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := r.send(ctx, method, path, map[string]string{"Content-Type": "application/x-www-form-urlencoded"}, form.Encode())
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// withScheme is a URL that was given as host:port, too.
func withScheme(address string) string {
	if address != "" && !strings.Contains(address, "://") {
		return "http://" + address
	}
	return address
}

func (r remote) send(ctx context.Context, method, path string, headers map[string]string, body string) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, withScheme(strings.TrimSuffix(r.URL, "/"))+path, strings.NewReader(body))
	if err != nil {
		return nil, fmt.Errorf("ROLLCALL_URL must be a URL such as http://10.0.0.5:8080: %w", err)
	}
	for name, value := range headers {
		req.Header.Set(name, value)
	}
	if token := strings.TrimSpace(r.Token); token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := (&http.Client{Transport: direct}).Do(req)
	if err != nil {
		return nil, fmt.Errorf("no answer from ROLLCALL_URL: %w", err)
	}
	if resp.StatusCode < 300 || resp.StatusCode == http.StatusNotModified {
		return resp, nil
	}
	defer resp.Body.Close()
	var problem struct{ Type, Title, Detail string }
	said := &remoteError{status: resp.StatusCode, text: fmt.Sprintf("%s answered %s: is ROLLCALL_URL that of Rollcall's API?", req.URL.Redacted(), resp.Status)}
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&problem) == nil && problem.Title != "" {
		said.kind = problem.Type
		said.text = strings.TrimSuffix(problem.Title+": "+problem.Detail, ": ")
	}
	if resp.StatusCode == http.StatusUnauthorized {
		said.text += "; set ROLLCALL_TOKEN to one that counts"
	}
	return nil, said
}

// text reads an answer as it is.
func (r remote) text(ctx context.Context, path string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerWithin)
	defer cancel()
	resp, err := r.do(ctx, path, nil)
	for tries := 1; tries < awayTries && isAway(err); tries++ {
		select {
		case <-time.After(time.Second):
		case <-ctx.Done():
		}
		resp, err = r.do(ctx, path, nil)
	}
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read the answer: %w", err)
	}
	return body, nil
}

// get reads a JSON answer.
func (r remote) get(ctx context.Context, path string, into any) error {
	body, err := r.text(ctx, path)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(body, into); err != nil {
		return fmt.Errorf("the answer is not JSON: %w", err)
	}
	return nil
}

// changesWithin is how long the answer to changes takes when there are none.
const changesWithin = 20 * time.Second

// changes waits for a change of a service since tag, and returns its healthy instances.
// If there was none in time, it returns tag and nothing else.
func (r remote) changes(ctx context.Context, service, tag string) (healthy []instance, next string, err error) {
	ctx, cancel := context.WithTimeout(ctx, changesWithin+answerWithin)
	defer cancel()
	headers := map[string]string{}
	if tag != "" {
		headers["If-None-Match"] = tag
	}
	resp, err := r.do(ctx, "/v1/services/"+url.PathEscape(service)+"?wait="+changesWithin.String(), headers)
	if err != nil {
		return nil, "", err
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotModified {
		return nil, tag, nil
	}
	var list struct{ Instances []instance }
	if err := json.NewDecoder(io.LimitReader(resp.Body, 64<<20)).Decode(&list); err != nil {
		return nil, "", fmt.Errorf("read the answer: %w", err)
	}
	return list.Instances, resp.Header.Get("ETag"), nil
}

func isAway(err error) bool {
	said, ok := errors.AsType[*remoteError](err)
	return ok && said.kind == "urn:rollcall:unavailable"
}

func isStatus(err error, status int) bool {
	said, ok := errors.AsType[*remoteError](err)
	return ok && said.status == status
}
