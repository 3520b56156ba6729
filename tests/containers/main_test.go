// Package containers tests Rollcall with real containers: the hook registers them, they find each
// other, the edge routes to them, and they are killed, stopped, frozen and replaced under load. The
// tests start a private Docker engine in private namespaces (see engine_test.go), build its images from
// this machine's programs, and remove everything at the end. They need root and Debian's docker.io.
// Without these the tests are skipped; with CI set they fail.
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
