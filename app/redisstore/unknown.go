package redisstore

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"reflect"
	"strings"
)

// unmarshal reads a JSON object into a record. It returns the members without a field in the record or its nested
// records, as a JSON object; empty if there are none.
func unmarshal(doc string, record any) (unknown string, err error) {
	d := json.NewDecoder(strings.NewReader(doc))
	d.DisallowUnknownFields()
	if err := d.Decode(record); err == nil {
		if _, err := d.Token(); err != io.EOF {
			return "", fmt.Errorf("text after the document at byte %d", d.InputOffset())
		}
		return "", nil
	}
	if err := json.Unmarshal([]byte(doc), record); err != nil {
		return "", err
	}
	left, err := leftover([]byte(doc), reflect.TypeOf(record).Elem())
	if err != nil || len(left) == 0 {
		return "", err
	}
	text, err := json.Marshal(left)
	return string(text), err
}

// weave adds the members that unmarshal did not know to a record's document. It drops the members of a nested record
// that no longer exists.
func weave(doc []byte, unknown string, record reflect.Type) ([]byte, error) {
	members := map[string]json.RawMessage{}
	if err := json.Unmarshal(doc, &members); err != nil {
		return nil, err
	}
	if err := merge(members, []byte(unknown), record); err != nil {
		return nil, err
	}
	rev := members["rev"] // scripts expect rev in the first place
	delete(members, "rev")
	rest, err := json.Marshal(members)
	if err != nil {
		return nil, err
	}
	return fmt.Appendf(nil, `{"rev":%s,%s`, rev, rest[1:]), nil
}

// leftover returns the members of a JSON object that have no field in the record.
func leftover(doc []byte, record reflect.Type) (map[string]json.RawMessage, error) {
	left := map[string]json.RawMessage{}
	if err := json.Unmarshal(doc, &left); err != nil {
		return nil, err
	}
	for name, text := range left {
		field, known := fieldOf(record, name)
		if !known {
			continue
		}
		delete(left, name)
		if nested, ok := nestedRecord(field); ok && !bytes.Equal(text, []byte("null")) {
			more, err := leftover(text, nested)
			if err != nil {
				return nil, err
			}
			if len(more) > 0 {
				if left[name], err = json.Marshal(more); err != nil {
					return nil, err
				}
			}
		}
	}
	return left, nil
}

// merge adds the result of leftover to the members of a record's document.
func merge(members map[string]json.RawMessage, unknown []byte, record reflect.Type) error {
	var more map[string]json.RawMessage
	if err := json.Unmarshal(unknown, &more); err != nil {
		return err
	}
	for name, text := range more {
		field, known := fieldOf(record, name)
		if !known {
			members[name] = text
			continue
		}
		nested, _ := nestedRecord(field)
		if members[name] == nil && field.Kind() == reflect.Pointer {
			continue
		}
		inner := map[string]json.RawMessage{}
		if members[name] != nil {
			if err := json.Unmarshal(members[name], &inner); err != nil {
				return err
			}
		}
		err := merge(inner, text, nested)
		if err == nil {
			members[name], err = json.Marshal(inner)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// fieldOf returns the type of the field into which encoding/json reads a member.
func fieldOf(record reflect.Type, member string) (reflect.Type, bool) {
	for f := range record.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		if strings.EqualFold(name, member) {
			return f.Type, true
		}
	}
	return nil, false
}

// nestedRecord returns the record that a field of this type holds, if it holds one.
func nestedRecord(field reflect.Type) (reflect.Type, bool) {
	if field.Kind() == reflect.Pointer {
		field = field.Elem()
	}
	return field, field.Kind() == reflect.Struct
}
