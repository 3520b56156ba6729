package input

import (
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// Report reads the parameters of the URL and the fields of a heartbeat's body into a struct. Unlike QueryAndBody it accepts
// a note that a script has not encoded: JSON with line breaks in a string, or a form whose note has &, % or =. A report must
// not be lost because of its note.
func Report(r *http.Request, to any) error {
	set, err := queryOf(r)
	if err != nil {
		return err
	}
	sent, err := readReport(r)
	if err != nil {
		return err
	}
	set.merge(sent)
	if strings.Join(set["note"], "") == "" {
		delete(set, "note")
	}
	return decode("field", set, to)
}

func readReport(r *http.Request) (fields, error) {
	text, err := readText(r)
	if err != nil {
		return nil, err
	}
	b, err := bodyOf(text, mediaOf(r))
	if errors.Is(err, ErrMalformed) {
		b, err = bodyOf([]byte(withoutControls.Replace(string(text))), mediaOf(r))
	}
	if err != nil {
		return nil, err
	}
	if b.json {
		return b.fields()
	}
	return reportForm(string(b.text)), nil
}

// withoutControls replaces the characters that a JSON string must not contain.
var withoutControls = strings.NewReplacer(func() (pairs []string) {
	for c := range byte(' ') {
		pairs = append(pairs, string(rune(c)), " ")
	}
	pairs[2*0x1b+1] = `\u001b` // begins a colour code, which goes away as a whole
	return pairs
}()...)

var reportFields = []string{"status", "note"}

// reportForm parses a form with status and note. Any other text after the note belongs to the note.
func reportForm(text string) fields {
	set := fields{}
	for pair := range strings.SplitSeq(text, "&") {
		if pair == "" {
			continue
		}
		name, value, _ := strings.Cut(pair, "=")
		note, noted := set["note"]
		switch _, known := set[name]; {
		case !known && slices.Contains(reportFields, name):
			set[name] = []string{unescape(value)}
		case noted:
			note[0] += "&" + unescape(pair)
		default:
			name = unescape(name)
			set[name] = append(set[name], unescape(value))
		}
	}
	return set
}

// unescape decodes text of a form. It returns text that is not encoded as it is.
func unescape(text string) string {
	if decoded, err := url.QueryUnescape(text); err == nil {
		return decoded
	}
	return text
}
