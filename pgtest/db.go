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

// DB is one fresh database. Its methods may be called concurrently.
type DB struct {
	server  *Server
	name    string
	url     string
	cfg     *pgxpool.Config
	logFrom int64 // where the server's log stood

	mu     sync.Mutex
	pool   *pgxpool.Pool
	sqlx   *sqlx.DB
	closed bool
}

// maxConns bounds each of a database's two pools: enough for a test's
// concurrency, and few enough for many packages to share one server.
const maxConns = 16

// Name is the database's name.
func (db *DB) Name() string { return db.name }

// URL is the database's address as pgx, lib/pq and psql take it, with the
// password: it is not for logs. It leads to a Unix socket, as a superuser. What it
// leaves out, such drivers take from libpq's variables (PGOPTIONS, PGSERVICE, …).
func (db *DB) URL() string { return db.url }

// Server is the server that the database is on.
func (db *DB) Server() *Server { return db.server }

// Pool returns a pool of up to 16 connections, the same one at every call. It is
// closed with the database, so every connection must be released by then.
func (db *DB) Pool() *pgxpool.Pool {
	db.mu.Lock()
	defer db.mu.Unlock()
	if db.pool == nil {
		var err error
		if db.pool, err = pgxpool.NewWithConfig(context.Background(), db.cfg.Copy()); err != nil {
			panic(err) // only for a pool of no connections
		}
		if db.closed {
			db.pool.Close()
		}
	}
	return db.pool
}

// SQLX returns a handle of up to 16 connections over pgx's database/sql driver,
// the same one at every call. It is closed with the database.
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

// Close closes the pools and drops the database, soon if not at once. The
// database of [New] is closed when the test ends. The error says when connections
// were not released in time; further calls do nothing.
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
	// Nobody clears up on a server that is not ours.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	return errors.Join(err, s.drop(ctx, db.name))
}

// releaseWait is how long a pool's connections may still be in use at the end.
var releaseWait = 5 * time.Second

// disconnect closes the pools, and makes the database one that is closed.
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
		go func() { db.pool.Close(); close(done) }() // waits for every connection
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
