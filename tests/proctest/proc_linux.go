package proctest

import "syscall"

// dieWithParent has the kernel kill a process when the test binary is gone, however
// it went.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
