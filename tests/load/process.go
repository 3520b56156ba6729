package main

import (
	"bytes"
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a process has to come up or to end.
const patience = 60 * time.Second

// process is a program under measurement.
type process struct {
	name   string
	cmd    *exec.Cmd
	log    transcript
	exited chan struct{}
}

type transcript struct {
	mu   sync.Mutex
	text bytes.Buffer
}

// Write keeps the first megabyte: a log may repeat a line a thousand times a second.
func (t *transcript) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.text.Len() < 1<<20 {
		t.text.Write(p)
	}
	return len(p), nil
}

func (t *transcript) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.text.String()
}

// start starts a program with only a PATH and the given variables in its environment. It ends with the step.
func (b *bench) start(env []string, program string, args ...string) (*process, error) {
	p := &process{name: filepath.Base(program) + " " + strings.Join(args, " "), exited: make(chan struct{})}
	p.cmd = exec.Command(program, args...)
	p.cmd.Env = append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + os.TempDir()}, env...)
	p.cmd.Stdout, p.cmd.Stderr = &p.log, &p.log
	p.cmd.SysProcAttr = dieWithParent()
	if err := p.cmd.Start(); err != nil {
		return nil, err
	}
	go func() {
		defer close(p.exited)
		_ = p.cmd.Wait()
	}()
	b.started.Go(func() {
		select {
		case <-p.exited:
		case <-b.ctx.Done():
			p.stop()
		}
	})
	return p, nil
}

// stop ends the process as an operator does, or as a power cut when it does not end.
func (p *process) stop() {
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-p.exited:
	case <-time.After(patience):
		_ = p.cmd.Process.Kill()
		<-p.exited
	}
}

var addrPattern = regexp.MustCompile(`"addr":"([0-9.]+:[0-9]+)"`)

// addr waits until the process says that something is up, and returns where.
func (p *process) addr(ctx context.Context, what string) (addr string, err error) {
	err = eventually(ctx, func() error {
		for line := range strings.Lines(p.log.String()) {
			if m := addrPattern.FindStringSubmatch(line); m != nil && strings.Contains(line, what) {
				addr = m[1]
				return nil
			}
		}
		select {
		case <-p.exited:
			return fatal{fmt.Errorf("%s has ended: %s", p.name, p.lastWords())}
		default:
			return fmt.Errorf("%s does not say that %s: %s", p.name, what, p.lastWords())
		}
	})
	return addr, err
}

func (p *process) lastWords() string {
	text := strings.TrimSpace(p.log.String())
	return text[max(0, len(text)-500):]
}

// fatal is an error that waiting does not mend.
type fatal struct{ error }

// eventually waits until something holds.
func eventually(ctx context.Context, holds func() error) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for {
		err := holds()
		if _, is := err.(fatal); err == nil || is { //nolint:errorlint // it is never wrapped
			return err
		}
		select {
		case <-time.After(2 * time.Millisecond):
		case <-ctx.Done():
			return err
		}
	}
}

// ticks is the unit of CPU time in /proc, on every Linux that Go runs on.
const ticks = 100

// cpu is the CPU time that the process has used, in seconds.
func (p *process) cpu() float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, _ := strconv.ParseFloat(fields[11], 64)
	system, _ := strconv.ParseFloat(fields[12], 64)
	return (user + system) / ticks
}

// resident is how much memory the process has, in MiB.
func (p *process) resident() float64 { return p.status("VmRSS:") }

// anonymous is how much of it is its own: the rest is its program's file, which other
// processes of the same program share.
func (p *process) anonymous() float64 { return p.status("RssAnon:") }

func (p *process) status(field string) float64 {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.cmd.Process.Pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(text)) {
		if kb, ok := strings.CutPrefix(line, field); ok {
			n, _ := strconv.ParseFloat(strings.Fields(kb)[0], 64)
			return n / 1024
		}
	}
	return 0
}

// server is a private redis-server without persistence.
type server struct {
	*process

	at  string
	rdb *redis.Client
}

func (b *bench) redis() (*server, error) {
	port, err := freePort(b.ctx)
	if err != nil {
		return nil, err
	}
	p, err := b.start(nil, "redis-server", "--bind", "127.0.0.1", "--port", port, "--save", "", "--appendonly", "no", "--dir", os.TempDir())
	if err != nil {
		return nil, err
	}
	s := &server{process: p, at: "127.0.0.1:" + port}
	s.rdb = redis.NewClient(&redis.Options{Addr: s.at, ReadTimeout: patience})
	context.AfterFunc(b.ctx, func() { _ = s.rdb.Close() })
	return s, eventually(b.ctx, func() error { return s.rdb.Ping(b.ctx).Err() })
}

// freePort returns an unused port.
func freePort(ctx context.Context) (string, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	return port, err
}

// used is the CPU time of Redis in seconds, finer than the process's.
func (s *server) used(ctx context.Context) (float64, error) {
	user, err := s.info(ctx, "cpu", "used_cpu_user")
	if err != nil {
		return 0, err
	}
	system, err := s.info(ctx, "cpu", "used_cpu_sys")
	return user + system, err
}

// info returns one number of Redis's INFO.
func (s *server) info(ctx context.Context, section, name string) (float64, error) {
	text, err := s.rdb.Info(ctx, section).Result()
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(text) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			return strconv.ParseFloat(strings.TrimSpace(value), 64)
		}
	}
	return 0, fmt.Errorf("redis does not say %s", name)
}
