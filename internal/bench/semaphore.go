package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/lockstore/lock"
)

// A permitter is a locker whose keys are permits: a request gets any of them.
type permitter interface {
	permit(ctx context.Context) (number int, unlock func() error, err error)
}

var lockstoreSemaphore = lockKind{
	name: "lockstore",
	how:  "lock.NewSemaphore on a pgx pool; Acquire, Held.Unlock",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		l, err := openLockstore(ctx, in, 0)
		if err != nil {
			return nil, err
		}
		sem, err := lock.NewSemaphore(l.Postgres, lock.Name("permits"), s.Keys)
		if err != nil {
			return nil, errors.Join(err, l.close())
		}
		return &lockstorePermits{l, sem, sem.Keys()}, nil
	},
}

type lockstorePermits struct {
	*lockstoreLocks
	sem  *lock.Semaphore
	keys []lock.Key
}

func (l *lockstorePermits) permit(ctx context.Context) (int, func() error, error) {
	held, err := l.sem.Acquire(ctx)
	if err != nil {
		return 0, nil, err
	}
	return slices.Index(l.keys, held.Key()), held.Unlock, nil
}

// leaseSemaphore is written by hand, with leased rows, as usual without locks: a caller that
// finds none free tries again after a while.
var leaseSemaphore = lockKind{
	name: "leased rows",
	how:  "UPDATE of a row that is free or past its time, again every 1 to 10 ms",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		pool, err := in.pool(ctx, s.Conns)
		if err != nil {
			return nil, err
		}
		_, err = pool.Exec(ctx, fmt.Sprintf(`SELECT pg_advisory_xact_lock(1);
			CREATE TABLE IF NOT EXISTS bench_permits (n int PRIMARY KEY, until timestamptz NOT NULL DEFAULT '-infinity');
			INSERT INTO bench_permits SELECT generate_series(0, %d) ON CONFLICT DO NOTHING`, s.Keys-1))
		return &leases{pool}, err
	},
}

type leases struct{ pool *pgxpool.Pool }

func (l *leases) permit(ctx context.Context) (n int, unlock func() error, err error) {
	for {
		err := l.pool.QueryRow(ctx, `UPDATE bench_permits SET until = clock_timestamp() + interval '10s'
			WHERE n = (SELECT n FROM bench_permits WHERE until < clock_timestamp() LIMIT 1 FOR UPDATE SKIP LOCKED) RETURNING n`).Scan(&n)
		if err == nil {
			return n, func() error {
				_, err := l.pool.Exec(context.WithoutCancel(ctx), "UPDATE bench_permits SET until = '-infinity' WHERE n = $1", n)
				return err
			}, nil
		}
		if !errors.Is(err, pgx.ErrNoRows) {
			return 0, nil, err
		}
		select {
		case <-ctx.Done():
			return 0, nil, ctx.Err()
		case <-time.After(time.Millisecond + rand.N(9*time.Millisecond)):
		}
	}
}

func (l *leases) lock(context.Context, int) (func() error, error) {
	return nil, errors.ErrUnsupported
}

func (l *leases) close() error { l.pool.Close(); return nil }

func semaphoreCase() testCase {
	return testCase{
		name: "semaphore/8/4-processes",
		asks: "4 processes with 16 goroutines each want one of 8 permits, and keep it for 1ms each; the wait is measured",
		by:   byRate,
		subjects: lockSubjects(patient(lockLoad{Processes: 4, Callers: 16, Keys: 8, Conns: 16, Section: time.Millisecond, Waits: true}.run),
			lockstoreSemaphore, leaseSemaphore),
	}
}
