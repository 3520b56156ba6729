// Package display makes text from outside safe for terminals, logs and pages.
package display

import (
	"fmt"
	"strings"
	"unicode"
)

// Visible returns s with an escape such as \u202e in place of each invisible character, and of each
// character that changes the display of the text around it: control characters other than line feed
// and tab, bidirectional controls, invisible letters, line separators. The joiners that emoji and
// some scripts need stay.
func Visible(s string) string {
	if strings.IndexFunc(s, isHidden) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case !isHidden(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}

// isHidden reports whether Visible escapes a character.
func isHidden(r rune) bool {
	switch r {
	case '\n', '\t', '\u200c', '\u200d': // the last two are the joiners
		return false
	}
	return unicode.In(r, unicode.Cc, unicode.Cf, unicode.Zl, unicode.Zp, unicode.Other_Default_Ignorable_Code_Point)
}
