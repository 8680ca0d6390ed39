package pgtest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
)

// DB is a fresh database. Its methods may be called concurrently.
type DB struct {
	server  *Server
	name    string
	url     string
	cfg     *pgxpool.Config
	logFrom int64 // the size of the server's log at the start

	mu     sync.Mutex
	pool   *pgxpool.Pool
	sqlx   *sqlx.DB
	closed bool
}

// maxConns limits each of a database's two pools: enough for a test's concurrency, and few
// enough for many packages to share one server.
const maxConns = 16

// Name returns the database's name.
func (db *DB) Name() string { return db.name }

// URL returns the database's address for pgx, lib/pq and psql: a Unix socket, or the server of
// PGTEST_DSN, and a superuser with a password. Do not log it. Such drivers take what the URL leaves out
// from libpq's variables (PGOPTIONS, PGSERVICE, …).
func (db *DB) URL() string { return db.url }

// Server returns the server that the database is on.
func (db *DB) Server() *Server { return db.server }

// Pool returns a pool of up to 16 connections, the same one at every call. It is closed
// with the database: release every connection before that.
func (db *DB) Pool() *pgxpool.Pool {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.pool == nil {
		var err error
		if db.pool, err = pgxpool.NewWithConfig(context.Background(), db.cfg.Copy()); err != nil {
			panic(err) // cannot happen: it is only for MaxConns < 1
		}
		if db.closed {
			db.pool.Close()
		}
	}
	return db.pool
}

// SQLX returns a pool of up to 16 connections over pgx's database/sql driver, the same one
// at every call. It is closed with the database.
func (db *DB) SQLX() *sqlx.DB {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.sqlx == nil {
		db.sqlx = sqlx.NewDb(stdlib.OpenDB(*db.cfg.ConnConfig), "pgx")
		db.sqlx.SetMaxOpenConns(maxConns)
		db.sqlx.SetMaxIdleConns(maxConns)
		if db.closed {
			db.sqlx.Close()
		}
	}
	return db.sqlx
}

// Close closes the pools and drops the database, at once or soon after. [New] closes its
// database when the test ends. It is an error if connections of the pool are not released
// within five seconds or, on a server of PGTEST_DSN, if the database cannot be dropped.
// Further calls do nothing.
func (db *DB) Close() error {
	err := db.disconnect()
	if errors.Is(err, errClosed) {
		return nil
	}
	s := db.server
	if s.in != nil {
		s.dropLater(db.name)
		return err
	}
	// No other process would drop it: the server of PGTEST_DSN is not ours.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.drop(ctx, db.name))
}

// releaseWait is how long disconnect waits for connections to be released.
var releaseWait = 5 * time.Second

// disconnect closes the pools and marks the database as closed.
func (db *DB) disconnect() error {
	db.server.forget(db)
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.closed {
		return errClosed
	}
	db.closed = true
	var errs []error
	if db.pool != nil {
		done := make(chan struct{})
		go func() { db.pool.Close(); close(done) }() // waits until all are released
		select {
		case <-done:
		case <-time.After(releaseWait):
			errs = append(errs, fmt.Errorf("pgtest: %d connections of the pool were not released", db.pool.Stat().AcquiredConns()))
		}
	}
	if db.sqlx != nil {
		errs = append(errs, db.sqlx.Close())
	}
	return errors.Join(errs...)
}
