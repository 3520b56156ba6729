//go:build !linux

package harness

import "syscall"

// dieWithParent has no effect on this system: every test stops its own processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
