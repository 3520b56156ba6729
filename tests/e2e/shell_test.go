package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"rollcall/migrations"
	"rollcall/tests/harness"
)

// linked is a program of 2013: it finds another service only by the variables of a Docker link.
func linked() int {
	resp, err := http.Get("http://" + net.JoinHostPort(os.Getenv("WEB_PORT_8080_TCP_ADDR"), os.Getenv("WEB_PORT_8080_TCP_PORT")))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	fmt.Printf(" %s %s %s", os.Getenv("WEB_NAME"), os.Getenv("WEB_PORT_8080_TCP_PROTO"), os.Getenv("CACHE_PORT_11211_TCP"))
	return 0
}

// output is the result of a command.
type output struct {
	code     int
	out, err string
}

func (s output) String() string { return fmt.Sprintf("%d, %q, %q", s.code, s.out, s.err) }

// command is a shell script with rollcall on its PATH.
func command(t testing.TB, env []string, script string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), "sh", "-euc", script)
	c.Env = append([]string{"PATH=" + filepath.Dir(harness.Binary(t)) + ":" + os.Getenv("PATH"), "HOME=" + t.TempDir(), harness.QuickExit}, env...)
	c.SysProcAttr = &syscall.SysProcAttr{Setpgid: true} // all processes of a pipe end with it
	c.Cancel = func() error { return syscall.Kill(-c.Process.Pid, syscall.SIGKILL) }
	c.WaitDelay = time.Second
	return c
}

// sh runs a script to its end.
func sh(t testing.TB, env []string, script string) output {
	t.Helper()
	c := command(t, env, script)
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err := c.Run()
	if _, ended := errors.AsType[*exec.ExitError](err); err != nil && !ended {
		t.Fatal(err)
	}
	return output{c.ProcessState.ExitCode(), out.String(), errs.String()}
}

func at(base string) []string { return []string{"ROLLCALL_URL=" + base} }

// waits matches the progress of rollcall wait.
var waits = regexp.MustCompile(`(?m)^rollcall: waiting for .*$`)

func TestWaitInAScript(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	l, err := net.Listen("tcp", "127.0.0.1:0") // an address that is not yet in use
	if err != nil {
		t.Fatal(err)
	}
	_, port, _ := net.SplitHostPort(l.Addr().String())
	env := at("http://" + l.Addr().String())
	_ = l.Close()
	if got := sh(t, env, "rollcall wait a b --timeout 300ms"); got.code != 1 || strings.Count(got.err, "ROLLCALL_URL") < 2 {
		t.Errorf("Rollcall is away: %s", got)
	}

	healthy := make(chan output)
	go func() { healthy <- sh(t, env, "rollcall wait a b --timeout 60s && echo both") }()
	p := boots(t, server, "serve", "PORT="+port)
	b := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(b.Close)
	p.register("service", "a", "id", "a1", "address", b.Listener.Addr().String(), "health", "tcp")
	p.register("service", "b", "id", "b1", "address", "127.0.0.1:1", "health", "heartbeat")
	select {
	case got := <-healthy:
		t.Fatalf("b is not healthy yet: %s", got)
	case <-time.After(500 * time.Millisecond):
	}
	p.call(http.MethodPost, "/v1/instances/b1/heartbeat", nil)
	if got := <-healthy; got.code != 0 || got.out != "both\n" || strings.Trim(waits.ReplaceAllString(got.err, ""), "\n") != "" {
		t.Errorf("both are healthy: %s", got)
	}

	p.register("service", "sick", "id", "s1", "address", "127.0.0.1:1", "health", "tcp")
	p.register("service", "resting", "id", "r1", "address", "127.0.0.1:2", "health", "none")
	p.call(http.MethodPatch, "/v1/instances/r1", form("maintenance", "true", "for", "1h"))
	got := sh(t, env, "if rollcall wait sick a resting nobody --timeout 3s; then echo yes; else echo no; fi")
	for _, want := range []string{"sick: s1 is starting (connection refused", "resting: r1 is healthy,maintenance", "nobody: no instance is registered", "not healthy after 3s"} {
		if !strings.Contains(got.err, want) {
			t.Errorf("it says %q, want %q in it", got.err, want)
		}
	}
	if got.code != 0 || got.out != "no\n" || strings.Contains(got.err, " a1 ") {
		t.Errorf("three of four are not healthy: %s", got)
	}
}

func TestEnvForAProgramThatKnowsLinks(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	b := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, "hello") }))
	t.Cleanup(b.Close)
	w.register("service", "shop", "address", b.Listener.Addr().String(), "health", "none")
	w.register("service", "memcached", "address", "[::1]:32768", "health", "none")
	env := append(at(w.base), asProgram+"=linked", "PROGRAM="+os.Args[0])
	const want = "hello /shop/web tcp tcp://[::1]:32768"
	if got := sh(t, env, `eval "$(rollcall env shop:web:8080 memcached:cache:11211)"; exec "$PROGRAM"`); got.code != 0 || got.out != want {
		t.Errorf("with eval: %s", got)
	}
	if got := sh(t, env, `cd "$HOME"; rollcall env --format dotenv shop:web:8080 memcached:cache:11211 >.env; set -a; . ./.env; exec "$PROGRAM"`); got.code != 0 || got.out != want {
		t.Errorf("with a file: %s", got)
	}
	got := sh(t, env, "rollcall env --format json memcached:cache:11211")
	if vars := decode[map[string]string](t, got.out); got.code != 0 || vars["CACHE_PORT_11211_TCP_ADDR"] != "::1" || len(vars) != 6 {
		t.Errorf("as JSON: %s", got)
	}
	for args, code := range map[string]int{"nobody": 1, "shop:we;b": 4, "shop:web:+80": 4, "shop:a:b:c": 4, "--format yaml shop": 2} {
		if got := sh(t, env, "rollcall env '"+strings.ReplaceAll(args, " ", "' '")+"'"); got.code != code || got.err == "" || strings.Contains(got.out, "export") {
			t.Errorf("rollcall env %s: %s", args, got)
		}
	}
}

func TestLsAsJSON(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	if got := sh(t, at(w.base), "rollcall ls -o json"); got.code != 0 || got.out != "[]\n" {
		t.Errorf("of nothing: %s", got)
	}
	w.register("service", "web", "id", "w1", "address", "10.0.0.1:80", "health", "none", "host", "a.test")
	w.register("service", "db", "id", "d1", "address", "10.0.0.2:80")
	w.call(http.MethodPatch, "/v1/instances/w1", form("maintenance", "true", "for", "1h"))
	got := sh(t, at(w.base), "rollcall ls -o json")
	var all []struct {
		ID, State string
		Hosts     []string
		Override  *struct{ Maintenance bool }
	}
	if err := json.Unmarshal([]byte(got.out), &all); err != nil || len(all) != 2 || all[0].ID != "d1" || all[0].State != "starting" ||
		all[1].ID != "w1" || all[1].Override == nil || !all[1].Override.Maintenance {
		t.Errorf("got %s: %v", got, err)
	}
	if got := sh(t, at(w.base), "rollcall ls web"); !strings.Contains(got.out, "healthy,maintenance") || strings.Contains(got.out, "d1") {
		t.Errorf("as a table: %s", got)
	}
	if got := sh(t, at(w.base), "rollcall explain a.test"); got.code != 0 || !strings.Contains(got.out, "in maintenance until ") ||
		!strings.Contains(got.out, "answers 502") || !strings.Contains(got.out, "frontend:a.test") {
		t.Errorf("explained: %s", got)
	}
}

// TestWatchMissesNothing runs watch through a proxy that cuts connections, to a process that restarts
// meanwhile.
func TestWatchMissesNothing(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	p := boots(t, server, "serve")
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.base, "http://"))
	between := cutting(t, strings.TrimPrefix(p.base, "http://"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	c := command(t, at("http://"+between), "exec rollcall watch -o json")
	out := &lines{}
	c.Stdout, c.Stderr = out, io.Discard
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Wait() })
	t.Cleanup(func() { _ = c.Process.Signal(syscall.SIGTERM) })
	first := 0
	harness.Await(t, "it watches", func() error {
		first++
		p.register("service", "web", "id", "w1", "address", "10.0.0.1:80", "health", "none", "meta.n", fmt.Sprint(first))
		if len(out.all()) == 0 {
			return errors.New("not yet")
		}
		return nil
	})
	for n := range 60 {
		if n == 30 {
			p.stop()
			p = boots(t, server, "serve", "PORT="+port)
		}
		p.register("service", "web", "id", "w1", "address", "10.0.0.1:80", "health", "none", "meta.n", fmt.Sprint(first+n+1))
	}
	stream, err := server.Client(t).XRange(ctx, "rollcall:events", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	var truth []string
	for _, m := range stream {
		truth = append(truth, m.ID)
	}
	harness.Await(t, "everything is printed", func() error {
		var ids []string
		for _, line := range out.all() {
			ids = append(ids, decode[struct{ ID string }](t, line).ID)
		}
		want := truth[max(0, len(truth)-len(ids)):]
		if len(ids) < 61 || !slices.Equal(ids, want) {
			return fmt.Errorf("%d lines\n%v\nwant\n%v", len(ids), ids, truth)
		}
		return nil
	})
}

// lines collects printed lines.
type lines struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(p)
}

// all returns the complete lines.
func (l *lines) all() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	all := strings.Split(l.text.String(), "\n")
	return all[:len(all)-1]
}

// cutting starts a proxy that cuts every connection after some hundred or some thousand bytes, and
// returns its address.
func cutting(t *testing.T, to string) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var all sync.WaitGroup
	all.Go(func() {
		dice := rand.New(rand.NewPCG(3, 0))
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			bytes := int64(500 + dice.IntN(5000))
			all.Go(func() {
				defer c.Close()
				there, err := net.Dial("tcp", to)
				if err != nil {
					return
				}
				defer there.Close()
				go io.Copy(there, c) //nolint:errcheck // it ends when one of them is closed
				_, _ = io.CopyN(c, there, bytes)
			})
		}
	})
	t.Cleanup(all.Wait)
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestExportAndImportInAPipe(t *testing.T) {
	t.Parallel()
	from, to := harness.StartRedis(t), harness.StartRedis(t)
	p := boots(t, from, "web")
	for n := range 5 {
		p.register("service", "web", "id", fmt.Sprint("w", n), "address", fmt.Sprintf("10.0.0.%d:80", 9-n), "health", "none", "host", "a.test", "weight", fmt.Sprint(n%2+1))
	}
	env := []string{"FROM=redis://" + from.Addr(), "TO=redis://" + to.Addr()}
	const pipe = "REDIS_URL=$FROM rollcall export | REDIS_URL=$TO rollcall import"
	if got := sh(t, env, pipe); got.code != 0 || got.out != "5 of 5 instances added\n" {
		t.Fatal(got)
	}
	there := to.Client(t)
	list, err := there.LRange(t.Context(), "frontend:a.test", 0, -1).Result()
	if err != nil || !slices.Equal(list, p.list("a.test")) {
		t.Errorf("the list is %v, %v, want %v", list, err, p.list("a.test"))
	}
	if v, err := there.Get(t.Context(), "rollcall:schema").Result(); err != nil || v != strconv.Itoa(migrations.Latest) {
		t.Errorf("the schema is %q, %v", v, err)
	}
	if got := sh(t, env, pipe); got.code != 0 || got.out != "0 of 5 instances added\n" {
		t.Errorf("once more: %s", got)
	}
	if got := sh(t, env, "cd $HOME; REDIS_URL=$FROM rollcall export >a; REDIS_URL=$TO rollcall export >b; cmp a b"); got.code != 0 {
		t.Errorf("the exports differ: %s", got)
	}
	got := sh(t, env, `printf '\n{"id":"x"}\n' | REDIS_URL=$TO rollcall import`)
	if got.code != 1 || !strings.Contains(got.err, "line 2") {
		t.Errorf("a broken line: %s", got)
	}
	if got := sh(t, env, "REDIS_URL=$TO rollcall import nosuch.file"); got.code != 1 || !strings.Contains(got.err, "nosuch.file") {
		t.Errorf("no file: %s", got)
	}
	if got := sh(t, nil, "rollcall export"); got.code != 1 || !strings.Contains(got.err, "REDIS_URL") {
		t.Errorf("no Redis: %s", got)
	}
}

func TestDoctorOnTheCommandLine(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	server.Restart(t, "--appendonly", "yes")
	env := []string{"REDIS_URL=redis://" + server.Addr()}
	p := boots(t, server, "serve")
	p.register("service", "web", "id", "w1", "address", "10.0.0.1:80", "health", "none", "host", "a.test")
	harness.Await(t, "all is well", func() error { // the worker must have joined
		if got := sh(t, env, "rollcall doctor"); got.code != 0 || !strings.HasPrefix(got.out, "no errors") || got.err != "" {
			return errors.New(got.String())
		}
		return nil
	})
	p.do("CONFIG SET maxmemory-policy allkeys-lru")
	got := sh(t, env, "rollcall doctor || echo exit $?")
	if !strings.Contains(got.out, "error    Redis evicts keys") || !strings.Contains(got.out, "-> set maxmemory-policy noeviction") || !strings.Contains(got.out, "exit 1\n") {
		t.Errorf("it evicts: %s", got)
	}
	p.do("CONFIG SET maxmemory-policy noeviction")
	p.stop() // it would end by itself
	p.do("SET rollcall:schema 99")
	if got := sh(t, env, "rollcall doctor || true"); !strings.Contains(got.out, "error    version 99") || !strings.Contains(got.out, "-> deploy the newer Rollcall") {
		t.Errorf("a schema of the future: %s", got)
	}
	if got := sh(t, env, "rollcall export"); got.code != 1 || !strings.Contains(got.err, "newer") {
		t.Errorf("export of a schema of the future: %s", got)
	}
	if got := sh(t, env, "rollcall import </dev/null"); got.code != 1 || !strings.Contains(got.err, "newer") {
		t.Errorf("import into a schema of the future: %s", got)
	}
}
