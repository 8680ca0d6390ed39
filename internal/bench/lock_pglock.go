package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"time"

	cirello "cirello.io/pglock"
	pglock "github.com/allisson/go-pglock/v3"
	"github.com/jackc/pgx/v5"
)

var goPglock = lockKind{
	name: "go-pglock",
	how:  "github.com/allisson/go-pglock/v3: NewLock, WaitAndLock, Unlock, Close, each waiter on a connection",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(s.Conns)
		return &goPglocks{db}, err
	},
}

type goPglocks struct{ db *sql.DB }

func (g *goPglocks) lock(ctx context.Context, key int) (func() error, error) {
	l, err := pglock.NewLock(ctx, keyID(key), g.db)
	if err != nil {
		return nil, err
	}
	if err := l.WaitAndLock(ctx); err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return unlockAndClose(ctx, &l), nil
}

func (g *goPglocks) try(ctx context.Context, key int) (func() error, error) {
	l, err := pglock.NewLock(ctx, keyID(key), g.db)
	if err != nil {
		return nil, err
	}
	granted, err := l.Lock(ctx)
	if err == nil && !granted {
		err = errBusy
	}
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	return unlockAndClose(ctx, &l), nil
}

func unlockAndClose(ctx context.Context, l *pglock.Lock) func() error {
	return func() error {
		return errors.Join(l.Unlock(context.WithoutCancel(ctx)), l.Close())
	}
}

func (g *goPglocks) close() error { return g.db.Close() }

var cirelloPglock = lockKind{
	name: "cirello pglock",
	how:  "cirello.io/pglock: AcquireContext, Close; lease 3 s, heartbeat 1 s as in its README",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(s.Conns)
		if err != nil {
			return nil, err
		}
		client, err := cirello.UnsafeNew(db, cirello.WithLeaseDuration(3*time.Second), cirello.WithHeartbeatFrequency(time.Second))
		if err != nil {
			return nil, errors.Join(err, db.Close())
		}
		if err := exclusively(ctx, in, client.TryCreateTable); err != nil {
			return nil, errors.Join(err, db.Close())
		}
		return &cirelloLocks{db, client}, nil
	},
}

// exclusively lets one process at a time create a table, so that none fails.
func exclusively(ctx context.Context, in *arena, create func() error) error {
	conn, err := pgx.Connect(ctx, in.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(ctx) // releases the lock
	if _, err := conn.Exec(ctx, waitLockSQL, int64(-1)); err != nil {
		return err
	}
	return create()
}

type cirelloLocks struct {
	db     *sql.DB
	client *cirello.Client
}

func (c *cirelloLocks) lock(ctx context.Context, key int) (func() error, error) {
	l, err := c.client.AcquireContext(ctx, fmt.Sprint("key ", key))
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

func (c *cirelloLocks) try(ctx context.Context, key int) (func() error, error) {
	l, err := c.client.AcquireContext(ctx, fmt.Sprint("key ", key), cirello.FailIfLocked())
	if errors.Is(err, cirello.ErrNotAcquired) {
		return nil, errBusy
	}
	if err != nil {
		return nil, err
	}
	return l.Close, nil
}

func (c *cirelloLocks) close() error { return c.db.Close() }
