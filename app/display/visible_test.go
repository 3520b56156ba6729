package display_test

import (
	"testing"

	"rollcall/app/display"
)

func TestHiddenCharactersAreVisible(t *testing.T) {
	t.Parallel()
	for s, want := range map[string]string{
		"":            "",
		"web-1\tok\n": "web-1\tok\n",
		"größe 日本 👩\u200d👩 می\u200cخواهم": "größe 日本 👩\u200d👩 می\u200cخواهم",
		"exe\u202egpj.txt":          `exe\u202egpj.txt`,
		"\u2066a\u2069\u200e\u061c": `\u2066a\u2069\u200e\u061c`,
		"a\u200bb\ufeffc\u00add":    `a\u200bb\ufeffc\u00add`,
		"a\u2028b\u2029c\u3164d":    `a\u2028b\u2029c\u3164d`,
		"\x1b[31mred\r\x00\u009b":   `\u001b[31mred\u000d\u0000\u009b`,
		"\U000e0041":                `\U000e0041`,
	} {
		if got := display.Visible(s); got != want {
			t.Errorf("%+q: got %+q, want %+q", s, got, want)
		}
	}
}
