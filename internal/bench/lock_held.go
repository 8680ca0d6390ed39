package main

import (
	"context"
	"errors"
	"runtime"
	"sync"
	"time"
)

// holdMany takes many keys, one after the other in each of 256 goroutines, and
// then gives them all back.
func holdMany(kind lockKind) runFunc {
	const goroutines = 256
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		keys := 10_000
		if p.Quick {
			keys = 2_000
		}
		// Whoever needs a connection for each holder has as many as the server gives.
		opened, err := kind.open(ctx, in, lockSetup{Keys: keys, Conns: maxConnections - 50})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		bounded, cancel := context.WithTimeout(ctx, 2*p.patience())
		defer cancel()
		m = newMeasurement()
		g, rec := newGuard(keys), newRecorder()
		unlocks, failures := make([]func() error, keys), make([]error, keys)
		before := heap()
		connections := in.watch(ctx)
		start := time.Now()
		each := func(do func(goroutine, key int)) {
			var group sync.WaitGroup
			for n := range goroutines {
				group.Go(func() {
					for key := n; key < keys; key += goroutines {
						do(n, key)
					}
				})
			}
			group.Wait()
		}
		each(func(n, key int) {
			asked := time.Now()
			if unlocks[key], failures[key] = opened.lock(bounded, key); failures[key] == nil {
				g.enter(key)
				rec.record(n, time.Since(asked))
			}
		})
		m.Took = time.Since(start)
		m.Conns = connections()
		m.Extra["heap of each, B"] = max(0, heap()-before) / float64(keys)
		m.Extra["until all are held, ms"] = m.Took.Seconds() * 1000
		each(func(_, key int) {
			if unlocks[key] == nil {
				return
			}
			g.leave(key, 0)
			failures[key] = unlocks[key]()
		})
		m.latency = rec.sum()
		m.fail(failures...)
		m.Ops = m.latency.TotalCount()
		m.Violations = g.violations(m.Ops)
		return m, in.noteLeftLocks(ctx, m)
	}
}

func heap() float64 {
	runtime.GC()
	runtime.GC()
	var stats runtime.MemStats
	runtime.ReadMemStats(&stats)
	return float64(stats.HeapAlloc)
}
