package containers

import (
	"context"
	"os/exec"
	"strings"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// browse opens the vhost in a browser, which is told where the edge is and sends the
// name it was asked for, as one does that finds the name in DNS.
func (w *world) browse(t *testing.T) {
	chromium := harness.Need(t, harness.Chromium...)
	pid, err := w.init()
	w.must(err)
	before, err := w.ask(0)
	w.must(err)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	page, err := exec.CommandContext(ctx, "nsenter", "--net=/proc/"+pid+"/ns/net", chromium,
		"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
		"--disable-component-update", "--disable-sync", "--user-data-dir="+t.TempDir(),
		"--host-resolver-rules=MAP "+vhost+" "+edgeAddr, "--dump-dom", "http://"+vhost+"/demo").Output()
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.Count(string(page), `"number"`), len(before); got <= want/2 {
		t.Errorf("the page shows %d entries, want about %d:\n%s", got, want+1, tail(page, 1000))
	}
}
