package main

import "syscall"

// dieWithParent has the kernel kill a process when the measuring one is gone, however it
// went.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// onLoopback restricts a listener on every address to calls from loopback.
func onLoopback(_, _ string, c syscall.RawConn) (err error) {
	if e := c.Control(func(fd uintptr) { err = syscall.BindToDevice(int(fd), "lo") }); e != nil {
		return e
	}
	return err
}
