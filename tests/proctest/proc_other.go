//go:build !linux

package proctest

import "syscall"

// dieWithParent can do nothing here: every test stops its own processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
