package harness

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	redisServer = "redis-server"
	redisReady  = 10 * time.Second // how long a server may take to start
)

// Server is a redis-server process. Its methods are for one test at a time.
type Server struct {
	network, addr string
	dir           string
	args          []string // common arguments of every launch
	env           []string // beside the test's own

	cmd    *exec.Cmd
	exited chan struct{} // closed when cmd is gone
}

// StartRedis starts a private server on a free port of the loopback interface, without persistence. It
// stops when the test ends.
func StartRedis(t testing.TB) *Server {
	t.Helper()
	Need(t, redisServer)
	port, err := reservePort(t)
	if err != nil {
		t.Fatal(err)
	}
	s := &Server{network: "tcp", addr: "127.0.0.1:" + port, args: []string{"--bind", "127.0.0.1", "--port", port}}
	if s.dir, err = os.MkdirTemp("", "redis"); err != nil { //nolint:usetesting // a socket's path must be short
		t.Fatal(err)
	}
	if err := s.launch(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.discard)
	return s
}

func launchUnix() (*Server, error) {
	dir, err := os.MkdirTemp("", "redis") // short: a socket's path has 108 bytes at most
	if err != nil {
		return nil, err
	}
	socket := filepath.Join(dir, "s")
	s := &Server{network: "unix", addr: socket, dir: dir, args: []string{"--port", "0", "--unixsocket", socket}}
	return s, s.launch()
}

// reservePort reserves a port for a server that restarts: the port is bound, so that no other process
// gets it, but not listened on, so that a server can bind it too.
func reservePort(t testing.TB) (string, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM, 0)
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	syscall.CloseOnExec(fd)
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return "", err
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return "", err
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		return "", err
	}
	return strconv.Itoa(name.(*syscall.SockaddrInet4).Port), nil
}

// launch starts the process and waits until it answers. If it does not answer, launch ends it and
// removes its files.
func (s *Server) launch(extra ...string) error {
	args := append([]string{"--dir", s.dir, "--save", "", "--appendonly", "no"}, s.args...)
	args = append(args, "--appendfsync", "no") // by default a write may wait for a slow disk, and Kill loses it
	s.cmd = exec.Command(redisServer, append(args, extra...)...)
	s.cmd.SysProcAttr = dieWithParent()
	s.cmd.Env = append(os.Environ(), s.env...)
	log, err := os.Create(filepath.Join(s.dir, "log"))
	if err != nil {
		return err
	}
	defer log.Close()
	s.cmd.Stdout, s.cmd.Stderr = log, log
	if err := s.cmd.Start(); err != nil {
		s.discard()
		return err
	}
	cmd, exited := s.cmd, make(chan struct{})
	s.exited = exited
	go func() {
		defer close(exited)
		_ = cmd.Wait()
	}()
	if err := s.await(); err != nil {
		said, _ := os.ReadFile(log.Name())
		s.discard()
		return fmt.Errorf("%s %s: %w\n%s", redisServer, strings.Join(s.cmd.Args[1:], " "), err, said)
	}
	return nil
}

func (s *Server) await() error {
	c := s.client()
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), redisReady)
	defer cancel()
	for {
		err := c.Ping(ctx).Err()
		if err == nil {
			return nil
		}
		select {
		case <-s.exited:
			return fmt.Errorf("it exited before it answered: %w", err)
		case <-ctx.Done():
			return fmt.Errorf("no answer within %s: %w", redisReady, err)
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Addr is the address of the server: host:port, or the path of the shared server's socket.
func (s *Server) Addr() string { return s.addr }

// Client returns a client of the server. It is closed when the test ends. A call ends with its context.
func (s *Server) Client(t testing.TB) *redis.Client {
	c := s.client()
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func (s *Server) client() *redis.Client {
	return redis.NewClient(&redis.Options{Network: s.network, Addr: s.addr, ContextTimeoutEnabled: true})
}

// Stop ends the server as an operator does: it saves and exits.
func (s *Server) Stop() {
	s.Thaw() // a frozen process gets no signal
	s.signal(syscall.SIGTERM)
	<-s.exited
}

// Kill ends the server as a power cut does.
func (s *Server) Kill() {
	s.signal(syscall.SIGKILL)
	<-s.exited
}

// Freeze stops the server from answering while its connections stay open.
func (s *Server) Freeze() { s.signal(syscall.SIGSTOP) }

// Thaw ends a Freeze.
func (s *Server) Thaw() { s.signal(syscall.SIGCONT) }

func (s *Server) signal(sig syscall.Signal) {
	if s.cmd.Process != nil {
		_ = s.cmd.Process.Signal(sig)
	}
}

// Restart starts the server again on its address, and stops it first if it runs. Redis options may
// follow: with "--appendonly", "yes" it persists later writes.
func (s *Server) Restart(t testing.TB, options ...string) {
	t.Helper()
	s.Stop()
	if err := s.launch(options...); err != nil {
		t.Fatal(err)
	}
}

func (s *Server) discard() {
	if s.exited != nil {
		s.Kill()
	}
	_ = os.RemoveAll(s.dir)
}
