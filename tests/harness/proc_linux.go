package harness

import "syscall"

// dieWithParent makes the kernel kill a process when the test binary ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
