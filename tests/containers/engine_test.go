package containers

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// engine is a Docker daemon in private network, mount and process namespaces. Its bridges and firewall
// rules do not affect this machine or another engine, and its containers reach no outside network. When
// its first process is killed, the kernel removes the namespaces, however the test ended.
type engine struct {
	dir   string
	cmd   *exec.Cmd
	dials chan dial
}

// boot is the engine's first process: it reaps orphans, restarts a daemon that has ended well, and ends with one that has
// failed. A fresh /run hides the
// sockets of another engine's containerd. On a file system in memory a container starts in half the time.
const boot = `
mount -t tmpfs tmpfs /run
mkdir "$1/data" "$1/exec"
mount -t tmpfs tmpfs "$1/data"
mount -t tmpfs tmpfs "$1/exec"
ip link set lo up
echo '{}' >"$1/daemon.json"
while dockerd --config-file "$1/daemon.json" --data-root "$1/data" --exec-root "$1/exec" --pidfile "$1/pid" --host "unix://$1/docker.sock" \
  --cgroup-parent "$2" --exec-opt native.cgroupdriver=cgroupfs; do :; done`

var shared struct {
	sync.Once
	engine  *engine
	without string // the reason why the engine cannot start
	err     error
}

// docker returns the engine that all tests share. The first call starts it and builds its images.
func docker(t *testing.T) *engine {
	t.Helper()
	if testing.Short() {
		t.Skip("it takes minutes")
	}
	for _, program := range []string{"dockerd", "docker", "unshare", "ip", "busybox", "curl", "redis-server", "memcached"} {
		if _, err := exec.LookPath(program); err != nil {
			unavailable(t, program+" is not on PATH")
		}
	}
	if os.Getuid() != 0 {
		unavailable(t, "a Docker engine needs root")
	}
	shared.Do(func() {
		if out, err := exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/run").CombinedOutput(); err != nil {
			shared.without = fmt.Sprintf("this machine lets root make no namespaces: %v: %s", err, out)
			return
		}
		if shared.engine, shared.err = startEngine(); shared.err == nil {
			shared.err = shared.engine.makeImages()
		}
	})
	if shared.without != "" { // root in a container itself: no install step helps
		t.Skip(shared.without)
	}
	if shared.err != nil {
		t.Fatal(shared.err)
	}
	return shared.engine
}

func unavailable(t *testing.T, why string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatalf("%s, and CI is set", why)
	}
	t.Skip(why)
}

func startEngine() (*engine, error) {
	dir, err := os.MkdirTemp("", "engine") // short: a socket's path has 108 bytes at most
	if err != nil {
		return nil, err
	}
	e := &engine{dir: dir, dials: make(chan dial)}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		return e, err
	}
	defer log.Close()
	e.cmd = exec.Command("unshare", "--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child",
		"sh", "-c", boot, "engine", dir, e.cgroup())
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := e.cmd.Start(); err != nil {
		return e, err
	}
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(50 * time.Millisecond) {
		if _, err = e.try("version", "--format", "{{.Server.Version}}"); err == nil {
			break
		}
		if time.Now().After(deadline) || e.cmd.Process.Signal(syscall.Signal(0)) != nil {
			said, _ := os.ReadFile(log.Name())
			return e, fmt.Errorf("dockerd does not start: %w\n%s", err, tail(said, 2000))
		}
	}
	ready := make(chan error)
	go e.dialer(ready)
	return e, <-ready
}

func (e *engine) cgroup() string { return "/rollcall-" + filepath.Base(e.dir) }

// stop kills the engine with all its processes, and removes its files and the control groups of its
// containers.
func (e *engine) stop() error {
	err := errors.Join(e.cmd.Process.Kill())
	_ = e.cmd.Wait()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(50 * time.Millisecond) {
		if gone := errors.Join(e.removeCgroups(), os.RemoveAll(e.dir)); gone == nil || time.Now().After(deadline) {
			return errors.Join(err, gone)
		}
	}
}

// removeCgroups removes the engine's control groups, of either version of them.
func (e *engine) removeCgroups() error {
	var failed []error
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		roots, _ := filepath.Glob(pattern + e.cgroup())
		for _, root := range roots {
			children, _ := filepath.Glob(root + "/*/")
			for _, dir := range append(children, root) {
				if err := os.Remove(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
					failed = append(failed, err)
				}
			}
		}
	}
	return errors.Join(failed...)
}

// init returns the process id of the engine's first process, in the namespace of the test.
func (e *engine) init() (string, error) {
	pid := strconv.Itoa(e.cmd.Process.Pid)
	children, err := os.ReadFile("/proc/" + pid + "/task/" + pid + "/children")
	first, _, _ := strings.Cut(string(children), " ")
	if err == nil && first == "" {
		err = errors.New("unshare has no child")
	}
	return first, err
}

// signal sends a signal to the daemon.
func (e *engine) signal(s syscall.Signal) error {
	first, err := e.init()
	if err != nil {
		return err
	}
	children, err := os.ReadFile("/proc/" + first + "/task/" + first + "/children")
	if err != nil {
		return err
	}
	for child := range strings.FieldsSeq(string(children)) {
		if name, _ := os.ReadFile("/proc/" + child + "/comm"); string(name) == "dockerd\n" {
			pid, err := strconv.Atoi(child)
			return errors.Join(err, syscall.Kill(pid, s))
		}
	}
	return errors.New("the daemon does not run")
}

// restart restarts the daemon. With liveRestore the containers go on meanwhile.
func (e *engine) restart(liveRestore bool) error {
	config := fmt.Appendf(nil, `{"live-restore": %t}`, liveRestore)
	if err := errors.Join(os.WriteFile(filepath.Join(e.dir, "daemon.json"), config, 0o600), e.signal(syscall.SIGHUP)); err != nil {
		return err
	}
	err := within(10*time.Second, "the daemon has read its configuration", func() error {
		got, err := e.try("info", "--format", "{{.LiveRestoreEnabled}}")
		if err == nil && got != strconv.FormatBool(liveRestore) {
			err = errors.New("live-restore is " + got)
		}
		return err
	})
	if err != nil {
		return err
	}
	before, err := os.Stat(filepath.Join(e.dir, "docker.sock"))
	if err != nil {
		return err
	}
	if err := e.signal(syscall.SIGTERM); err != nil {
		return err
	}
	return within(time.Minute, "the daemon has restarted", func() error {
		after, err := os.Stat(filepath.Join(e.dir, "docker.sock"))
		if err == nil && os.SameFile(before, after) {
			err = errors.New("its socket is the former one")
		}
		if err == nil {
			_, err = e.try("version", "--format", "{{.Server.Version}}")
		}
		return err
	})
}

// route connects the networks, which Docker isolates: it is the router between two hosts.
func (e *engine) route() error {
	pid, err := e.init()
	if err != nil {
		return err
	}
	out, err := exec.Command("nsenter", "--net=/proc/"+pid+"/ns/net", "iptables", "-I", "DOCKER-USER", "-j", "ACCEPT").CombinedOutput()
	if err != nil {
		return fmt.Errorf("iptables: %w: %s", err, out)
	}
	return nil
}

// try runs the docker command and returns its output without the last newline.
func (e *engine) try(args ...string) (string, error) { return e.tryWith(nil, args...) }

func (e *engine) tryWith(in io.Reader, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := e.command(ctx, args...)
	var out, said bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = in, &out, &said
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("docker %s: %w: %s%s", strings.Join(args, " "), err, tail(out.Bytes(), 1000), tail(said.Bytes(), 1000))
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

func (e *engine) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "docker", args...)
	cmd.Env = append(os.Environ(), "DOCKER_HOST=unix://"+e.dir+"/docker.sock", "DOCKER_CONFIG="+e.dir, "DOCKER_BUILDKIT=0")
	return cmd
}

// log returns the output of a container.
func (e *engine) log(name string) string {
	out, _ := e.command(context.Background(), "logs", "--tail", "60", name).CombinedOutput()
	return string(out)
}

// run runs the docker command like try, and fails the test on an error.
func (e *engine) run(t *testing.T, args ...string) string {
	t.Helper()
	out, err := e.try(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func tail(b []byte, n int) string { return string(b[max(0, len(b)-n):]) }

type dial struct {
	ctx           context.Context
	network, addr string
	done          chan dialed
}

type dialed struct {
	conn net.Conn
	err  error
}

// Dial connects as a process in the engine's network would: 127.0.0.1 is the engine's. All traffic of
// the tests goes there.
func (e *engine) Dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := dial{ctx, network, addr, make(chan dialed, 1)}
	select {
	case e.dials <- d:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	got := <-d.done
	return got.conn, got.err
}

// dialer makes the connections one after the other, on a thread that has moved into the engine's
// network for good: a socket belongs to the network of the thread that created it.
func (e *engine) dialer(ready chan<- error) {
	runtime.LockOSThread()
	ready <- func() error {
		pid, err := e.init()
		if err != nil {
			return err
		}
		ns, err := os.Open("/proc/" + pid + "/ns/net")
		if err != nil {
			return err
		}
		defer ns.Close()
		return unix.Setns(int(ns.Fd()), unix.CLONE_NEWNET)
	}()
	for d := range e.dials {
		var got dialed
		got.conn, got.err = (&net.Dialer{Timeout: 2 * time.Second}).DialContext(d.ctx, d.network, d.addr)
		d.done <- got
	}
}
