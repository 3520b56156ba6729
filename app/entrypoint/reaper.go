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

// reaper starts children and reaps orphans. The first process of a container inherits the processes whose parent has
// ended, and must wait for them. It must not wait for its own children here: start's caller needs their exit status.
type reaper struct {
	mu   sync.Mutex // held while a child starts, so that it is not taken for an orphan
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

// await returns the status of a child after its end. It calls stopped each time that a signal stops the child.
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

// reapOrphans waits for each orphan after its end, until stop is called.
func (r *reaper) reapOrphans() (stop func()) {
	died := make(chan os.Signal, 1) // reap looks for every orphan, so one signal is enough
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

// isZombieOf reports whether a process has ended and its parent has not waited for it. The file contains
// "pid (name) state parent ...", and the name may contain any character.
func isZombieOf(parent int, stat string) bool {
	line, err := os.ReadFile(stat)
	if err != nil {
		return false // the process has been reaped
	}
	_, rest, _ := strings.Cut(string(line[strings.LastIndexByte(string(line), ')')+1:]), " ")
	f := strings.Fields(rest)
	return len(f) > 1 && f[0] == "Z" && f[1] == strconv.Itoa(parent)
}
