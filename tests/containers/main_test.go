// Package containers shows on real containers what Rollcall promises: registered by
// the hook, found by each other, routed by the edge, killed, stopped, frozen and
// replaced under load. It starts a Docker engine of its own in namespaces of its own
// (see engine_test.go), makes its images of what is on this machine, and leaves nothing
// behind. It needs root and Debian's docker.io; without, its tests are skipped, and
// fail when CI is set.
package containers

import (
	"flag"
	"fmt"
	"os"
	"testing"
)

func TestMain(m *testing.M) {
	flag.Parse()
	code := m.Run()
	if shared.engine != nil {
		if err := shared.engine.stop(); err != nil {
			fmt.Fprintln(os.Stderr, "engine:", err)
			code = max(code, 1)
		}
	}
	os.Exit(code)
}
