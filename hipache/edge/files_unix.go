//go:build unix

package edge

import "syscall"

// openFiles returns the number of files that this process may open.
func openFiles() int {
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit); err != nil {
		return manyFiles
	}
	return int(min(uint64(limit.Cur), manyFiles)) //nolint:unconvert // int64 on FreeBSD
}
