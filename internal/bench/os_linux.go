package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"syscall"

	"golang.org/x/sys/unix"
)

// apart keeps this process on one core and PostgreSQL on another, as if on separate machines.
// A single caller and the server take turns; on which cores the kernel runs them, which
// changes all the time, is most of the cost.
func apart(ctx context.Context, in *arena, _ pace) (undo func() error, err error) {
	return in.place(ctx, 1)
}

// together keeps them on the same core.
func together(ctx context.Context, in *arena, _ pace) (undo func() error, err error) {
	return in.place(ctx, 0)
}

// place keeps this process on the first of its cores, and new sessions of the server on the
// one that is so many further.
func (in *arena) place(ctx context.Context, further int) (undo func() error, err error) {
	var all unix.CPUSet
	if err := unix.SchedGetaffinity(0, &all); err != nil {
		return nil, fmt.Errorf("which cores: %w", err)
	}
	var cores []unix.CPUSet
	for i := range len(all) * strconv.IntSize {
		if all.IsSet(i) {
			var one unix.CPUSet
			one.Set(i)
			cores = append(cores, one)
		}
	}
	postmaster, err := in.postmaster(ctx)
	if err != nil {
		return nil, err
	}
	keep := func(own, server *unix.CPUSet) error {
		defer runtime.SetDefaultGOMAXPROCS()
		failed := unix.SchedSetaffinity(postmaster, server)
		threads, err := os.ReadDir("/proc/self/task")
		for _, t := range threads {
			id, _ := strconv.Atoi(t.Name())
			if err := unix.SchedSetaffinity(id, own); err != unix.ESRCH { // it may have ended
				failed = errors.Join(failed, err)
			}
		}
		return errors.Join(err, failed)
	}
	undo = func() error { return keep(&all, &all) }
	if err := keep(&cores[0], &cores[further%len(cores)]); err != nil {
		return nil, errors.Join(fmt.Errorf("keep to a core: %w", err), undo())
	}
	return undo, nil
}

// postmaster returns the server's first process, whose children inherit its core.
func (in *arena) postmaster(ctx context.Context) (pid int, err error) {
	const sql = "SELECT split_part(pg_read_file('postmaster.pid'), E'\n', 1)::int"
	err = in.monitor.QueryRow(ctx, sql).Scan(&pid)
	return pid, err
}

// dieWithParent makes the kernel end a started process when this one ends.
func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}
