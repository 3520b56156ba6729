package input

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"

	"rollcall/app"
)

// fields are the fields of a query, form or JSON body: by name, with their values as text. Objects are
// flattened: {"meta": {"a": "b"}} is meta.a. A nil value stands for null and for a flattened object.
type fields map[string][]string

// merge adds other values to those present.
func (f fields) merge(other fields) {
	for name, values := range other {
		f[name] = append(f[name], values...)
	}
}

// flatten adds the members of a valid JSON object. It reads them one by one, because a decoder
// silently keeps the last of two members with the same name.
func (f fields) flatten(object []byte, prefix string) error {
	name, named := "", false
	for part := range parts(object) {
		if named = !named; named {
			name = prefix + scalar(part)
		} else if err := f.add(name, part); err != nil {
			return err
		}
	}
	return nil
}

// parts yields the texts between the brackets, commas and colons of a valid JSON object or array. A json.Decoder
// takes four times as long for a registration.
func parts(of []byte) iter.Seq[[]byte] {
	return func(yield func([]byte) bool) {
		for rest := bytes.TrimSpace(of[1 : len(of)-1]); len(rest) > 0; {
			n := partLength(rest)
			if !yield(bytes.TrimSpace(rest[:n])) {
				return
			}
			rest = rest[min(n+1, len(rest)):]
		}
	}
}

// partLength returns the length of the first part of a text.
func partLength(text []byte) int {
	depth, quoted := 0, false
	for n := 0; n < len(text); n++ {
		switch c := text[n]; {
		case quoted && c == '\\':
			n++
		case c == '"':
			quoted = !quoted
		case quoted:
		case c == '{', c == '[':
			depth++
		case c == '}', c == ']':
			depth--
		case depth == 0 && (c == ',' || c == ':'):
			return n
		}
	}
	return len(text)
}

// add adds a member: text, a number or a boolean, an array of them, or null.
func (f fields) add(name string, value []byte) error {
	if _, known := f[name]; known {
		return twice(name)
	}
	f[name] = nil
	switch value[0] {
	case 'n':
		return nil
	case '{':
		if name != "meta" && name != "refused" {
			return &app.FieldError{Field: clip(name), Problem: "is an object", Want: "give text, a number or a boolean"}
		}
		return f.flatten(value, name+".")
	case '[':
		return f.addAll(name, value)
	}
	f[name] = []string{scalar(value)}
	return nil
}

func (f fields) addAll(name string, array []byte) error {
	f[name] = []string{}
	for item := range parts(array) {
		if strings.IndexByte("{[n", item[0]) >= 0 {
			return &app.FieldError{Field: clip(name), Problem: "is an array of something else than text", Want: "give an array of text"}
		}
		f[name] = append(f[name], scalar(item))
	}
	return nil
}

// scalar returns the value of a JSON string, and the literal text of a number or a boolean.
func scalar(value []byte) string {
	if value[0] != '"' {
		return string(value)
	}
	if bytes.IndexByte(value, '\\') < 0 && utf8.Valid(value) { // most strings have no escapes
		return string(value[1 : len(value)-1])
	}
	var text string
	_ = json.Unmarshal(value, &text) // the value is valid JSON
	return text
}

func twice(name string) error {
	return &app.FieldError{Field: clip(name), Problem: "is given twice", Want: "give it once"}
}
