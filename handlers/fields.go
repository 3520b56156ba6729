package handlers

import (
	"bytes"
	"encoding/json"
	"maps"
	"net/http"
	"strings"
	"unicode/utf8"

	"rollcall/app"
)

// fields are what a call gives, by query, form or JSON: every name with its values
// as text. A JSON object within is flattened: {"meta": {"a": "b"}} is meta.a. What is
// nil was not given: a null, or the object that was flattened.
type fields map[string][]string

// readQuery reads the parameters of the URL into a struct; see decode.
func readQuery(r *http.Request, to any) error {
	set, err := queryOf(r)
	if err != nil {
		return err
	}
	return decode("parameter", set, to)
}

// readFields reads the parameters of the URL and the fields of the body into a
// struct, as if they were one: curl -d hold=1s asks for what ?hold=1s does.
func readFields(r *http.Request, to any) error {
	set, err := queryOf(r)
	if err != nil {
		return err
	}
	b, err := readBody(r)
	if err != nil {
		return err
	}
	sent, err := b.fields()
	if err != nil {
		return err
	}
	for name, values := range sent {
		set[name] = append(set[name], values...)
	}
	return decode("field", set, to)
}

// queryOf returns the parameters of the URL. An empty one is not given: that is how
// forms and scripts leave it out.
func queryOf(r *http.Request) (fields, error) {
	set, err := readForm("query", r.URL.RawQuery)
	maps.DeleteFunc(set, func(_ string, values []string) bool { return strings.Join(values, "") == "" })
	return set, err
}

// flatten adds the members of a valid JSON object. It takes them one by one, because
// a decoder would silently keep the last of two that have the same name.
func (f fields) flatten(object []byte, prefix string) error {
	d := json.NewDecoder(bytes.NewReader(object))
	_, _ = d.Token() // {
	for d.More() {
		key, _ := d.Token()
		var value json.RawMessage
		_ = d.Decode(&value)
		if err := f.add(prefix+key.(string), value); err != nil { //nolint:forcetypeassert // JSON has no other keys
			return err
		}
	}
	return nil
}

// add adds a member: text, a number or a boolean as it was written, an array of
// those, or nothing for null.
func (f fields) add(name string, value json.RawMessage) error {
	if _, known := f[name]; known {
		return twice(name)
	}
	f[name] = nil
	switch value[0] {
	case 'n':
		return nil
	case '{':
		if name != "meta" {
			return &app.FieldError{Field: clip(name), Problem: "is an object", Want: "give text, a number or a boolean"}
		}
		return f.flatten(value, "meta.")
	case '[':
		return f.addAll(name, value)
	}
	f[name] = []string{scalar(value)}
	return nil
}

func (f fields) addAll(name string, array json.RawMessage) error {
	var items []json.RawMessage
	if err := json.Unmarshal(array, &items); err != nil {
		return malformedJSON(err)
	}
	f[name] = []string{}
	for _, item := range items {
		if strings.IndexByte("{[n", item[0]) >= 0 {
			return &app.FieldError{Field: clip(name), Problem: "is an array of something else than text", Want: "give an array of text"}
		}
		f[name] = append(f[name], scalar(item))
	}
	return nil
}

// scalar returns text, and a number or a boolean as it was written.
func scalar(value json.RawMessage) string {
	if value[0] != '"' {
		return string(value)
	}
	if bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value) { // most text is as it is written
		return string(value[1 : len(value)-1])
	}
	var text string
	_ = json.Unmarshal(value, &text) // it has been read as JSON before
	return text
}

func twice(name string) error {
	return &app.FieldError{Field: clip(name), Problem: "is given twice", Want: "give it once"}
}
