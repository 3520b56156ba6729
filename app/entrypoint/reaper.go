//go:build unix

package entrypoint

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
)

// reaper is the children that we have started ourselves. The first process of a container
// also inherits those that others have left behind, and has to bury them; but the exit
// status of our own is for those who wait for it.
type reaper struct {
	mu   sync.Mutex // held while a child starts, so that none is taken for a stranger
	pids map[int]bool
}

func (r *reaper) start(c *exec.Cmd) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if err := c.Start(); err != nil {
		return err
	}
	if r.pids == nil {
		r.pids = map[int]bool{}
	}
	r.pids[c.Process.Pid] = true
	return nil
}

func (r *reaper) wait(c *exec.Cmd) error {
	err := c.Wait()
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.pids, c.Process.Pid)
	return err
}

// await waits for the end of a child, and calls stopped each time that a signal stops it.
func (r *reaper) await(c *exec.Cmd, stopped func(syscall.Signal)) (status syscall.WaitStatus) {
	pid := c.Process.Pid
	for {
		switch got, err := syscall.Wait4(pid, &status, syscall.WUNTRACED, nil); {
		case errors.Is(err, syscall.EINTR):
		case got == pid && status.Stopped():
			stopped(status.StopSignal())
		default:
			r.mu.Lock()
			defer r.mu.Unlock()
			delete(r.pids, pid)
			return status
		}
	}
}

// reapOthers buries every child that is not ours when it has ended, until it is told
// to stop.
func (r *reaper) reapOthers() (stop func()) {
	died := make(chan os.Signal, 1) // one is enough: every time, all of them are looked for
	signal.Notify(died, syscall.SIGCHLD)
	var done sync.WaitGroup
	done.Go(func() {
		for range died {
			r.reap()
		}
	})
	return func() {
		signal.Stop(died)
		close(died)
		done.Wait()
	}
}

func (r *reaper) reap() {
	r.mu.Lock()
	defer r.mu.Unlock()
	stats, _ := filepath.Glob("/proc/[0-9]*/stat") // a constant pattern is never bad
	for _, stat := range stats {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
		if err != nil || r.pids[pid] || !isZombieOf(os.Getpid(), stat) {
			continue
		}
		_, _ = syscall.Wait4(pid, nil, syscall.WNOHANG, nil)
	}
}

// isZombieOf reports whether a process has ended and its parent has not asked yet. The
// line is "pid (name) state parent ...", and the name may contain anything.
func isZombieOf(parent int, stat string) bool {
	line, err := os.ReadFile(stat)
	if err != nil {
		return false // it is gone
	}
	_, rest, _ := strings.Cut(string(line[strings.LastIndexByte(string(line), ')')+1:]), " ")
	f := strings.Fields(rest)
	return len(f) > 1 && f[0] == "Z" && f[1] == strconv.Itoa(parent)
}
