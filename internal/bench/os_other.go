//go:build !linux

package main

import (
	"context"
	"errors"
	"syscall"
)

// apart and together would choose the cores of this process and of PostgreSQL.
// Here the kernel does.
func apart(context.Context, *arena, pace) (undo func() error, err error) {
	return func() error { return nil }, nil
}

var together = apart

func dieWithParent() *syscall.SysProcAttr { return nil }

// networkRole would be a delayLine, which asks Linux for its timers.
func networkRole(context.Context, job, *wire) error {
	return errors.New("distances are for Linux only")
}
