package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A guard checks that locks exclude: the holder of a key enters it, and leaves it before it
// releases the key. It is independent of the locks and the database: it is memory that
// processes share.
type guard struct {
	cells []cell
	undo  func() error
}

// A cell guards one key, in its own cache line.
type cell struct {
	inside  atomic.Int64 // holders that have entered and not left
	count   atomic.Int64 // read on entering, and written increased by one on leaving
	overlap atomic.Int64 // entries while another holder was inside
	_       [40]byte
}

// newGuard returns a guard of so many keys in this process.
func newGuard(keys int) *guard {
	return &guard{cells: make([]cell, keys), undo: func() error { return nil }}
}

// createGuard creates a guard in a file, which other processes open by name.
func createGuard(keys int) (g *guard, file string, err error) {
	f, err := os.CreateTemp("", "bench-guard-*")
	if err != nil {
		return nil, "", err
	}
	defer f.Close()
	if err := f.Truncate(int64(keys) * int64(unsafe.Sizeof(cell{}))); err != nil {
		os.Remove(f.Name())
		return nil, "", err
	}
	g, err = openGuard(f.Name(), keys)
	if err != nil {
		os.Remove(f.Name())
		return nil, "", err
	}
	unmap := g.undo
	g.undo = func() error {
		os.Remove(f.Name())
		return unmap()
	}
	return g, f.Name(), nil
}

func openGuard(file string, keys int) (*guard, error) {
	f, err := os.OpenFile(file, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	size := keys * int(unsafe.Sizeof(cell{}))
	memory, err := syscall.Mmap(int(f.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("map %s: %w", file, err)
	}
	return &guard{
		cells: unsafe.Slice((*cell)(unsafe.Pointer(&memory[0])), keys),
		undo:  func() error { return syscall.Munmap(memory) },
	}, nil
}

// enter is called when a key was granted. The same caller calls leave with enter's result,
// before it releases the key.
func (g *guard) enter(key int) (seen int64) {
	c := &g.cells[key]
	if c.inside.Add(1) != 1 {
		c.overlap.Add(1)
	}
	return c.count.Load()
}

func (g *guard) leave(key int, seen int64) {
	c := &g.cells[key]
	c.count.Store(seen + 1)
	c.inside.Add(-1)
}

// violations returns the number of violations among so many grants, when no holder is inside:
// overlapping entries, or lost increments.
func (g *guard) violations(grants int64) int64 {
	var overlaps, counted int64
	for i := range g.cells {
		overlaps += g.cells[i].overlap.Load()
		counted += g.cells[i].count.Load()
	}
	return max(overlaps, grants-counted)
}

func (g *guard) close() error { return g.undo() }
