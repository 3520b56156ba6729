package harness

import (
	"os"
	"os/exec"
	"testing"
)

// Npm installs npm packages in a folder and returns the folder of their programs. It skips the test outside of CI and make
// generators, without npm, and if npm reaches no registry.
func Npm(t testing.TB, dir string, packages ...string) (bin string) {
	t.Helper()
	if os.Getenv("ROLLCALL_GENERATORS") == "" && os.Getenv("CI") == "" {
		t.Skip("CI and make generators run it")
	}
	for _, program := range []string{"npm", "node"} {
		if _, err := exec.LookPath(program); err != nil {
			t.Skipf("needs npm: %v", err)
		}
	}
	args := []string{"install", "--no-audit", "--no-fund", "--fetch-retries=1", "--loglevel=error", "--prefix", dir}
	if out, err := exec.CommandContext(t.Context(), "npm", append(args, packages...)...).CombinedOutput(); err != nil {
		t.Skipf("npm cannot install %s: %s", packages, out)
	}
	return dir + "/node_modules/.bin"
}
