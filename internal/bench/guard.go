package main

import (
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"unsafe"
)

// A guard watches that locks exclude: who has been granted a key enters it, and
// leaves it before giving the key back. It does not trust the locks that it
// watches, nor the database: it lies in memory that processes share.
type guard struct {
	cells []cell
	undo  func() error
}

// A cell watches one key, on a cache line of its own.
type cell struct {
	inside  atomic.Int64 // who has entered and not left
	count   atomic.Int64 // who has left: read on entering, written on leaving, by whoever is alone
	overlap atomic.Int64 // who entered while somebody was inside
	_       [40]byte
}

// newGuard watches that many keys in this process.
func newGuard(keys int) *guard {
	return &guard{cells: make([]cell, keys), undo: func() error { return nil }}
}

// createGuard makes a guard in a file that other processes open by its name.
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

// enter is called by who has been granted a key; leave by the same, with what
// enter returned, before he gives it back.
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

// violations tells, when nobody is inside, what went wrong with so many grants:
// the entries that overlapped, or the increments that one overwrote for another.
func (g *guard) violations(grants int64) int64 {
	var overlaps, counted int64
	for i := range g.cells {
		overlaps += g.cells[i].overlap.Load()
		counted += g.cells[i].count.Load()
	}
	return max(overlaps, grants-counted)
}

func (g *guard) close() error { return g.undo() }
