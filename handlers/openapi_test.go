package handlers_test

import (
	"testing"

	"github.com/getkin/kin-openapi/openapi3"
)

// openapi-typescript makes a field with a default required, in requests too.
func TestNoFieldOfASchemaHasADefault(t *testing.T) {
	t.Parallel()
	doc, err := openapi3.NewLoader().LoadFromFile("openapi.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, schema := range doc.Components.Schemas {
		for field, property := range schema.Value.Properties {
			if property.Value.Default != nil || property.Extensions["default"] != nil {
				t.Errorf("%s.%s has a default: name it in the description", name, field)
			}
		}
	}
}
