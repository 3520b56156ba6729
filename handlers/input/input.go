// Package input reads requests: queries, forms and JSON bodies into structs and registrations. Every error
// names the field at fault and the correct input.
package input

import (
	"maps"
	"net/http"
	"strings"
)

// Query reads the parameters of the URL into a struct. The present values of the struct are the defaults; see decode.
func Query(r *http.Request, to any) error {
	if r.URL.RawQuery == "" {
		return nil
	}
	set, err := queryOf(r)
	if err != nil {
		return err
	}
	return decode("parameter", set, to)
}

// NoParameters returns an error if the URL has parameters.
func NoParameters(r *http.Request) error { return Query(r, &struct{}{}) }

// QueryAndBody reads the parameters of the URL and the fields of the body into one
// struct: curl -d hold=1s has the effect of ?hold=1s.
func QueryAndBody(r *http.Request, to any) error {
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
	set.merge(sent)
	return decode("field", set, to)
}

// queryOf returns the parameters of the URL. It drops empty ones, because forms and scripts send
// an empty parameter instead of leaving it out.
func queryOf(r *http.Request) (fields, error) {
	set, err := readForm("query", r.URL.RawQuery)
	maps.DeleteFunc(set, func(_ string, values []string) bool { return strings.Join(values, "") == "" })
	return set, err
}
