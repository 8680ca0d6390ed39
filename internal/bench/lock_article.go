package main

import (
	"context"
	"database/sql"
	"time"

	"example.com/lockstore/backoff"
)

// The rules by which a memory service guarded its users' metadata, in two
// releases: a session-level lock, taken and given back through the pool. The
// unlock may run on another session than the lock did, nobody looks at its
// answer, and a session that has a lock gets it again.

var article24 = lockKind{
	name: "article v0.24",
	how:  "pg_try_advisory_lock through a pool of 8; 3 retries, 200 ms apart",
	open: openArticle(rule24),
}

var article25 = lockKind{
	name: "article v0.25",
	how:  "pg_try_advisory_lock through a pool of 8; 7 retries, 200 ms doubling to 10 s, no jitter",
	open: openArticle(rule25),
}

var (
	rule24 = backoff.Limit(backoff.Constant{Base: 200 * time.Millisecond, Jitter: backoff.NoJitter}, 1+3)
	rule25 = backoff.Limit(backoff.Exponential{Base: 200 * time.Millisecond, Cap: 10 * time.Second, Jitter: backoff.NoJitter}, 1+7)
)

const articlePool = 8

type articleLocks struct {
	db   *sql.DB
	rule backoff.Policy
}

func openArticle(rule backoff.Policy) func(context.Context, *arena, lockSetup) (locker, error) {
	return func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(articlePool)
		return &articleLocks{db, rule}, err
	}
}

func (a *articleLocks) lock(ctx context.Context, key int) (func() error, error) {
	err := backoff.Retry(ctx, a.rule, func(ctx context.Context) error {
		var granted bool
		err := a.db.QueryRowContext(ctx, tryLockSQL, keyID(key)).Scan(&granted)
		if err == nil && !granted {
			err = errBusy
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	return func() error {
		_, err := a.db.ExecContext(ctx, unlockSQL, keyID(key))
		return err
	}, nil
}

func (a *articleLocks) close() error { return a.db.Close() }
