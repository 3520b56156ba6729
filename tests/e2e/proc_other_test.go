//go:build !linux

package e2e

import "syscall"

// dieWithParent can do nothing here: every test stops its own processes.
func dieWithParent() *syscall.SysProcAttr { return nil }
