//go:build unix

package jsonbtest

import (
	"syscall"
	"time"
)

// cpuTime is what this process has used of its processors: on a busy machine less
// passes of it than of time.
func cpuTime() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		panic(err)
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
