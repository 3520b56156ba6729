//go:build linux

package docker_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/harness"
)

// patience limits every wait of a test. It is long because the machine may be busy.
const patience = time.Minute

// work is the directory of the program and the linked tools, made at first use.
var work = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "rollcall-hook-") })

// program returns the path of the program under test, built once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := work()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "rollcall")
	build := exec.Command("go", "build", "-o", path, "../app/cmd/rollcall")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return path, nil
})

var client = http.Client{Timeout: 10 * time.Second}

// registry is a running Rollcall with an embedded Redis.
type registry struct {
	url   string
	redis string // address
	cmd   *exec.Cmd
	log   bytes.Buffer
}

var (
	sharedOnce     sync.Once
	sharedRegistry *registry
	errShared      error
)

// shared returns the registry of all tests that do not damage it.
func shared(t *testing.T) *registry {
	t.Helper()
	sharedOnce.Do(func() { sharedRegistry, errShared = launch(harness.FreePort(t)) })
	if errShared != nil {
		t.Fatal(errShared)
	}
	return sharedRegistry
}

func tearDown() {
	if sharedRegistry != nil {
		sharedRegistry.stop()
	}
	if dir, err := work(); err == nil {
		_ = os.RemoveAll(dir)
	}
}

// launchOwn starts a registry for one test.
func launchOwn(t *testing.T, port int) *registry {
	t.Helper()
	r, err := launch(port)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.stop)
	return r
}

// launch starts a registry with an embedded Redis, unless a variable names another Redis.
func launch(port int, environ ...string) (*registry, error) {
	path, err := program()
	if err != nil {
		return nil, err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	_ = l.Close()
	_, redis, _ := net.SplitHostPort(l.Addr().String())
	r := &registry{url: "http://127.0.0.1:" + strconv.Itoa(port), redis: "127.0.0.1:" + redis}
	r.cmd = exec.Command(path, "serve")
	r.cmd.Env = []string{"PATH=" + os.Getenv("PATH"), "PORT=" + strconv.Itoa(port), "ROLLCALL_EMBEDDED_REDIS_PORT=" + redis}
	r.cmd.Env = append(r.cmd.Env, environ...)
	r.cmd.Stderr = &r.log
	r.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := r.cmd.Start(); err != nil {
		return nil, err
	}
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		resp, err := client.Get(r.url + "/readyz")
		if err == nil {
			_ = resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return r, nil
			}
		}
		if time.Now().After(end) {
			r.stop()
			return nil, fmt.Errorf("the registry is not ready: %w\n%s", err, &r.log)
		}
	}
}

func (r *registry) stop() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// flush deletes every key of the registry's Redis.
func (r *registry) flush(t *testing.T) {
	t.Helper()
	c, err := net.Dial("tcp", r.redis)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer := make([]byte, 5)
	_, err = io.WriteString(c, "*1\r\n$8\r\nFLUSHALL\r\n")
	if err == nil {
		_, err = io.ReadFull(c, answer)
	}
	if err != nil || string(answer) != "+OK\r\n" {
		t.Fatalf("FLUSHALL: %q, %v", answer, err)
	}
}

// instance is an instance in the form of the API.
type instance struct {
	State    string
	Address  string
	Boot     string
	Hosts    []string
	Tags     []string
	Meta     map[string]string
	Weight   int
	FailOpen bool `json:"fail_open"`
	Check    struct {
		Kind, Expect, Interval, Timeout, Grace, Forget string

		Body       string   `json:"expect_body"`
		Host       string   `json:"health_host"`
		Headers    []string `json:"health_header"`
		Rise, Fall int
	}
	Last struct{ Reason string }
}

// get returns an instance. Its state is "gone" if it is not registered, and empty without an
// answer.
func (r *registry) get(id string) (i instance) {
	resp, err := client.Get(r.url + "/v1/instances/" + id)
	if err != nil {
		return i
	}
	defer resp.Body.Close()
	if resp.StatusCode == http.StatusNotFound {
		return instance{State: "gone"}
	}
	_ = json.NewDecoder(resp.Body).Decode(&i)
	return i
}

// processes returns every process with its parent.
func processes() map[int]int {
	all := map[int]int{}
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, path := range stats {
		line, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(path)))
		f := strings.Fields(string(line[bytes.LastIndexByte(line, ')')+1:]))
		all[pid], _ = strconv.Atoi(f[1])
	}
	return all
}
