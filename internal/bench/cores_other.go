//go:build !linux

package main

import "context"

// apart and together would choose the cores of this process and of PostgreSQL.
// Here the kernel does.
func apart(context.Context, *arena, pace) (undo func() error, err error) {
	return func() error { return nil }, nil
}

var together = apart
