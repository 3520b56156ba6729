package input

import (
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"rollcall/app"
)

// decode writes fields to the struct that to points to, by its `field` tags, and checks it by its `validate` tags. Its
// errors are FieldErrors. kind is the word for a field in errors.
func decode(kind string, set fields, to any) error {
	v := reflect.ValueOf(to).Elem()
	for _, name := range slices.Sorted(maps.Keys(set)) {
		target := targetOf(v, name)
		if target == nil {
			return unknown(kind, name, v.Type())
		}
		if set[name] == nil {
			continue
		}
		if problem, want := assign(target, set[name]); problem != "" {
			return &app.FieldError{Field: clip(name), Problem: problem, Want: want}
		}
	}
	if err := validate.Struct(to); err != nil {
		return faultOf(err)
	}
	return nil
}

// targetOf returns the target of a field: a pointer into the struct, a mapEntry, or nil for an unknown field.
func targetOf(v reflect.Value, name string) any {
	group, key, grouped := strings.Cut(name, ".")
	at, known := tagged(v.Type())[group]
	if !known {
		return nil
	}
	target := v.Field(at).Addr().Interface()
	if m, ok := target.(*map[string]string); ok {
		return mapEntry{m, key}
	} else if grouped {
		return nil
	}
	return target
}

var layouts sync.Map // reflect.Type -> map[string]int

// tagged returns the positions of a struct's fields, by their `field` tags.
func tagged(t reflect.Type) map[string]int {
	if layout, ok := layouts.Load(t); ok {
		return layout.(map[string]int) //nolint:forcetypeassert // the map has values of this type only
	}
	layout := map[string]int{}
	for f := range t.Fields() {
		if tag, ok := f.Tag.Lookup("field"); ok {
			layout[tag] = f.Index[0]
		}
	}
	layouts.Store(t, layout)
	return layout
}

// mapEntry is the target of meta.owner: of is meta, key is owner.
type mapEntry struct {
	of  *map[string]string
	key string
}

func (e mapEntry) set(value string) {
	if *e.of == nil {
		*e.of = map[string]string{}
	}
	(*e.of)[e.key] = value
}

// unknown returns the error of an unknown field. It lists the known ones.
func unknown(kind, name string, t reflect.Type) error {
	var names []string
	for f := range t.Fields() {
		if tag, ok := f.Tag.Lookup("field"); ok && f.Type.Kind() == reflect.Map {
			names = append(names, tag+".*")
		} else if ok {
			names = append(names, tag)
		}
	}
	want := "it has none"
	if len(names) > 0 {
		want = "it has " + strings.Join(names, ", ")
	}
	return &app.FieldError{Field: clip(name), Problem: "is not a " + kind + " of this call", Want: want}
}

// assign writes values to a target, or returns the problem with them and the correct input.
func assign(target any, values []string) (problem, want string) {
	list, isList := target.(*[]string)
	entry, isEntry := target.(mapEntry)
	switch {
	case isEntry && entry.key == "":
		return "has no name", "give meta.name=value, or in JSON an object"
	case slices.Contains(values, "") && !isEntry, len(values) == 0 && !isList:
		return "is empty", "give a value, or leave the field out"
	case isList:
		*list = values
	case len(values) > 1:
		return "is given twice", "give it once"
	case isEntry:
		entry.set(values[0])
	default:
		if want = parse(values[0], target); want != "" {
			return "is " + Quote(values[0]), want
		}
	}
	return "", ""
}

// parse parses text into the target of a pointer. If it cannot, it returns the correct input.
func parse(text string, to any) (want string) {
	switch to := to.(type) {
	case *string:
		*to = text
	case *int: // a port, which is 0 if it is absent
		return parsePort(text, to)
	case **int:
		*to = new(int)
		return parseInt(text, *to)
	case **bool:
		*to = new(text == "true")
		if text != "true" && text != "false" {
			return "give true or false"
		}
	case *time.Duration:
		return parseDuration(text, to)
	case **time.Duration:
		*to = new(time.Duration)
		return parseDuration(text, *to)
	default:
		panic(fmt.Sprintf("input: no way to parse a %T", to))
	}
	return ""
}

func parsePort(text string, to *int) (want string) {
	n, err := strconv.Atoi(text)
	if *to = n; err != nil || n < 1 || n > 65535 {
		return "give a number from 1 to 65535"
	}
	return ""
}

func parseInt(text string, to *int) (want string) {
	n, err := strconv.Atoi(text)
	if *to = n; err != nil {
		return "give a whole number"
	}
	return ""
}

func parseDuration(text string, to *time.Duration) (want string) {
	d, err := time.ParseDuration(text)
	if *to = d; err != nil {
		return "give a duration with its unit, such as 500ms, 2s or 1m"
	}
	return ""
}
