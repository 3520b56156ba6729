//go:build !linux

package redistest

import "syscall"

// dieWithParent has no effect here: Main stops the shared server, and a test stops its own.
func dieWithParent() *syscall.SysProcAttr { return nil }
