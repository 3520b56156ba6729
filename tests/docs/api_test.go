package docs

import (
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"rollcall/tests/docs/blocks"
)

// TestEachCallHasAnExample checks that api.md or webhooks.md runs an example of each call of openapi.yaml.
func TestEachCallHasAnExample(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromFile("../../handlers/openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, page := range []string{"api.md", "webhooks.md"} {
		text, err := os.ReadFile("../../docs/" + page)
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range blocks.Fences(string(text)) {
			if f.Language != "console" || f.Note != "" {
				continue
			}
			for _, s := range blocks.Steps(f) {
				commands = append(commands, s.Command)
			}
		}
	}
	for path, item := range doc.Paths.Map() {
		call := regexp.MustCompile(`:8080` + regexp.MustCompile(`\{\w+\}`).ReplaceAllString(path, `[^/?'" ]+`) + `(?:[?'"\s]|$)`)
		for method := range item.Operations() {
			if !hasExample(commands, method, call) {
				t.Errorf("%s %s has no example in docs/api.md or docs/webhooks.md", method, path)
			}
		}
	}
}

// hasExample reports whether one of some curl commands makes a call.
func hasExample(commands []string, method string, call *regexp.Regexp) bool {
	for _, c := range commands {
		given := regexp.MustCompile(`-X (\w+)`).FindStringSubmatch(c)
		made := http.MethodGet
		switch {
		case given != nil:
			made = given[1]
		case strings.Contains(c, " -d "):
			made = http.MethodPost
		}
		if made == method && call.MatchString(c) {
			return true
		}
	}
	return false
}
