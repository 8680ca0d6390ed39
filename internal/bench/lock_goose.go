package main

import (
	"context"
	"database/sql"
	"errors"
	"log/slog"
	"time"

	goose "github.com/pressly/goose/v3/lock"
)

// A goose locker has one key, and a budget of retries that is used up once for all. So each
// lock gets its own locker, as each goose provider does.

var gooseSession = lockKind{
	name: "goose session",
	how:  "github.com/pressly/goose/v3/lock: db.Conn, SessionLock, SessionUnlock; retries every 1 s, its least",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(s.Conns)
		return &gooseSessions{db}, err
	},
}

type gooseSessions struct{ db *sql.DB }

func (g *gooseSessions) lock(ctx context.Context, key int) (func() error, error) {
	l, err := goose.NewPostgresSessionLocker(goose.WithLockID(keyID(key)), goose.WithLockTimeout(1, 60), goose.WithUnlockTimeout(1, 1))
	if err != nil {
		return nil, err
	}
	conn, err := g.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	if err := l.SessionLock(ctx, conn); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return func() error {
		return errors.Join(l.SessionUnlock(context.WithoutCancel(ctx), conn), conn.Close())
	}, nil
}

func (g *gooseSessions) close() error { return g.db.Close() }

var gooseTable = lockKind{
	name: "goose table",
	how:  "github.com/pressly/goose/v3/lock: NewPostgresTableLocker, Lock, Unlock; retries every 10 ms, its default is 5 s",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		db, err := in.sql(s.Conns)
		return &gooseTables{db}, err
	},
}

type gooseTables struct{ db *sql.DB }

func (g *gooseTables) lock(ctx context.Context, key int) (func() error, error) {
	l, err := goose.NewPostgresTableLocker(
		goose.WithTableLockID(keyID(key)),
		goose.WithTableLockTimeout(10*time.Millisecond, 1<<30),
		goose.WithTableUnlockTimeout(10*time.Millisecond, 100),
		goose.WithTableLogger(quiet))
	if err != nil {
		return nil, err
	}
	if err := l.Lock(ctx, g.db); err != nil {
		return nil, err
	}
	return func() error { return l.Unlock(ctx, g.db) }, nil
}

func (g *gooseTables) close() error { return g.db.Close() }

// quiet is for subjects that would write to stderr.
var quiet = slog.New(slog.DiscardHandler)
