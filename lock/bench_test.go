package lock_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// Every benchmark runs what it measures and its floor in turn, within one run, and reports the
// ratio: x-floor is a time divided by the floor's (less is better), floor-x a rate divided by
// the floor's (more is better). The floor is what an application could do itself: try and
// unlock on a pooled connection.
//
//	go test -run '^$' -bench . ./lock/

// benchPool returns a pool of as many connections as the floor uses.
func benchPool(b *testing.B, conns int) *pgxpool.Pool {
	b.Helper()
	config := pgtest.New(b).Pool().Config()
	config.MaxConns = int32(conns)
	return newPool(b, config)
}

// pooled locks and unlocks through the pool, correctly: on one connection.
func pooled(b *testing.B, pool *pgxpool.Pool, lockSQL string, key lock.Key, section func()) {
	conn, err := pool.Acquire(b.Context())
	if err != nil {
		b.Error(err)
		return
	}
	defer conn.Release()
	var granted, unlocked bool
	err = conn.QueryRow(b.Context(), lockSQL, key.Int64()).Scan(&granted)
	section()
	if err == nil {
		err = conn.QueryRow(b.Context(), "SELECT pg_advisory_unlock($1)", key.Int64()).Scan(&unlocked)
	}
	if err != nil || !granted || !unlocked {
		b.Error("floor:", granted, unlocked, err)
	}
}

const (
	tryLock  = "SELECT pg_try_advisory_lock($1)"
	waitLock = "SELECT pg_advisory_lock($1) IS NOT NULL"
)

func cycle(b *testing.B, l lock.Locker, key lock.Key, section func()) {
	held, err := l.Lock(b.Context(), key)
	if err != nil {
		b.Error(err)
		return
	}
	section()
	if err := held.Unlock(); err != nil {
		b.Error(err)
	}
}

func nothing() {}

func median(d []time.Duration) time.Duration {
	slices.Sort(d)
	return d[len(d)/2]
}

func BenchmarkUncontended(b *testing.B) {
	pool := benchPool(b, 1)
	locker := newPostgres(b, pool, nil)
	key := lock.Name("k")
	var floor, own []time.Duration
	for b.Loop() {
		t0 := time.Now()
		pooled(b, pool, tryLock, key, nothing)
		t1 := time.Now()
		cycle(b, locker, key, nothing)
		floor, own = append(floor, t1.Sub(t0)), append(own, time.Since(t1))
	}
	b.ReportMetric(float64(median(floor).Microseconds()), "floor-p50-µs")
	b.ReportMetric(float64(median(own).Microseconds()), "p50-µs")
	b.ReportMetric(float64(median(own))/float64(median(floor)), "x-floor")
}

// crowd calls work from several goroutines, n times in all, and returns how long that took.
func crowd(goroutines, n int, work func(goroutine int)) time.Duration {
	var group sync.WaitGroup
	start := time.Now()
	for g := range goroutines {
		group.Go(func() {
			for i := g; i < n; i += goroutines {
				work(g)
			}
		})
	}
	group.Wait()
	return time.Since(start)
}

// compare runs floor and own in turn, in rounds of n, and reports the rates.
func compare(b *testing.B, n int, floor, own func(n int) time.Duration) {
	var floors, owns []time.Duration
	for b.Loop() {
		floors, owns = append(floors, floor(n)), append(owns, own(n))
	}
	rate := func(d time.Duration) float64 { return float64(n) / d.Seconds() }
	b.ReportMetric(rate(median(floors)), "floor-cycles/s")
	b.ReportMetric(rate(median(owns)), "cycles/s")
	b.ReportMetric(median(floors).Seconds()/median(owns).Seconds(), "floor-x")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkDistinctKeys(b *testing.B) {
	for _, goroutines := range []int{64, 256, 1024} {
		b.Run(fmt.Sprint(goroutines, " goroutines"), func(b *testing.B) {
			pool := benchPool(b, 64)
			locker := newPostgres(b, pool, &lock.PostgresOptions{MaxKeys: goroutines})
			keys := make([]lock.Key, goroutines)
			for i := range keys {
				keys[i] = lock.Name("k", fmt.Sprint(i))
			}
			compare(b, 100*1024,
				func(n int) time.Duration {
					return crowd(goroutines, n/16, func(g int) { pooled(b, pool, tryLock, keys[g], nothing) }) * 16
				},
				func(n int) time.Duration {
					return crowd(goroutines, n, func(g int) { cycle(b, locker, keys[g], nothing) })
				})
		})
	}
}

// The floor waits in the server, each waiter on a connection of its own.
func BenchmarkHotKey(b *testing.B) {
	const goroutines = 32
	key := lock.Name("hot")
	b.Run("empty section", func(b *testing.B) {
		pool := benchPool(b, goroutines)
		locker := newPostgres(b, pool, nil)
		compare(b, 100*1024,
			func(n int) time.Duration {
				return crowd(goroutines, n/32, func(int) { pooled(b, pool, waitLock, key, nothing) }) * 32
			},
			func(n int) time.Duration {
				return crowd(goroutines, n, func(int) { cycle(b, locker, key, nothing) })
			})
	})
	b.Run("1 ms section", func(b *testing.B) {
		locker := newPostgres(b, benchPool(b, 1), nil)
		var slept, took time.Duration // slept under the lock; a sleep is longer than asked for
		var waits []time.Duration
		for b.Loop() {
			took += crowd(goroutines, 512, func(int) {
				start := time.Now()
				var granted, done time.Time
				cycle(b, locker, key, func() {
					granted = time.Now()
					time.Sleep(time.Millisecond)
					done = time.Now()
					slept += done.Sub(granted)
					waits = append(waits, granted.Sub(start))
				})
			})
		}
		var sum time.Duration
		for _, w := range waits {
			sum += w
		}
		b.ReportMetric(100*slept.Seconds()/took.Seconds(), "%-of-ideal")
		b.ReportMetric(float64(slices.Max(waits))/float64(sum/time.Duration(len(waits))), "max/mean-wait")
		b.ReportMetric(0, "ns/op")
	})
}

// Each Locker stands for a process: Lockers know of each other only through the server.
func BenchmarkHotKeyOfFourProcesses(b *testing.B) {
	const processes, goroutines = 4, 16
	pool := benchPool(b, 1)
	key := lock.Name("hot")
	lockers := make([]*lock.Postgres, processes)
	for i := range lockers {
		lockers[i] = newPostgres(b, pool, nil)
	}
	var grants [processes]int
	waits := slices.Repeat([]time.Duration{1}, 1<<22) // to grow it would be a wait
	waits = waits[:0]
	var took time.Duration
	run := func(d time.Duration) {
		start := time.Now()
		took += crowd(processes*goroutines, processes*goroutines, func(g int) {
			for time.Since(start) < d {
				asked := time.Now()
				cycle(b, lockers[g%processes], key, func() {
					waits = append(waits, time.Since(asked))
					grants[g%processes]++
				})
			}
		})
	}
	run(200 * time.Millisecond) // in which the processes meet, and open their wait connections
	grants, waits, took = [processes]int{}, waits[:0], 0
	for b.Loop() {
		run(2 * time.Second)
	}
	var sum time.Duration
	for _, w := range waits {
		sum += w
	}
	b.ReportMetric(100*float64(slices.Min(grants[:]))/float64(len(waits)), "%-least-share")
	b.ReportMetric(float64(slices.Max(waits))/float64(sum/time.Duration(len(waits))), "max/mean-wait")
	b.ReportMetric(float64(slices.Max(waits).Milliseconds()), "max-wait-ms")
	b.ReportMetric(float64(len(waits))/took.Seconds(), "cycles/s")
	b.ReportMetric(0, "ns/op")
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

func BenchmarkHold10000(b *testing.B) {
	const n = 10_000
	pool := benchPool(b, 1)
	locker := newPostgres(b, pool, &lock.PostgresOptions{MaxKeys: n})
	keys := make([]lock.Key, n)
	for i := range keys {
		keys[i] = lock.Name("k", fmt.Sprint(i))
	}
	held := make([]*lock.Held, n)
	before := heap()
	var each float64
	var took time.Duration
	each256 := func(do func(i int)) time.Duration {
		return crowd(256, 256, func(g int) {
			for i := g; i < n; i += 256 {
				do(i)
			}
		})
	}
	for b.Loop() {
		took += each256(func(i int) {
			var err error
			if held[i], err = locker.Lock(b.Context(), keys[i]); err != nil {
				b.Error(err)
			}
		})
		each = (heap() - before) / n
		each256(func(i int) {
			if err := held[i].Unlock(); err != nil {
				b.Error(err)
			}
		})
	}
	b.ReportMetric(float64(took.Milliseconds())/float64(b.N), "ms-to-take-all")
	b.ReportMetric(each, "heap-B/lock")
	b.ReportMetric(float64(locker.Stats().Sessions), "connections")
	b.ReportMetric(0, "ns/op")
}

func BenchmarkWaiter(b *testing.B) {
	const n = 10_000
	locker := newPostgres(b, benchPool(b, 1), nil)
	key := lock.Name("k")
	var each, stack float64
	for b.Loop() {
		held, err := locker.Lock(b.Context(), key)
		require.NoError(b, err)
		ctx, cancel := context.WithCancel(b.Context())
		before := heap()
		var group sync.WaitGroup
		for range n {
			group.Go(func() { _, _ = locker.Lock(ctx, key) })
		}
		for locker.Stats().Waiters < n {
			runtime.Gosched()
		}
		var m runtime.MemStats
		each = (heap() - before) / n
		runtime.ReadMemStats(&m)
		stack = float64(m.StackInuse) / n
		cancel()
		group.Wait()
		require.NoError(b, held.Unlock())
	}
	b.ReportMetric(each, "heap-B/waiter")
	b.ReportMetric(stack, "stack-B/waiter")
	b.ReportMetric(float64(locker.Stats().Sessions), "connections")
	b.ReportMetric(0, "ns/op")
}

// A million keys, each used once, leave nothing behind.
func BenchmarkMillionKeys(b *testing.B) {
	locker := newPostgres(b, benchPool(b, 1), nil)
	var last atomic.Int64
	use := func(n int) {
		crowd(256, n, func(int) { cycle(b, locker, lock.ID(last.Add(1)), nothing) })
	}
	use(10_000)
	before, goroutines := heap(), runtime.NumGoroutine()
	for b.Loop() {
		use(1_000_000)
	}
	b.ReportMetric((heap()-before)/1024, "heap-growth-KB")
	b.ReportMetric(float64(runtime.NumGoroutine()-goroutines), "goroutine-growth")
	b.ReportMetric(0, "ns/op")
}
