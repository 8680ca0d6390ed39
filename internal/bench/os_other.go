//go:build !linux

package main

import (
	"context"
	"errors"
	"syscall"
)

// apart and together do nothing here: the kernel chooses the cores.
func apart(context.Context, *arena, pace) (undo func() error, err error) {
	return func() error { return nil }, nil
}

var together = apart

func dieWithParent() *syscall.SysProcAttr { return nil }

// networkRole fails here: delayLine needs Linux.
func networkRole(context.Context, job, *wire) error {
	return errors.New("distances are for Linux only")
}
