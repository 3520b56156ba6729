package display

import (
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// maxNote is the maximum length of a note, in bytes.
const maxNote = 200

// terminalCodes matches the escape sequences of terminals: ESC [ 31 m, ESC ] 0;title BEL, ESC c.
var terminalCodes = regexp.MustCompile("\x1b\\[[0-?]*[ -/]*[@-~]|\x1b\\][^\x07\x1b]*(\x07|\x1b\\\\)|\x1b[ -~]?")

// CleanNote returns the note of a report as one line of valid UTF-8 without control characters, of
// at most maxNote bytes. No note makes a report invalid.
func CleanNote(note string) string {
	note = strings.ToValidUTF8(terminalCodes.ReplaceAllString(note, ""), "\uFFFD")
	note = strings.Join(strings.FieldsFunc(note, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if len(note) <= maxNote {
		return note
	}
	end := maxNote - len("…")
	for !utf8.RuneStart(note[end]) {
		end--
	}
	return note[:end] + "…"
}
