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
// no other option of strictness, and runs the program on a Rollcall. make generators and CI run it, if npm reaches a registry.
func TestOpenAPIWithNpm(t *testing.T) {
	t.Parallel()
	if os.Getenv("ROLLCALL_GENERATORS") == "" && os.Getenv("CI") == "" {
		t.Skip("make generators and CI run it")
	}
	dir := npmFolder(t)
	t.Run("redocly lint", func(t *testing.T) {
		t.Parallel()
		out, err := npm(t, dir, "exec", "--offline", "--", "redocly", "lint", "openapi.yaml")
		if err != nil || strings.Contains(out, "Warning was generated") || !strings.Contains(out, "Your API description is valid") {
			t.Errorf("%v\n%s", err, out)
		}
	})
	t.Run("openapi-typescript", func(t *testing.T) {
		t.Parallel()
		for _, args := range [][]string{
			{"openapi-typescript", "openapi.yaml", "-o", "api.d.ts"},
			{"tsc", "--strict", "--target", "es2022", "--module", "nodenext", "main.ts"},
		} {
			if out, err := npm(t, dir, append([]string{"exec", "--offline", "--"}, args...)...); err != nil {
				t.Fatalf("%s: %v\n%s", args, err, out)
			}
		}
		runGenerated(t, "node", filepath.Join(dir, "main.js"))
	})
}

// npmFolder returns a folder with openapi.yaml, the program main.ts and the installed packages. It skips the test if npm
// is not installed or reaches no registry.
func npmFolder(t *testing.T) string {
	t.Helper()
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs npm: %v", err)
		}
	}
	dir := t.TempDir()
	for name, source := range map[string]string{"openapi.yaml": "../../handlers/openapi.yaml", "main.ts": "testdata/openapi-typescript.ts.txt"} {
		text, err := os.ReadFile(source)
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, name), string(text))
	}
	write(t, filepath.Join(dir, "package.json"), `{"private": true, "type": "module"}`)
	if out, err := npm(t, dir, append([]string{"install", "--no-audit", "--no-fund", "--loglevel=error"}, packages...)...); err != nil {
		t.Skipf("npm cannot install the packages: %s", out)
	}
	return dir
}

// npm runs npm in a folder. redocly must not ask its maker for a newer version.
func npm(t *testing.T, dir string, args ...string) (string, error) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "npm", args...)
	cmd.Dir, cmd.Env = dir, append(os.Environ(), "REDOCLY_TELEMETRY=off", "REDOCLY_SUPPRESS_UPDATE_NOTICE=true")
	out, err := cmd.CombinedOutput()
	return harness.LastLines(string(out), 60), err
}
