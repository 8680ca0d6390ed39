package main

import (
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"time"

	"example.com/lockstore/lock"
)

// locker has the same steps as zep, but takes the lock from a Locker. A separate session
// holds the lock, only one writer at a time has it, and the server confirms the unlock even
// if the writer's context has ended.
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
