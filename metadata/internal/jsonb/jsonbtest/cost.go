// Package jsonbtest has what tests of JSON share: shapes of documents, numbers at the
// edges of what there is, the table of RFC 7396, and bounds of what anything may cost.
package jsonbtest

import (
	"runtime"
	"testing"
	"time"
)

// Quickly fails a test if what it does with so many bytes takes long for them. A
// busy machine has several tries, and counts no more than the time of its processors.
func Quickly(t testing.TB, size int, do func()) {
	t.Helper()
	const limit = Slowdown * 100 * time.Millisecond
	for tries := 5; ; tries-- {
		begun, used := time.Now(), cpuTime()
		ended := make(chan any, 1)
		go func() {
			defer func() { ended <- recover() }()
			do()
		}()
		select {
		case panicked := <-ended:
			if panicked != nil {
				t.Fatal("panic:", panicked)
			}
		case <-time.After(10 * time.Second):
			t.Fatal("it does not end")
		}
		if took := min(time.Since(begun), cpuTime()-used); size > 64<<10 || took < limit {
			return
		} else if tries == 1 {
			t.Fatalf("%d bytes took %v, and may take %v", size, took, limit)
		}
	}
}

// Allocates is how many bytes do allocates. Others may, too: the least of some tries is.
func Allocates(do func()) uint64 {
	least := ^uint64(0)
	for range 3 {
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		do()
		runtime.ReadMemStats(&after)
		least = min(least, after.TotalAlloc-before.TotalAlloc)
	}
	return least
}
