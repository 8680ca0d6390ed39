package faults_test

import (
	"context"
	"flag"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"

	"example.com/lockstore/internal/faults/history"
	"example.com/lockstore/internal/faults/workload"
	"example.com/lockstore/lock"
)

var soak = flag.Duration("soak", 4*time.Second, "how long TestSoak looks for leaks")

// TestSoak runs a heavy load in rounds, each of which begins in the same state. It is not
// parallel: all resources of the process must be its own.
func TestSoak(t *testing.T) {
	w := newSerialWorld(t)
	pool := w.pool("", 8)
	locker, store := w.locker(pool, impatient()), w.store(pool, nil)
	type possession struct {
		goroutines, files, sessions, locks, keys int
		heap                                     uint64
	}
	possessions := func() (p possession) {
		for range 3 {
			runtime.GC()
		}
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		files, err := os.ReadDir("/proc/self/fd")
		assert.NoError(t, err)
		return possession{
			goroutines: runtime.NumGoroutine(), files: len(files),
			sessions: one[int](w, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"),
			locks:    len(w.db.Locks(t)), keys: locker.Stats().Keys + locker.Stats().Waiters, heap: m.HeapAlloc,
		}
	}
	calls := 0
	round := func(seed int) {
		ctx, stop := context.WithTimeout(w.ctx, *soak/8)
		defer stop()
		workload.Run(ctx, locker, store, history.NewRecorder(0, func(history.Event) { calls++ }), workload.Config{
			Generation: seed, Workers: 16, Hot: 3, Cold: 50, Patience: patience, Pause: 100 * time.Microsecond, Grace: time.Second, Seed: uint64(seed),
		})
		for i := range 20 { // and calls that fail
			ended, cancel := context.WithTimeout(w.ctx, time.Duration(i)*time.Millisecond)
			_, _ = locker.LockAll(ended, lock.Name("key0"), lock.Name("key1"), lock.ID(int64(seed*1000+i)))
			cancel()
		}
		if held, err := locker.TryLock(w.ctx, lock.Name("victim")); assert.NoError(t, err) {
			assert.NoError(t, w.db.Terminate(pidOf(held)))
			w.lost(held)
		}
		w.unlocked(locker, lock.Name("victim"))
		w.soon(func() bool { return len(w.db.Locks(t)) == 0 }, "LockAll to give back what nobody wants")
	}
	for i := range 3 {
		round(i)
	}
	before := possessions()
	for i := range 5 {
		round(3 + i)
	}
	after := possessions()
	t.Logf("%d events; %+v, then %+v", calls, before, after)
	assert.LessOrEqual(t, after.goroutines, before.goroutines+4, "those of a connection come and go")
	assert.LessOrEqual(t, after.files, before.files+4)
	assert.LessOrEqual(t, after.sessions, before.sessions+4)
	assert.Zero(t, after.locks)
	assert.Zero(t, after.keys)
	assert.Less(t, after.heap, before.heap+8<<20)
}
