package probe_test

import (
	"errors"
	"strings"
	"testing"

	"rollcall/app"
	"rollcall/app/probe"
)

func TestTheDetailOfABadAnswerIsTheError(t *testing.T) {
	t.Parallel()
	same(t, probe.Failure(t.Context(), errors.New("odd")), fail(app.BadAnswer, "odd"))
}

func TestDetailIsPrintable(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"":                       "",
		"plain":                  "plain",
		"a\r\nb\x1b[31m\x00\x7f": "a??b?[31m??",
		"caf\u00e9 \xff":         "caf? ?",
		strings.Repeat("x", 201): strings.Repeat("x", 200),
	} {
		if got := probe.Printable(in); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
}
