package main

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"unicode"

	"rollcall/app/boot"
	"rollcall/app/client"
)

// shortestMisspelt is the length of the shortest name that misspeltFor suspects. Shorter names often differ by one letter,
// such as app and api.
const shortestMisspelt = 5

// misspeltFor returns the registered service that a name to wait for is probably misspelt for, or "". A service that starts
// later than the others must not look like one: the two names differ by one edit, of no digit, and only one of
// them is waited for.
func misspeltFor(name string, registered, awaited []string) string {
	if len(name) < shortestMisspelt || slices.Contains(registered, name) {
		return ""
	}
	at := slices.IndexFunc(registered, func(is string) bool {
		return boot.Edits(name, is) == 1 && digitsOf(name) == digitsOf(is) && !slices.Contains(awaited, is)
	})
	if at < 0 {
		return ""
	}
	return registered[at]
}

func digitsOf(name string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsDigit(r) {
			return r
		}
		return -1
	}, name)
}

// misspelt returns an error if one of the names to wait for is probably misspelt. A service with a history is not.
func misspelt(ctx context.Context, api *client.Client, awaited []string) error {
	registered, err := serviceNames(ctx, api)
	if err != nil {
		return nil //nolint:nilerr // the wait reports it
	}
	for _, name := range awaited {
		is := misspeltFor(name, registered, awaited)
		if is == "" {
			continue
		}
		if _, err := client.Text(api.History(ctx, name, nil)); client.IsStatus(err, http.StatusNotFound) {
			return answerNo{fmt.Errorf("service %q has never been registered; did you mean %s? To wait for both, name both", name, is)}
		}
	}
	return nil
}
