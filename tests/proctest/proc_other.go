//go:build !linux

package proctest

import "syscall"

// dieWithParent has no effect on this system: every test stops its own processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
