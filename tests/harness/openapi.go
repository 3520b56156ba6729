package harness

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

const (
	problemType = "application/problem+json"
	streamType  = "text/event-stream"
)

// pageTypes are the media types of the status page, which the document does not describe.
var pageTypes = []string{"text/html", "text/css", "text/javascript", "image/svg+xml"}

// OpenAPI is handlers/openapi.yaml.
var OpenAPI = sync.OnceValues(func() (*openapi3.T, error) {
	text, err := os.ReadFile(filepath.Join(root(), "handlers/openapi.yaml"))
	if err != nil {
		return nil, err
	}
	doc, err := openapi3.NewLoader().LoadFromData(text)
	if err != nil {
		return nil, err
	}
	return doc, doc.Validate(openapi3.NewLoader().Context)
})

// Answer is one answer of the API.
type Answer struct {
	Method, Path string // as sent, escaped
	Status       int
	Header       http.Header
	Body         []byte // not of a stream: see CheckEvent
}

// CheckAnswers returns a handler that answers as h does, and fails the test when an answer is
// not as the document says.
func CheckAnswers(t testing.TB, h http.Handler) http.Handler {
	t.Helper()
	if _, err := OpenAPI(); err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		seen := &recorder{ResponseWriter: w, status: http.StatusOK}
		h.ServeHTTP(seen, r)
		if r.Context().Err() != nil && !seen.wrote { // the caller went away
			return
		}
		a := Answer{r.Method, r.URL.EscapedPath(), seen.status, w.Header(), seen.body.Bytes()}
		if err := a.Validate(); err != nil {
			t.Errorf("%s %s: %v", r.Method, r.URL, err)
		}
	})
}

type recorder struct {
	http.ResponseWriter
	wrote  bool
	status int
	body   bytes.Buffer
}

func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func (r *recorder) WriteHeader(status int) {
	r.wrote, r.status = true, status
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	r.wrote = true
	if r.Header().Get("Content-Type") != streamType {
		r.body.Write(p)
	}
	return r.ResponseWriter.Write(p)
}

// CheckingTransport makes requests as next does, and fails the test when an answer is not as
// the document says. Streams pass through unread.
func CheckingTransport(t testing.TB, next http.RoundTripper) http.RoundTripper {
	t.Helper()
	if _, err := OpenAPI(); err != nil {
		t.Fatal(err)
	}
	return transport{t, next}
}

type transport struct {
	t    testing.TB
	next http.RoundTripper
}

func (c transport) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := c.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	a := Answer{Method: r.Method, Path: r.URL.EscapedPath(), Status: resp.StatusCode, Header: resp.Header}
	if resp.Header.Get("Content-Type") != streamType {
		body, err := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		if err != nil {
			return nil, err
		}
		a.Body, resp.Body = body, io.NopCloser(bytes.NewReader(body))
	}
	if err := a.Validate(); err != nil {
		c.t.Errorf("%s %s: %v", r.Method, r.URL, err)
	}
	return resp, nil
}

// Validate returns an error if an answer does not match the document.
func (a Answer) Validate() error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	kind, _, _ := mime.ParseMediaType(a.Header.Get("Content-Type"))
	if (slices.Contains(pageTypes, kind) || a.Status == http.StatusNotModified) && find(doc, a.Path) == nil {
		return nil
	}
	response, err := a.described(doc)
	if err != nil {
		return err
	}
	media := response.Content[kind]
	switch {
	case len(response.Content) == 0 && len(a.Body) > 0:
		return fmt.Errorf("%d has a body, %.200q, and none is described", a.Status, a.Body)
	case a.Method == http.MethodHead || len(response.Content) == 0:
		return nil
	case media == nil:
		return fmt.Errorf("%d is %q, which is not described", a.Status, kind)
	case strings.HasSuffix(kind, "json"):
		return validate(media.Schema.Value, a.Body)
	}
	return nil
}

// described finds the answer in the document. One to a path that is not there has to be
// a problem.
func (a Answer) described(doc *openapi3.T) (*openapi3.Response, error) {
	problem := doc.Components.Responses["Problem"].Value
	path := find(doc, a.Path)
	if path == nil {
		if a.Status < 400 {
			return nil, fmt.Errorf("%d for a path that is not described", a.Status)
		}
		return problem, nil
	}
	method := a.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	operation := path.GetOperation(method)
	if operation == nil {
		if a.Status < 400 {
			return nil, fmt.Errorf("%d for a method that is not described", a.Status)
		}
		return problem, nil
	}
	for _, status := range []string{strconv.Itoa(a.Status), "default"} {
		if r := operation.Responses.Value(status); r != nil && (status != "default" || a.Status >= 400) {
			return r.Value, nil
		}
	}
	return nil, fmt.Errorf("%d is not described", a.Status)
}

// find returns the description of a path.
func find(doc *openapi3.T, path string) *openapi3.PathItem {
	if item := doc.Paths.Value(path); item != nil {
		return item
	}
	parts := strings.Split(path, "/")
	for _, template := range doc.Paths.InMatchingOrder() {
		names := strings.Split(template, "/")
		matches := len(names) == len(parts)
		for n := 0; matches && n < len(names); n++ {
			matches = names[n] == parts[n] || strings.HasPrefix(names[n], "{")
		}
		if matches {
			return doc.Paths.Value(template)
		}
	}
	return nil
}

// CheckEvent returns an error if the data of a server-sent event does not match the document.
func CheckEvent(data []byte) error {
	doc, err := OpenAPI()
	if err != nil {
		return err
	}
	return validate(doc.Components.Schemas["Event"].Value, data)
}

func validate(schema *openapi3.Schema, text []byte) error {
	var value any
	if err := json.Unmarshal(text, &value); err != nil {
		return fmt.Errorf("%.200q: %w", text, err)
	}
	if err := schema.VisitJSON(value, openapi3.EnableJSONSchema2020(), openapi3.MultiErrors()); err != nil {
		return errors.Join(fmt.Errorf("%.2000s is not as described", text), err)
	}
	return nil
}
