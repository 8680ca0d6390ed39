package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"example.com/lockstore/lock"
)

var lockstorePgx = lockKind{
	name: "lockstore (pgx)",
	how:  "lock.NewPostgres on a pgx pool; Lock, Held.Unlock",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		pool, err := in.pool(ctx, 2)
		if err != nil {
			return nil, err
		}
		return openLockstore(ctx, pool, s, func() error { pool.Close(); return nil })
	},
}

var lockstoreSQLX = lockKind{
	name: "lockstore (sqlx)",
	how:  "lock.NewPostgres on a sqlx handle; Lock, Held.Unlock",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sqlx(2)
		if err != nil {
			return nil, err
		}
		return openLockstore(ctx, db, s, db.Close)
	},
}

type lockstoreLocks struct {
	*lock.Postgres
	keys []lock.Key
	db   func() error // closes the host's pool
}

func openLockstore[D lock.DB](ctx context.Context, db D, s lockSetup, closeDB func() error) (locker, error) {
	p, err := lock.NewPostgres(ctx, db, &lock.PostgresOptions{MaxKeys: max(s.Keys, 1000)})
	if err != nil {
		return nil, errors.Join(err, closeDB())
	}
	keys := make([]lock.Key, s.Keys)
	for i := range keys {
		keys[i] = lock.Name("key", fmt.Sprint(i))
	}
	return &lockstoreLocks{p, keys, closeDB}, nil
}

func (l *lockstoreLocks) lock(ctx context.Context, key int) (func() error, error) {
	held, err := l.Lock(ctx, l.keys[key])
	if err != nil {
		return nil, err
	}
	return held.Unlock, nil
}

func (l *lockstoreLocks) try(ctx context.Context, key int) (func() error, error) {
	held, err := l.TryLock(ctx, l.keys[key])
	if errors.Is(err, lock.ErrBusy) {
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	return held.Unlock, nil
}

func (l *lockstoreLocks) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return errors.Join(l.Close(ctx), l.db())
}
