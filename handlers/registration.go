package handlers

import (
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/go-playground/validator/v10"

	"rollcall/app"
)

// registration is a registration as it was sent, with what can be said of each field
// alone. What fields mean is the domain's business.
type registration struct {
	Service  string            `field:"service" validate:"max=200,clean"`
	ID       string            `field:"id" validate:"max=200,clean"`
	Boot     string            `field:"boot" validate:"max=128,clean"`
	Replaces string            `field:"replaces" validate:"max=200,clean"`
	Address  string            `field:"address" validate:"max=300,clean"`
	Port     *int              `field:"port" validate:"omitempty,min=1,max=65535"`
	Hosts    []string          `field:"host" validate:"max=20,dive,max=255,clean"`
	Health   string            `field:"health" validate:"max=512,clean"`
	Expect   []string          `field:"expect" validate:"max=2,dive,max=200,clean"`
	Weight   *int              `field:"weight" validate:"omitempty,min=1,max=100"`
	FailOpen *bool             `field:"fail_open"`
	Tags     []string          `field:"tag" validate:"max=20,dive,min=1,max=64,clean"`
	Meta     map[string]string `field:"meta" validate:"max=20,dive,keys,min=1,max=64,clean,endkeys,max=256,clean"`
	Interval *time.Duration    `field:"interval"`
	Timeout  *time.Duration    `field:"timeout"`
	Grace    *time.Duration    `field:"grace"`
	Forget   *time.Duration    `field:"forget"`
	Rise     *int              `field:"rise" validate:"omitempty,min=1,max=100"`
	Fall     *int              `field:"fall" validate:"omitempty,min=1,max=100"`
}

var validate = newValidator()

func newValidator() *validator.Validate {
	v := validator.New(validator.WithRequiredStructEnabled())
	v.RegisterTagNameFunc(fieldName)
	err := v.RegisterValidation("clean", func(f validator.FieldLevel) bool {
		return !strings.ContainsFunc(f.Field().String(), unicode.IsControl)
	})
	if err != nil {
		panic(err) // a name that validator refuses
	}
	return v
}

// parseRegistration makes a registration of the fields of one.
func parseRegistration(set fields, caller string) (app.Registration, error) {
	var r registration
	for _, name := range slices.Sorted(maps.Keys(set)) {
		if err := r.set(name, set[name]); err != nil {
			return app.Registration{}, err
		}
	}
	if err := validate.Struct(&r); err != nil {
		return app.Registration{}, fieldError(err)
	}
	out := app.Registration{
		Service: r.Service, ID: r.ID, Boot: r.Boot, Replaces: r.Replaces, Address: r.Address, Caller: caller,
		Hosts: r.Hosts, Health: r.Health, Expect: r.Expect, Weight: r.Weight, FailOpen: r.FailOpen,
		Tags: r.Tags, Meta: r.Meta, Interval: r.Interval, Timeout: r.Timeout, Grace: r.Grace, Forget: r.Forget,
		Rise: r.Rise, Fall: r.Fall,
	}
	if r.Port != nil {
		out.Port = *r.Port
	}
	return out, nil
}

// set reads the values of one field.
func (r *registration) set(name string, values []string) error {
	if key, ok := strings.CutPrefix(name, "meta."); ok {
		if len(values) != 1 {
			return twiceError(name)
		}
		if r.Meta == nil {
			r.Meta = map[string]string{}
		}
		r.Meta[key] = values[0]
		return nil
	}
	switch name {
	case "host":
		r.Hosts = values
		return nil
	case "expect":
		r.Expect = values
		return nil
	case "tag":
		r.Tags = values
		return nil
	}
	var read func(string) error
	switch name {
	case "service":
		read = text(&r.Service)
	case "id":
		read = text(&r.ID)
	case "boot":
		read = text(&r.Boot)
	case "replaces":
		read = text(&r.Replaces)
	case "address":
		read = text(&r.Address)
	case "health":
		read = text(&r.Health)
	case "port":
		read = number(&r.Port)
	case "weight":
		read = number(&r.Weight)
	case "rise":
		read = number(&r.Rise)
	case "fall":
		read = number(&r.Fall)
	case "fail_open":
		read = boolean(&r.FailOpen)
	case "interval":
		read = span(&r.Interval)
	case "timeout":
		read = span(&r.Timeout)
	case "grace":
		read = span(&r.Grace)
	case "forget":
		read = span(&r.Forget)
	default:
		return &app.FieldError{Field: clip(name), Problem: "is not a field of a registration", Want: "the fields are " + known}
	}
	if len(values) != 1 {
		return twiceError(name)
	}
	if err := read(values[0]); err != nil {
		return &app.FieldError{Field: name, Problem: "is " + quote(values[0]), Want: err.Error()}
	}
	return nil
}

const known = "service, port, address, host, health, id, boot, interval, timeout, rise, fall, grace, forget, " +
	"expect, weight, tag, meta.*, replaces and fail_open"

func text(to *string) func(string) error {
	return func(s string) error {
		*to = s
		return nil
	}
}

func number(to **int) func(string) error {
	return func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil {
			return errors.New("give a whole number")
		}
		*to = &n
		return nil
	}
}

func boolean(to **bool) func(string) error {
	return func(s string) error {
		if s != "true" && s != "false" {
			return errors.New("give true or false")
		}
		b := s == "true"
		*to = &b
		return nil
	}
}

func span(to **time.Duration) func(string) error {
	return func(s string) error {
		d, err := time.ParseDuration(s)
		if err != nil {
			return errors.New("give a duration with its unit, such as 500ms, 2s or 1m")
		}
		*to = &d
		return nil
	}
}

func clip(s string) string { return strings.Trim(quote(s), `"`) }

// fieldError says what validator found, in our words. It is the first thing wrong.
func fieldError(err error) error {
	found, ok := errors.AsType[validator.ValidationErrors](err)
	if !ok || len(found) == 0 {
		return err
	}
	f := found[0]
	name, _, _ := strings.Cut(f.Field(), "[")
	out := &app.FieldError{Field: name}
	long := f.Kind().String() == "string"
	switch f.Tag() {
	case "clean":
		out.Problem, out.Want = "contains a control character", "leave it out"
	case "min":
		out.Problem, out.Want = fmt.Sprintf("is %v", f.Value()), "give a number from "+f.Param()+" up"
		if long {
			out.Problem, out.Want = "is empty", "give text, or leave it out"
		}
	case "max":
		out.Problem, out.Want = fmt.Sprintf("is %v", f.Value()), "give a number up to "+f.Param()
		if long {
			out.Problem, out.Want = fmt.Sprintf("has %d characters", len([]rune(fmt.Sprint(f.Value())))), "give at most "+f.Param()
		} else if f.Kind().String() == "slice" || f.Kind().String() == "map" {
			out.Problem, out.Want = "is given too often", "give at most "+f.Param()
		}
	}
	return out
}

// fieldName has validator name fields as callers do.
func fieldName(f reflect.StructField) string { return f.Tag.Get("field") }
