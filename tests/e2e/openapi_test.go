package e2e

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/labstack/echo/v4"

	"rollcall/handlers"
	"rollcall/tests/harness"
)

// TestEveryRouteIsDescribed compares the router with the description, both ways.
func TestEveryRouteIsDescribed(t *testing.T) {
	t.Parallel()
	doc, err := harness.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	described, served := map[string]bool{}, map[string]bool{}
	for path, item := range doc.Paths.Map() {
		for method := range item.Operations() {
			described[method+" "+path] = true
		}
	}
	parameter := regexp.MustCompile(`:(\w+)`)
	pages := []string{ // for people
		"/", "/events", "/explain", "/frontends", "/instances", "/instances/:id", "/services/:name", "/static/:file", "/system", "/tokens", "/webhooks",
		"/webhooks/:id",
	}
	for _, r := range (&handlers.API{}).Handler().(*echo.Echo).Routes() {
		if r.Method != http.MethodHead && !slices.Contains(pages, r.Path) { // HEAD goes without saying
			served[r.Method+" "+parameter.ReplaceAllString(r.Path, "{$1}")] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(maps.Keys(served)), slices.Sorted(maps.Keys(described))); diff != "" {
		t.Errorf("routes (-served +described):\n%s", diff)
	}
}

// TestEveryParameterIsDescribed sends an unknown parameter to every call, and compares the parameters
// that the error lists with openapi.yaml.
func TestEveryParameterIsDescribed(t *testing.T) {
	t.Parallel()
	doc, err := harness.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	w := newWeb(t)
	for path, item := range doc.Paths.Map() {
		for method, operation := range item.Operations() {
			var want []string
			for _, p := range append(slices.Clone(operation.Parameters), item.Parameters...) {
				if p.Value.In == "query" {
					want = append(want, p.Value.Name)
				}
			}
			if operation.RequestBody != nil && path != "/v1/register" { // fields may be parameters there
				for name, field := range operation.RequestBody.Value.Content["application/x-www-form-urlencoded"].Schema.Value.Properties {
					if field.Value.Type.Is("object") { // a form has a field for each member
						name += ".*"
					}
					want = append(want, name)
				}
			}
			slices.Sort(want)
			r := httptest.NewRequestWithContext(t.Context(), method, strings.NewReplacer("{id}", "x", "{name}", "x").Replace(path)+"?nosuch=1", nil)
			r.Host = "localhost"
			answered := httptest.NewRecorder()
			harness.CheckAnswers(t, w.handler).ServeHTTP(answered, r)
			var has []string
			if answered.Code == http.StatusUnprocessableEntity {
				said := strings.TrimPrefix(decode[problem](t, answered.Body.String()).Want, "it has ")
				if said != "none" {
					has = strings.Split(said, ", ")
				}
				slices.Sort(has)
			} else if answered.Code != http.StatusOK || strings.HasPrefix(path, "/v1") {
				t.Errorf("%s %s?nosuch=1: got %d", method, path, answered.Code)
			}
			if !slices.Equal(has, want) {
				t.Errorf("%s %s has %q, and %q is described", method, path, has, want)
			}
		}
	}
}

// TestRegistrationFieldsAreDescribed compares the fields of a registration with openapi.yaml.
func TestRegistrationFieldsAreDescribed(t *testing.T) {
	t.Parallel()
	doc, err := harness.OpenAPI()
	if err != nil {
		t.Fatal(err)
	}
	want := slices.Sorted(maps.Keys(doc.Components.Schemas["Registration"].Value.Properties))
	a := newWeb(t).call(http.MethodPost, "/v1/register", form("nosuch", "1"))
	said := strings.TrimPrefix(strings.ReplaceAll(a.problem(t).Want, "meta.*", "meta"), "it has ")
	if has := slices.Sorted(slices.Values(strings.Split(said, ", "))); !slices.Equal(has, want) {
		t.Errorf("a registration has %q, and %q is described", has, want)
	}
}
