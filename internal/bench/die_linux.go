package main

import "syscall"

// dieWithParent has the kernel end a process that is started when this one ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
