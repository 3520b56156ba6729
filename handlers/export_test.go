package handlers

import (
	"net/http"

	"rollcall/app"
)

// ParseRegistrations reads the registrations of a call as register does: each with
// its error, if it is an array.
func ParseRegistrations(r *http.Request, caller string) (all []app.Registration, errs []error, err error) {
	b, err := readBody(r)
	if err != nil {
		return nil, nil, err
	}
	entries, err := b.entries()
	if err != nil {
		return nil, nil, err
	}
	for _, entry := range entries {
		reg, err := entry.registration(caller)
		all, errs = append(all, reg), append(errs, err)
	}
	return all, errs, nil
}

// Describe returns what the caller is told of an error.
func Describe(err error) (status int, kind, field, want string) {
	p := describe(err)
	return p.Status, p.Type, p.Field, p.Want
}
