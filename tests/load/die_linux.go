package main

import "syscall"

// dieWithParent has the kernel kill a process when the measuring one is gone, however it
// went.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// onLoopback keeps strangers from what listens on every address.
func onLoopback(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), "lo") }); e != nil {
		return e
	}
	return err
}
