package main

import (
	"context"
	"errors"
	"math/rand/v2"
	"runtime"
	"sync"
	"time"
)

// tryBusy tries to lock a key that another locker of the same kind holds.
func tryBusy(kind lockKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		setup := lockSetup{Keys: 1, Conns: 1}
		holder, err := kind.open(ctx, in, setup)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, holder.close()) }()
		unlock, err := holder.lock(ctx, 0)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, unlock()) }()
		opened, err := kind.open(ctx, in, setup)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		asker := opened.(trier)
		connections := in.watch(ctx)
		var granted int64
		m = repeat(ctx, p, func() error {
			unlock, err := asker.try(ctx, 0)
			if err == nil {
				granted++
				return unlock()
			}
			if errors.Is(err, errBusy) {
				return nil
			}
			return err
		})
		m.Conns, m.Violations = connections(), granted
		return m, nil
	}
}

// wake measures how long after this process unlocks a key another one holds it.
func wake(kind lockKind) runFunc {
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		opened, err := kind.open(ctx, in, lockSetup{Keys: 1, Conns: 2})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, opened.close()) }()
		all, err := startWorkers(ctx, 1, job{Arena: in, Role: "wake", Subject: kind.name, Pace: p})
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, all.stop()) }()
		waiter := all[0]
		if err := waiter.send("go"); err != nil {
			return nil, err
		}
		m = newMeasurement()
		connections := in.watch(ctx)
		start := time.Now()
		for first := true; first || time.Since(start) < p.Warm+2*p.Count; first = false {
			unlock, err := opened.lock(ctx, 0)
			if err != nil {
				return nil, err
			}
			if err := waiter.send("wait"); err != nil {
				return nil, err
			}
			// Long enough that the other one waits as in a long wait, and different each
			// time, so that timers do not synchronize.
			time.Sleep(30*time.Millisecond + rand.N(20*time.Millisecond))
			given := time.Now()
			if err := unlock(); err != nil {
				return nil, err
			}
			var granted grant
			if err := waiter.receive(&granted); err != nil {
				return nil, err
			}
			if granted.Error != "" {
				m.fail(errors.New(granted.Error))
				continue
			}
			wait := time.Duration(granted.At - given.UnixNano())
			if wait < 0 { // before the unlock
				m.Violations++
				continue
			}
			m.Ops++
			m.Took += wait
			m.Latency.record(wait)
		}
		m.Conns = connections()
		return m, nil
	}
}

// A grant is the time when the other process got the key, by the machine's clock. It is sent
// after the unlock.
type grant struct {
	At    int64
	Error string
}

// wakeRole locks and unlocks the key on each order.
func wakeRole(ctx context.Context, j job, coordinator *wire) (err error) {
	kind, err := lockKindNamed(j.Subject)
	if err != nil {
		return err
	}
	opened, err := kind.open(ctx, j.Arena, lockSetup{Keys: 1, Conns: 2})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, opened.close()) }()
	if err := coordinator.ready(); err != nil {
		return err
	}
	for coordinator.receive(new(string)) == nil {
		unlock, err := opened.lock(ctx, 0)
		g := grant{At: time.Now().UnixNano()}
		if err == nil {
			err = unlock()
		}
		if err != nil {
			g.Error = err.Error()
		}
		if err := coordinator.send(g); err != nil {
			return err
		}
	}
	return nil
}

// holdMany locks many keys, one after the other in each of 256 goroutines, and then unlocks
// them all.
func holdMany(kind lockKind) runFunc {
	const goroutines = 256
	return func(ctx context.Context, in *arena, p pace) (m *measurement, err error) {
		keys := 10_000
		if p.Quick {
			keys = 2_000
		}
		// Subjects that need a connection for each holder have as many as the server allows.
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
		m.Latency = rec.sum()
		m.fail(failures...)
		m.Ops = m.Latency.TotalCount()
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
