//go:build linux

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"rollcall/tests/harness"
)

func init() {
	programs["asks"] = asks
	programs["asks again"] = asksAgain
}

// asks is a program that finds service and memcached by the variables of a Docker link.
func asks() int {
	known := "SERVICE_PORT_" + os.Getenv("KNOWN_PORT") + "_TCP_" // which such a program has in its source
	resp, err := http.Get("http://" + net.JoinHostPort(os.Getenv(known+"ADDR"), os.Getenv(known+"PORT")))
	if err != nil {
		fmt.Println(err)
		return 1
	}
	defer resp.Body.Close()
	_, _ = io.Copy(os.Stdout, resp.Body)
	fmt.Println("", os.Getenv("MEMCACHED_PORT_11211_TCP_ADDR"))
	return 0
}

// asksAgain reads its variables again, and asks again, on HUP.
func asksAgain() int {
	told := make(chan os.Signal, 8)
	signal.Notify(told, syscall.SIGHUP, syscall.SIGTERM)
	for {
		fmt.Print(os.Getpid(), " ")
		if code := asks(); code != 0 || <-told == syscall.SIGTERM {
			return code
		}
		file, err := os.ReadFile(os.Getenv("ROLLCALL_ENV_FILE"))
		if err != nil {
			fmt.Println(err)
			return 1
		}
		for line := range strings.Lines(string(file)) {
			name, value, _ := strings.Cut(strings.TrimSpace(line), "=")
			_ = os.Setenv(name, value)
		}
	}
}

// twoPlaces serves on one port of two addresses, like two containers, and answers which one.
func twoPlaces(t *testing.T) (here, there, port string) {
	t.Helper()
	harness.Await(t, "a port is free on both addresses", func() error {
		a, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		_, port, _ = net.SplitHostPort(a.Addr().String())
		b, err := net.Listen("tcp", "127.0.0.2:"+port)
		if err != nil {
			return errors.Join(err, a.Close())
		}
		for l, name := range map[net.Listener]string{a: "here", b: "there"} {
			server := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, name) })}
			go func() { _ = server.Serve(l) }()
			t.Cleanup(func() { _ = server.Close() })
		}
		return nil
	})
	return "127.0.0.1:" + port, "127.0.0.2:" + port, port
}

// hooked is a command under rollcall run.
type hooked struct {
	*exec.Cmd
	t        *testing.T
	out, err *lines
	ended    chan struct{}
}

// hook starts a script that execs rollcall run.
func hook(t *testing.T, env []string, script string) *hooked {
	t.Helper()
	h := &hooked{Cmd: command(t, env, "exec "+script), t: t, out: &lines{}, err: &lines{}, ended: make(chan struct{})}
	h.Stdout, h.Stderr = h.out, h.err
	// A killed hook would leave its command behind.
	h.Cancel, h.WaitDelay = func() error { return h.Process.Signal(syscall.SIGTERM) }, 10*time.Second
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(h.ended)
		_ = h.Wait()
	}()
	t.Cleanup(func() {
		_ = h.Cancel()
		<-h.ended
	})
	return h
}

// prints waits until the command has printed n lines, and returns the last one.
func (h *hooked) prints(n int) (last string) {
	h.t.Helper()
	harness.Await(h.t, fmt.Sprintf("it prints line %d", n), func() error {
		all := h.out.all()
		if len(all) < n {
			return fmt.Errorf("%q, and the hook %q", all, h.err.all())
		}
		last = all[n-1]
		return nil
	})
	return last
}

// stops ends the hook, and returns its result.
func (h *hooked) stops() output {
	h.t.Helper()
	_ = h.Process.Signal(syscall.SIGTERM)
	return h.ends()
}

func (h *hooked) ends() output {
	<-h.ended
	return output{h.ProcessState.ExitCode(), strings.Join(h.out.all(), "\n"), strings.Join(h.err.all(), "\n")}
}

func TestALinksAppSeesThatANeighbourHasMoved(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	here, there, port := twoPlaces(t)
	w.register("service", "service", "id", "s1", "address", here, "health", "none")
	w.register("service", "memcached", "id", "m1", "address", "10.0.0.1:11211", "health", "none")
	tmp := t.TempDir()
	env := append(at(w.base), "PROGRAM="+os.Args[0], "KNOWN_PORT="+port, "TMPDIR="+tmp)

	once := append([]string{asProgram + "=asks"}, env...)
	if got := sh(t, once, `eval "$(rollcall env service memcached)"; exec "$PROGRAM"`); got.code != 0 || got.out != "here 10.0.0.1\n" {
		t.Errorf("with eval: %s", got)
	}
	if got := sh(t, once, `rollcall run --env service --env memcached -- "$PROGRAM"`); got.code != 0 || got.out != "here 10.0.0.1\n" {
		t.Errorf("under rollcall run: %s", got)
	}

	again := append([]string{asProgram + "=asks again"}, env...)
	h := hook(t, again, `rollcall run --env service --env memcached --on-change HUP -- "$PROGRAM"`)
	pid, first, _ := strings.Cut(h.prints(1), " ")
	if first != "here 10.0.0.1" {
		t.Fatalf("at first: %s", first)
	}
	leaves := func(id string) { w.call(http.MethodDelete, "/v1/instances/"+id, nil) }
	for n, step := range []struct {
		what string
		do   func()
		want string
	}{
		{"another one comes, and then it goes", func() {
			w.register("service", "service", "id", "s2", "address", there, "health", "none")
			leaves("s1")
		}, "there 10.0.0.1"},
		{"there is none for a moment", func() {
			leaves("s2")
			w.get("/v1/services/service", http.StatusNotFound)
			w.register("service", "service", "id", "s3", "address", here, "health", "none")
		}, "here 10.0.0.1"},
		{"it is in maintenance, and then elsewhere", func() {
			w.call(http.MethodPatch, "/v1/instances/m1", form("maintenance", "true", "for", "1h"))
			w.register("service", "memcached", "id", "m2", "address", "10.0.0.2:11211", "health", "none")
		}, "here 10.0.0.2"},
	} {
		step.do()
		if got, want := h.prints(n+2), pid+" "+step.want; got != want {
			t.Errorf("%s: it sees %q, want %q", step.what, got, want)
		}
	}
	if got := h.stops(); got.code != 0 || strings.Count(got.out, "\n") != 3 {
		t.Errorf("it was told without a change, or did not end well: %s", got)
	}
	if left, err := os.ReadDir(tmp); err != nil || len(left) > 0 {
		t.Errorf("it leaves %v behind, %v", left, err)
	}
}

// TestVariablesOutliveRollcall stops Rollcall, once without a change and once while the service moves.
func TestVariablesOutliveRollcall(t *testing.T) {
	t.Parallel()
	server := harness.StartRedis(t)
	p := boots(t, server, "web")
	other := boots(t, server, "web")
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(p.base, "http://"))
	here, there, known := twoPlaces(t)
	p.register("service", "service", "id", "s1", "address", here, "health", "none")
	file := filepath.Join(t.TempDir(), "env")
	h := hook(t, append(at(p.base), asProgram+"=asks again", "PROGRAM="+os.Args[0], "KNOWN_PORT="+known, "FILE="+file),
		`rollcall run --env service --env-file "$FILE" --on-change HUP -- "$PROGRAM"`)
	h.prints(1)
	away := func(n int) {
		p.stop()
		harness.Await(t, "the hook says that the variables stay", func() error {
			if said := h.err.all(); strings.Count(strings.Join(said, "\n"), "the variables of service stay as they are: ") < n {
				return fmt.Errorf("%q", said)
			}
			return nil
		})
	}
	moves := func(from, to, address string) {
		other.register("service", "service", "id", to, "address", address, "health", "none")
		other.call(http.MethodDelete, "/v1/instances/"+from, nil)
	}
	away(1)
	p = boots(t, server, "web", "PORT="+port)
	moves("s1", "s2", there)
	if got := h.prints(2); !strings.Contains(got, " there") {
		t.Errorf("moved after Rollcall was away: it sees %q", got)
	}
	away(2)
	moves("s2", "s3", here)
	p = boots(t, server, "web", "PORT="+port)
	if got := h.prints(3); !strings.Contains(got, " here") {
		t.Errorf("moved while Rollcall was away: it sees %q", got)
	}
	if got := h.stops(); got.code != 0 || strings.Count(got.out, "\n") != 2 {
		t.Errorf("it was told without a change, or did not end well: %s", got)
	}
	if text, err := os.ReadFile(file); err != nil || !strings.Contains(string(text), "SERVICE_PORT=tcp://"+here+"\n") {
		t.Errorf("the file that it was given says %q, %v", text, err)
	}
}

func TestACommandIsStartedWhenItsNeighboursAreThere(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "a", "id", "a1", "address", "10.0.0.1:80", "health", "none")
	h := hook(t, at(w.base), "rollcall run --env a --env b:db:5432 --env-timeout 5m -- sh -c 'echo $A_PORT $DB_PORT_5432_TCP_ADDR ${ROLLCALL_ENV_FILE-no file}'")
	got := sh(t, at(w.base), "rollcall run --env a --env b --env-timeout 1s -- echo started")
	if got.code != 1 || got.out != "" || !strings.HasPrefix(got.err, "rollcall: run: not healthy after 1s: b: ") {
		t.Errorf("b is not there: %s", got)
	}
	if out := h.out.all(); len(out) > 0 {
		t.Fatalf("started before b is there: %q", out)
	}
	w.register("service", "b", "id", "b1", "address", "10.0.0.2:1", "health", "none")
	if got, want := h.prints(1), "tcp://10.0.0.1:80 10.0.0.2 no file"; got != want {
		t.Errorf("it has %q, want %q", got, want)
	}
}

// TestACommandThatCannotBeToldEndsWhenANeighbourMoves is about commands that read their environment once:
// the supervisor that restarts them gives them a new one.
func TestACommandThatCannotBeToldEndsWhenANeighbourMoves(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "db", "id", "d1", "address", "10.0.0.1:80", "health", "none")
	h := hook(t, append(at(w.base), "ROLLCALL_SERVICE=shop", "ROLLCALL_ID=s1", "PORT=80", "ROLLCALL_HEALTH=none", "ROLLCALL_HOLD=0s"),
		`rollcall run --env db --on-change TERM -- sh -c 'echo up; exec sleep 60'`)
	h.prints(1)
	harness.Await(t, "it is registered", func() error {
		if a := w.call(http.MethodGet, "/v1/instances/s1", nil); a.status != http.StatusOK {
			return errors.New(a.String())
		}
		return nil
	})
	w.call(http.MethodDelete, "/v1/instances/d1", nil)
	w.register("service", "db", "id", "d2", "address", "10.0.0.2:80", "health", "none")
	if got := h.ends(); got.code != 128+int(syscall.SIGTERM) || !strings.Contains(got.err, "TERM: draining s1\nrollcall: drained s1") {
		t.Errorf("it did not drain, or did not end: %s", got)
	}
}

// All instances learn of the move at the same moment.
func TestInstancesRestartInTurnWhenANeighbourMoves(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "db", "id", "d1", "address", "10.0.0.1:80", "health", "none")
	const instances = 4
	run := `rollcall run --env db --on-change TERM -- sh -c "echo up \$DB_PORT; exec sleep 60"`
	var hooks []*hooked
	for n := range instances {
		env := append(at(w.base), "ROLLCALL_SERVICE=shop", fmt.Sprint("ROLLCALL_ID=s", n), fmt.Sprint("PORT=", 80+n), "ROLLCALL_HEALTH=none", "ROLLCALL_HOLD=200ms")
		h := hook(t, env, "sh -c '"+run+"; exec "+run+"'")
		h.prints(1)
		hooks = append(hooks, h)
	}
	healthy := func() int {
		var list struct{ Instances []struct{ ID string } }
		if err := json.Unmarshal([]byte(w.call(http.MethodGet, "/v1/services/shop", nil).body), &list); err != nil {
			t.Fatal(err)
		}
		return len(list.Instances)
	}
	all := func() error {
		if n := healthy(); n != instances {
			return fmt.Errorf("%d are healthy", n)
		}
		return nil
	}
	harness.Await(t, "all are registered", all)
	fewest, watched, stop := instances, make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		for {
			select {
			case <-stop:
				return
			default:
				fewest = min(fewest, healthy())
			}
		}
	}()
	w.call(http.MethodDelete, "/v1/instances/d1", nil)
	w.register("service", "db", "id", "d2", "address", "10.0.0.2:80", "health", "none")
	for _, h := range hooks {
		if got := h.prints(2); got != "up tcp://10.0.0.2:80" {
			t.Errorf("restarted it has %q", got)
		}
	}
	harness.Await(t, "all are registered again", all)
	close(stop)
	<-watched
	if fewest < 1 {
		t.Error("there was a time when none was healthy, want one to restart after the other")
	}
}

func TestWhatLinksNeedIsSaid(t *testing.T) {
	t.Parallel()
	w := newWeb(t)
	w.register("service", "a", "address", "10.0.0.1:80", "health", "none")
	for args, want := range map[string]string{ // a wrong option of rollcall run is code 2, any other failure before the start 1
		"--env a:we+b":                            "--env a:we+b: ",
		"--env a:b:http":                          "give a number from 1 to 65535",
		"--on-change HUP":                         "there is none",
		"--env-file f":                            "there is none",
		"--env a --on-change KILL":                "must be one of",
		"--env a --env-file /nowhere/env":         "/nowhere/",
		"--env a --env-file " + os.Args[0] + "/x": "not a directory",
	} {
		if got := sh(t, at(w.base), "rollcall run "+args+" -- echo started"); got.code != 1 && got.code != 2 || got.out != "" || !strings.Contains(got.err, want) {
			t.Errorf("rollcall run %s: %s, want %q in it", args, got, want)
		}
	}
	if got := sh(t, nil, "rollcall run --env a -- echo started"); got.code != 1 || got.out != "" || !strings.Contains(got.err, "ROLLCALL_URL") {
		t.Errorf("without a URL: %s", got)
	}
	got := sh(t, append(at(w.base), "TMPDIR=/nowhere"), `rollcall run --env a --on-change HUP -- sh -c 'echo $ROLLCALL_ENV_FILE; cat $ROLLCALL_ENV_FILE'`)
	file, text, _ := strings.Cut(got.out, "\n")
	if got.code != 0 || !strings.HasPrefix(file, "/dev/shm/") || !strings.Contains(text, "\nA_PORT_80_TCP_ADDR=10.0.0.1\n") {
		t.Errorf("where there is no directory for temporary files: %s", got)
	}
	if _, err := os.Stat(filepath.Dir(file)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left behind: %v", file, err)
	}
}
