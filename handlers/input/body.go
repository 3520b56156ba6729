package input

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// MaxEntries is the largest number of registrations in one body.
const MaxEntries = 100

// Errors of a body or a query that cannot be read at all.
var (
	ErrMediaType = errors.New("unsupported media type")
	ErrMalformed = errors.New("malformed") // the message continues with the malformed part
)

const (
	formType = "application/x-www-form-urlencoded"
	jsonType = "application/json"
)

// body is the body of a request: a form or valid JSON.
type body struct {
	text []byte
	json bool
}

func readBody(r *http.Request) (body, error) {
	text, err := readText(r)
	if err != nil {
		return body{}, err
	}
	return bodyOf(text, mediaOf(r))
}

func readText(r *http.Request) ([]byte, error) {
	text, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return nil, err
	}
	if err != nil {
		return nil, fmt.Errorf("%w body: %w", ErrMalformed, err)
	}
	return text, nil
}

func mediaOf(r *http.Request) string {
	return cmp.Or(r.Header.Get("Content-Type"), formType)
}

func bodyOf(text []byte, media string) (body, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return body{}, nil
	}
	kind, _, err := mime.ParseMediaType(media)
	switch {
	case err != nil:
	case isJSON(kind, text):
		return readJSON(text)
	case kind == formType:
		return body{text, false}, nil
	}
	return body{}, fmt.Errorf("content-type %s: %w", Quote(media), ErrMediaType)
}

func isJSON(media string, text []byte) bool {
	if media == formType {
		return text[0] == '{' || text[0] == '[' // curl -d '{...}' sends JSON as a form
	}
	return media == jsonType || strings.HasSuffix(media, "+json")
}

func readJSON(text []byte) (body, error) {
	if !json.Valid(text) {
		return body{}, malformedJSON(json.Unmarshal(text, new(json.RawMessage)))
	}
	return body{text, true}, nil
}

func (b body) isArray() bool { return b.json && b.text[0] == '[' }

// entries returns the entries of an array, or the body itself if it is not an array.
func (b body) entries() ([]body, error) {
	if !b.isArray() {
		return []body{b}, nil
	}
	var entries []body
	for item := range parts(b.text) {
		entries = append(entries, body{item, true})
	}
	if len(entries) == 0 || len(entries) > MaxEntries {
		return nil, malformedJSON(fmt.Errorf("an array of %d entries", len(entries)))
	}
	return entries, nil
}

// fields reads a form or an object.
func (b body) fields() (fields, error) {
	if !b.json {
		return readForm("form", string(b.text))
	}
	if b.text[0] != '{' {
		return nil, malformedJSON(errors.New("not an object"))
	}
	set := fields{}
	return set, set.flatten(b.text, "")
}

func readForm(part, text string) (fields, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, &HintError{
			fmt.Errorf("%w %s: %w", ErrMalformed, part, err),
			"encode special characters, as curl --data-urlencode name=value does",
		}
	}
	return fields(values), nil
}

func malformedJSON(err error) error {
	at := ""
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = fmt.Sprintf(" at byte %d", syntax.Offset)
	}
	return &HintError{
		fmt.Errorf("%w JSON%s: %w", ErrMalformed, at, err),
		fmt.Sprintf("give an object, or to register an array of 1 to %d", MaxEntries),
	}
}
