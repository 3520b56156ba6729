package chaos

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"rollcall/tests/harness"
)

// steppedSource makes the wall clock of a Go program ahead of the machine's by the seconds in the file CHAOS_CLOCK. The
// monotonic clock, and so every timer, stays that of the machine. A Go program reads the clock without the C library, so
// no preloaded library can step it.
const steppedSource = `package time

import (
	"syscall"
	"unsafe"
)

var ahead = func() *int64 {
	name, ok := syscall.Getenv("CHAOS_CLOCK")
	if !ok {
		return new(int64)
	}
	fd, err := syscall.Open(name, syscall.O_RDONLY, 0)
	if err != nil {
		panic(err)
	}
	page, err := syscall.Mmap(fd, 0, 8, syscall.PROT_READ, syscall.MAP_SHARED)
	if err != nil {
		panic(err)
	}
	return (*int64)(unsafe.Pointer(&page[0]))
}()
`

// buildStepped builds the program once with such a clock, and returns its folder. The build compiles all packages, so it
// does without the race detector.
var buildStepped = sync.OnceValues(func() (dir string, err error) {
	if dir, err = os.MkdirTemp("", "rollcall"); err != nil {
		return "", err
	}
	harness.AtEnd(func() error { return os.RemoveAll(dir) })
	root, err := exec.Command("go", "env", "GOROOT").Output()
	if err != nil {
		return "", err
	}
	library := filepath.Join(strings.TrimSpace(string(root)), "src/time")
	source, err := os.ReadFile(filepath.Join(library, "time.go"))
	if err != nil {
		return "", err
	}
	const now = "func Now() Time {\n\tsec, nsec, mono := runtimeNow()\n"
	if !strings.Contains(string(source), now) {
		return "", fmt.Errorf("this Go has another time.Now: adapt %q", now)
	}
	replaced := map[string]string{}
	for name, text := range map[string]string{
		"time.go": strings.Replace(string(source), now, now+"\tsec += *ahead\n", 1), "stepped.go": steppedSource,
	} {
		replaced[filepath.Join(library, name)] = filepath.Join(dir, name)
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			return "", err
		}
	}
	overlay, _ := json.Marshal(map[string]any{"Replace": replaced}) // strings always have a JSON form
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return "", err
	}
	build := exec.Command("go", "build", "-overlay", filepath.Join(dir, "overlay.json"), "-o", filepath.Join(dir, "rollcall"), "rollcall/app/cmd/rollcall")
	if said, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, said)
	}
	return dir, nil
})

// withSteppingClocks gives all processes a wall clock that the fault can set.
func withSteppingClocks(w *world, _ *harness.Server) []string {
	w.t.Helper()
	dir, err := buildStepped()
	if err != nil {
		w.t.Fatal(err)
	}
	clock, err := os.Create(filepath.Join(w.t.TempDir(), "clock"))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = clock.Close() })
	set := func(ahead time.Duration) {
		w.t.Helper()
		if _, err := clock.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead/time.Second)), 0); err != nil {
			w.t.Fatal(err)
		}
	}
	set(0)
	w.setClock = func(ahead time.Duration) {
		w.t.Helper()
		set(ahead)
		harness.Eventually(w.t, func() error {
			resp, err := caller.Get(w.bases[0] + "/healthz")
			if err != nil {
				return err
			}
			_ = resp.Body.Close()
			is, err := http.ParseTime(resp.Header.Get("Date"))
			if off := time.Until(is) - ahead; err == nil && off.Abs() > 5*time.Second {
				err = fmt.Errorf("the clock of web is off by %s", off)
			}
			return err
		})
	}
	return []string{"CHAOS_CLOCK=" + clock.Name(), "PATH=" + dir + ":" + os.Getenv("PATH")}
}
