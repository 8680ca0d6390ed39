package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"example.com/lockstore/lock"
)

// locker does what zep does, step by step, but takes its lock from a Locker: a
// session of its own holds it, one writer at a time has it, and the unlock is
// confirmed, whatever became of the writer's context.
type locker struct {
	db     *sql.DB
	locker *lock.Postgres
}

func openLocker(ctx context.Context, db database) (merger, error) {
	pool, err := db.sql(ctx)
	if err != nil {
		return nil, err
	}
	l, err := lock.NewPostgres(ctx, pool, &lock.PostgresOptions{Backoff: zep25})
	if err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return locker{pool, l}, nil
}

func (l locker) merge(ctx context.Context, user string, patch json.RawMessage) error {
	return lock.Do(ctx, l.locker, lock.Name("user", user), func(ctx context.Context) error {
		return readMergeWrite(ctx, l.db, user, patch)
	})
}

func (l locker) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return errors.Join(l.locker.Close(ctx), l.db.Close())
}
