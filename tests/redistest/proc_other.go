//go:build !linux

package redistest

import "syscall"

// dieWithParent can do nothing here: Main stops the shared server, and a test
// stops its own.
func dieWithParent() *syscall.SysProcAttr { return nil }
