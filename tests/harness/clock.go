package harness

import (
	_ "embed"
	bytes "encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
	"time"
)

//go:embed preload/clock.c
var clockSource []byte

// OwnClock restarts the server on a wall clock of its own, and returns the function that sets this clock ahead of the
// machine's by a time, which may be negative. Redis options may follow; see Restart. The monotonic clock stays that of
// the machine. OwnClock needs Linux and gcc: without them the test is skipped, or fails in CI.
func (s *Server) OwnClock(t testing.TB, options ...string) (set func(ahead time.Duration)) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("a clock of its own needs Linux")
	}
	Need(t, "gcc")
	dir := t.TempDir()
	source, library := filepath.Join(dir, "clock.c"), filepath.Join(dir, "clock.so")
	if err := os.WriteFile(source, clockSource, 0o600); err != nil {
		t.Fatal(err)
	}
	if said, err := exec.Command("gcc", "-shared", "-fPIC", "-O1", "-o", library, source).CombinedOutput(); err != nil {
		t.Fatalf("gcc: %v\n%s", err, said)
	}
	file, err := os.Create(filepath.Join(dir, "ahead"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	set = func(ahead time.Duration) {
		t.Helper()
		seconds := bytes.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second))
		if _, err := file.WriteAt(seconds, 0); err != nil {
			t.Fatal(err)
		}
	}
	set(0)
	s.env = []string{"LD_PRELOAD=" + library, "ROLLCALL_CLOCK=" + file.Name()}
	s.Restart(t, options...)
	return set
}
