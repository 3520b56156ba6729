package input

import (
	"errors"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/go-playground/validator/v10"

	"rollcall/app"
)

var validate = newValidator()

// newValidator returns a validator that calls fields by their `field` tags. Its own rules are text=n, at most n bytes of
// UTF-8 without control characters, and eventkind.
func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(func(f reflect.StructField) string { return f.Tag.Get("field") })
	kinds := make([]string, len(app.EventKinds))
	for n, k := range app.EventKinds {
		kinds[n] = string(k)
	}
	v.RegisterAlias("eventkind", "oneof="+strings.Join(kinds, " "))
	err := v.RegisterValidation("text", func(f validator.FieldLevel) bool {
		limit, err := strconv.Atoi(f.Param())
		s := f.Field().String()
		return err == nil && len(s) <= limit && utf8.ValidString(s) && !strings.ContainsFunc(s, unicode.IsControl)
	})
	if err != nil {
		panic(err) // the validator refuses the name of the rule
	}
	return v
}

// faultOf turns the validator's first error into a FieldError.
func faultOf(err error) error {
	found, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok || len(found) == 0 {
		return err
	}
	f := found[0]
	path := f.Namespace() // registration.meta[owner]; Field is wrong for long names
	if _, below, ok := strings.Cut(path, "."); ok {
		path = below
	}
	name, key, _ := strings.Cut(strings.TrimSuffix(path, "]"), "[")
	if (name == "meta" || name == "refused") && key != "" { // otherwise key is a position
		name += "." + clip(key)
	}
	problem, want := faultIn(f.ActualTag(), f.Param(), reflect.ValueOf(f.Value()))
	return &app.FieldError{Field: name, Problem: problem, Want: want}
}

func faultIn(rule, param string, v reflect.Value) (problem, want string) {
	switch {
	case rule == "oneof":
		return "is " + Quote(v.String()), "give one of " + strings.ReplaceAll(param, " ", ", ")
	case rule == "text":
		return textFault(v.Len(), param)
	case v.Kind() == reflect.Slice, v.Kind() == reflect.Map:
		return fmt.Sprintf("is given %d times", v.Len()), "give at most " + param
	case rule == "max":
		return fmt.Sprintf("is %v", v), "give at most " + param
	}
	return fmt.Sprintf("is %v", v), "give at least " + param
}

func textFault(size int, most string) (problem, want string) {
	if limit, _ := strconv.Atoi(most); size > limit {
		return fmt.Sprintf("has %d bytes", size), "give at most " + most
	}
	return "is not plain text", "give UTF-8 without control characters"
}
