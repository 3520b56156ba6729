package handlers

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"
)

// maxArray is how many entries an array may have.
const maxArray = 100

// body is what a call brought along: a form, a JSON object or an array of those.
type body struct {
	text []byte
	json bool
}

func readBody(r *http.Request) (body, error) {
	text, err := io.ReadAll(r.Body)
	if _, tooLarge := errors.AsType[*http.MaxBytesError](err); tooLarge {
		return body{}, err
	}
	if err != nil {
		return body{}, fmt.Errorf("%w body: %w", errMalformed, err)
	}
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return body{}, nil
	}
	media := r.Header.Get(echo.HeaderContentType)
	if media == "" {
		media = echo.MIMEApplicationForm
	}
	kind, _, err := mime.ParseMediaType(media)
	switch {
	case err != nil:
	case kind == echo.MIMEApplicationJSON, strings.HasSuffix(kind, "+json"):
		return body{text, true}, nil
	case kind == echo.MIMEApplicationForm: // as curl -d '{...}' calls JSON, too
		return body{text, text[0] == '{' || text[0] == '['}, nil
	}
	return body{}, fmt.Errorf("content-type %s: %w", quote(media), errMedia)
}

func (b body) isArray() bool { return b.json && b.text[0] == '[' }

// entries takes an array apart; anything else is its own and only entry.
func (b body) entries() ([]body, error) {
	if !b.isArray() {
		return []body{b}, nil
	}
	var items []json.RawMessage
	if err := json.Unmarshal(b.text, &items); err != nil {
		return nil, malformedJSON(err)
	}
	if len(items) == 0 || len(items) > maxArray {
		return nil, malformedJSON(fmt.Errorf("an array of %d entries", len(items)))
	}
	entries := make([]body, len(items))
	for n, item := range items {
		entries[n] = body{item, true}
	}
	return entries, nil
}

// fields reads a form or an object.
func (b body) fields() (fields, error) {
	if !b.json {
		return readForm("form", string(b.text))
	}
	if err := json.Unmarshal(b.text, new(json.RawMessage)); err != nil {
		return nil, malformedJSON(err)
	}
	if b.text[0] != '{' {
		return nil, malformedJSON(errors.New("not an object"))
	}
	set := fields{}
	return set, set.flatten(b.text, "")
}

func readForm(what, text string) (fields, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, &hintError{
			fmt.Errorf("%w %s: %w", errMalformed, what, err),
			"encode what is special in a URL, as curl --data-urlencode name=value does",
		}
	}
	return fields(values), nil
}

func malformedJSON(err error) error {
	at := ""
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		at = fmt.Sprintf(" at byte %d", syntax.Offset)
	}
	return &hintError{
		fmt.Errorf("%w JSON%s: %w", errMalformed, at, err),
		fmt.Sprintf("give an object, or to register an array of 1 to %d", maxArray),
	}
}
