package handlers

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/url"
	"strings"

	"github.com/labstack/echo/v4"

	"rollcall/app"
)

// maxArray is how many registrations one call may carry.
const maxArray = 100

// fields is one registration as it was sent, by form or JSON: every field with its
// values as text. A JSON object within is flattened: {"meta": {"a": "b"}} is meta.a.
type fields map[string][]string

// readFields reads the body: one set of fields, or several when many is true.
func readFields(c echo.Context) (sets []fields, many bool, err error) {
	body, err := io.ReadAll(c.Request().Body)
	if err != nil {
		return nil, false, fmt.Errorf("read the body: %w", err)
	}
	media := c.Request().Header.Get(echo.HeaderContentType)
	if media != "" {
		if media, _, err = mime.ParseMediaType(media); err != nil {
			return nil, false, fmt.Errorf("content-type: %w", errMedia)
		}
	}
	text := bytes.TrimSpace(body)
	looksLikeJSON := len(text) > 0 && (text[0] == '{' || text[0] == '[')
	switch {
	case media == echo.MIMEApplicationJSON, strings.HasSuffix(media, "+json"):
		return readJSON(text)
	case media != "" && media != echo.MIMEApplicationForm:
		return nil, false, fmt.Errorf("content-type %s; send a form (curl -d name=value) or application/json: %w", quote(media), errMedia)
	case looksLikeJSON: // curl -d '{...}' says that it is a form
		return readJSON(text)
	}
	set, err := readForm(string(text))
	return []fields{set}, false, err
}

func readForm(text string) (fields, error) {
	values, err := url.ParseQuery(text)
	if err != nil {
		return nil, fmt.Errorf("the form is malformed (%w): %w", err, errSyntax)
	}
	return fields(values), nil
}

func readJSON(text []byte) (sets []fields, many bool, err error) {
	if len(text) == 0 || text[0] != '[' {
		set, err := readObject(text)
		return []fields{set}, false, err
	}
	var items []json.RawMessage
	if err := json.Unmarshal(text, &items); err != nil {
		return nil, true, fmt.Errorf("the JSON is malformed (%w): %w", err, errSyntax)
	}
	if len(items) == 0 || len(items) > maxArray {
		return nil, true, fmt.Errorf("the array has %d entries, give 1 to %d: %w", len(items), maxArray, errSyntax)
	}
	for n, item := range items {
		set, err := readObject(item)
		if err != nil {
			return nil, true, fmt.Errorf("entry %d: %w", n, err)
		}
		sets = append(sets, set)
	}
	return sets, true, nil
}

// readObject flattens one JSON object. It reads tokens, because a decoder would
// silently take the last of two fields of the same name.
func readObject(text []byte) (fields, error) {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	set := fields{}
	if err := readInto(d, set, ""); err != nil {
		if field, ok := err.(*app.FieldError); ok { //nolint:errorlint // readInto returns it bare
			return nil, field
		}
		return nil, fmt.Errorf("the JSON is malformed (%w): %w", err, errSyntax)
	}
	if _, err := d.Token(); err != io.EOF { //nolint:errorlint // returned bare, by its documentation
		return nil, fmt.Errorf("the JSON goes on after the object: %w", errSyntax)
	}
	return set, nil
}

func readInto(d *json.Decoder, set fields, prefix string) error {
	t, err := d.Token()
	if err != nil {
		return noEOF(err)
	}
	if t != json.Delim('{') {
		if prefix == "" {
			return fmt.Errorf("it is not an object")
		}
		return &app.FieldError{Field: strings.TrimSuffix(prefix, "."), Problem: "is not an object"}
	}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return noEOF(err)
		}
		name := prefix + t.(string) //nolint:forcetypeassert // a key is a string
		if _, twice := set[name]; twice {
			return twiceError(name)
		}
		if name == "meta" {
			if err := readInto(d, set, "meta."); err != nil {
				return err
			}
			continue
		}
		values, err := readValue(d, name)
		if err != nil {
			return err
		}
		if values != nil {
			set[name] = values
		}
	}
	_, err = d.Token()
	return noEOF(err)
}

// readValue reads text, a number, a boolean, null (nothing), or an array of those.
func readValue(d *json.Decoder, name string) ([]string, error) {
	t, err := d.Token()
	if err != nil {
		return nil, noEOF(err)
	}
	if t == nil {
		return nil, nil
	}
	if t != json.Delim('[') {
		v, ok := scalar(t)
		if !ok {
			return nil, &app.FieldError{Field: name, Problem: "is an object", Want: "give text or a number"}
		}
		return []string{v}, nil
	}
	values := []string{}
	for d.More() {
		t, err := d.Token()
		if err != nil {
			return nil, noEOF(err)
		}
		v, ok := scalar(t)
		if !ok {
			return nil, &app.FieldError{Field: name, Problem: "is an array of something else than text", Want: "give an array of text"}
		}
		values = append(values, v)
	}
	_, err = d.Token()
	return values, noEOF(err)
}

func scalar(t json.Token) (string, bool) {
	switch v := t.(type) {
	case string:
		return v, true
	case json.Number:
		return v.String(), true
	case bool:
		return fmt.Sprint(v), true
	}
	return "", false
}

// noEOF says what an end in the middle means.
func noEOF(err error) error {
	if err == io.EOF { //nolint:errorlint // returned bare, by its documentation
		return io.ErrUnexpectedEOF
	}
	return err
}

func twiceError(field string) error {
	return &app.FieldError{Field: field, Problem: "is given twice", Want: "give it once"}
}
