package docs

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"rollcall/tests/harness"
)

// packages are the npm packages of the tests of openapi.yaml.
var packages = []string{"openapi-typescript@7.13.0", "openapi-fetch@0.17.0", "typescript@5.9.3", "@types/node@20", "@redocly/cli@2.77.0"}

// TestOpenAPIWithNpm lints openapi.yaml with redocly. It makes types with openapi-typescript, checks a program with --strict and
// no other option of strictness, and runs the program on a Rollcall.
func TestOpenAPIWithNpm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	bin := harness.Npm(t, dir, packages...)
	for name, source := range map[string]string{"openapi.yaml": "../../handlers/openapi.yaml", "main.ts": "testdata/openapi-typescript.ts.txt"} {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	write(t, filepath.Join(dir, "package.json"), `{"private": true, "type": "module"}`)
	node := func(t *testing.T, program string, args ...string) (string, error) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...)
		cmd.Dir, cmd.Env = dir, append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
		out, err := cmd.CombinedOutput()
		return harness.LastLines(string(out), 60), err
	}
	t.Run("redocly lint", func(t *testing.T) {
		t.Parallel()
		out, err := node(t, "redocly", "lint", "openapi.yaml")
		if err != nil || strings.Contains(out, "Warning was generated") || !strings.Contains(out, "Your API description is valid") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("openapi-typescript", func(t *testing.T) {
		t.Parallel()
		if out, err := node(t, "openapi-typescript", "openapi.yaml", "-o", "api.d.ts"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		if out, err := node(t, "tsc", "--strict", "--target", "es2022", "--module", "nodenext", "main.ts"); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		runGenerated(t, "node", filepath.Join(dir, "main.js"))
	})
}
