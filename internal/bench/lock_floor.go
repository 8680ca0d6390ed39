package main

import (
	"context"
	"fmt"
	"sync"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

const (
	tryLockSQL  = "SELECT pg_try_advisory_lock($1)"
	waitLockSQL = "SELECT pg_advisory_lock($1) IS NOT NULL"
	unlockSQL   = "SELECT pg_advisory_unlock($1)"

	transactionLockSQL = "SELECT pg_advisory_xact_lock($1)"

	// One process at a time creates the table, so that none fails.
	rowTableSQL = `SELECT pg_advisory_xact_lock(-1);
		CREATE TABLE IF NOT EXISTS lock_rows (key int PRIMARY KEY);
		INSERT INTO lock_rows SELECT generate_series(0, %d) ON CONFLICT DO NOTHING`
	rowLockSQL = "SELECT 1 FROM lock_rows WHERE key = $1 FOR UPDATE"
)

// pooledTry is the floor without waiting: what an application could do itself, correctly. It
// stays on one connection, and checks the results.
var pooledTry = lockKind{
	name: "floor: pgx try+unlock",
	how:  "pool.Acquire, pg_try_advisory_lock, pg_advisory_unlock on that connection, Release",
	open: openPooled(tryLockSQL),
}

// pooledWait waits in the server, each waiter on its own connection.
var pooledWait = lockKind{
	name: "floor: pgx server wait",
	how:  "pool.Acquire, pg_advisory_lock, pg_advisory_unlock on that connection, Release",
	open: openPooled(waitLockSQL),
}

type pooled struct {
	pool *pgxpool.Pool
	sql  string
}

func openPooled(sql string) func(context.Context, *arena, lockSetup) (locker, error) {
	return func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		pool, err := in.pool(ctx, s.Conns)
		return &pooled{pool, sql}, err
	}
}

func (p *pooled) lock(ctx context.Context, key int) (func() error, error) {
	return p.take(ctx, key, p.sql)
}

func (p *pooled) try(ctx context.Context, key int) (func() error, error) {
	return p.take(ctx, key, tryLockSQL)
}

func (p *pooled) take(ctx context.Context, key int, sql string) (func() error, error) {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	var granted bool
	if err := conn.QueryRow(ctx, sql, keyID(key)).Scan(&granted); err != nil {
		conn.Conn().Close(context.WithoutCancel(ctx)) // whether it was granted is unknown
		conn.Release()
		return nil, err
	}
	if !granted {
		conn.Release()
		return nil, errBusy
	}
	return func() error {
		defer conn.Release()
		var unlocked bool
		err := conn.QueryRow(context.WithoutCancel(ctx), unlockSQL, keyID(key)).Scan(&unlocked)
		if err == nil && !unlocked {
			err = fmt.Errorf("was not locked")
		}
		return err
	}, nil
}

func (p *pooled) close() error { p.pool.Close(); return nil }

var transactionLock = lockKind{
	name: "transaction-level lock",
	how:  "pgx: BEGIN, pg_advisory_xact_lock, COMMIT",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		pool, err := in.pool(ctx, s.Conns)
		return &inTransaction{pool, transactionLockSQL, keyOfAdvisory}, err
	},
}

var rowLock = lockKind{
	name: "SELECT … FOR UPDATE",
	how:  "pgx: BEGIN, SELECT … FOR UPDATE on a row for each key, COMMIT",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		pool, err := in.pool(ctx, s.Conns)
		if err != nil {
			return nil, err
		}
		if _, err := pool.Exec(ctx, fmt.Sprintf(rowTableSQL, s.Keys)); err != nil {
			pool.Close()
			return nil, err
		}
		return &inTransaction{pool, rowLockSQL, keyOfRow}, nil
	},
}

func keyOfAdvisory(key int) any { return keyID(key) }
func keyOfRow(key int) any      { return key }

// inTransaction holds a lock as long as a transaction is open.
type inTransaction struct {
	pool *pgxpool.Pool
	sql  string
	key  func(int) any
}

func (t *inTransaction) lock(ctx context.Context, key int) (func() error, error) {
	tx, err := t.pool.Begin(ctx)
	if err != nil {
		return nil, err
	}
	if _, err := tx.Exec(ctx, t.sql, t.key(key)); err != nil {
		tx.Rollback(context.WithoutCancel(ctx))
		return nil, err
	}
	return func() error { return tx.Commit(context.WithoutCancel(ctx)) }, nil
}

func (t *inTransaction) close() error { t.pool.Close(); return nil }

// oneConnection is the floor for locks that are held long: all on one connection, taken and
// released one after the other.
var oneConnection = lockKind{
	name: "floor: one pgx connection",
	how:  "pg_try_advisory_lock and pg_advisory_unlock on one connection, in turn",
	open: func(ctx context.Context, in *arena, s lockSetup) (locker, error) {
		conn, err := pgx.Connect(ctx, in.DSN)
		return &single{conn: conn}, err
	},
}

type single struct {
	mu   sync.Mutex
	conn *pgx.Conn
}

func (s *single) lock(ctx context.Context, key int) (func() error, error) {
	if err := s.ask(ctx, tryLockSQL, key); err != nil {
		return nil, err
	}
	return func() error { return s.ask(context.WithoutCancel(ctx), unlockSQL, key) }, nil
}

func (s *single) ask(ctx context.Context, sql string, key int) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var done bool
	err := s.conn.QueryRow(ctx, sql, keyID(key)).Scan(&done)
	if err == nil && !done {
		err = errBusy
	}
	return err
}

func (s *single) close() error { return s.conn.Close(context.Background()) }
