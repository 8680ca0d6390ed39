package main

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
)

// clients is a subject of the case with one lock: a way to go on trying. Nil waits
// in the server.
func clients(name, how string, retry func(context.Context, func(context.Context) error) error) subject {
	return subject{name, how, func(ctx context.Context, in *arena, p pace) (*measurement, error) {
		n, section := 64, 5*time.Millisecond
		if p.Quick {
			n = 16
		}
		pool, err := in.pool(ctx, n)
		if err != nil {
			return nil, err
		}
		defer pool.Close()
		if err := warm(ctx, pool, n); err != nil {
			return nil, err
		}
		bounded, cancel := context.WithTimeout(ctx, 4*p.patience())
		defer cancel()
		floor, g, rec := pooled{pool, waitLockSQL}, newGuard(1), newRecorder()
		connections := in.watch(ctx)
		m, errs := newMeasurement(), make([]error, n)
		start := time.Now()
		var group sync.WaitGroup
		for i := range n {
			group.Go(func() {
				var unlock func() error
				if retry == nil {
					unlock, errs[i] = floor.lock(bounded, 0)
				} else {
					errs[i] = retry(bounded, func(ctx context.Context) (err error) {
						unlock, err = floor.try(ctx, 0)
						return err
					})
				}
				if errs[i] != nil {
					return
				}
				rec.record(i, time.Since(start))
				seen := g.enter(0)
				time.Sleep(section)
				g.leave(0, seen)
				errs[i] = unlock()
			})
		}
		group.Wait()
		m.Took = time.Since(start)
		m.Conns = connections()
		m.latency = rec.sum()
		m.Ops = m.latency.TotalCount()
		m.fail(errs...)
		m.Violations = g.violations(m.Ops)
		m.Extra["until all had it, ms"] = m.Took.Seconds() * 1000
		return m, nil
	}}
}

// warm makes a pool connect as often as it may.
func warm(ctx context.Context, pool *pgxpool.Pool, conns int) error {
	for range conns {
		conn, err := pool.Acquire(ctx)
		if err != nil {
			return err
		}
		defer conn.Release()
	}
	return nil
}
