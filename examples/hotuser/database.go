package main

import (
	"context"
	"crypto/rand"
	"database/sql"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	"example.com/lockstore/pgtest"
)

// poolSize is how many connections every strategy has in each process.
const poolSize = 8

// usersTable is the host's own table, as it was before it met lockstore.
const usersTable = `CREATE TABLE users (
	id       text  PRIMARY KEY,
	metadata jsonb NOT NULL DEFAULT '{}'
)`

// A database is where the writers meet.
type database struct {
	DSN  string // of the server
	Name string
}

// createDatabase makes a database of our own, so that every lock in it is ours: on
// the server at dsn, or if that is empty on one that is started for it, with
// PostgreSQL's own defaults, so that what it acknowledges is on disk. drop removes
// all that was made.
func createDatabase(ctx context.Context, dsn string) (db database, drop func() error, err error) {
	stop := func() error { return nil }
	if dsn == "" {
		server, err := pgtest.Start(ctx, pgtest.Durable())
		if err != nil {
			return db, nil, err
		}
		dsn, stop = server.URL(), server.Close
	}
	db = database{DSN: dsn, Name: "hotuser_" + strings.ToLower(rand.Text()[:8])}
	if err = db.create(ctx); err != nil {
		stop()
		return db, nil, err
	}
	return db, func() error {
		err := db.drop(ctx)
		if stopErr := stop(); err == nil {
			err = stopErr
		}
		return err
	}, nil
}

func (db database) create(ctx context.Context) error {
	if err := execute(ctx, database{DSN: db.DSN}, "CREATE DATABASE "+db.Name); err != nil {
		return fmt.Errorf("cannot create a database, check that -dsn reaches a server and that its role has CREATEDB: %w", err)
	}
	return execute(ctx, db, usersTable)
}

func (db database) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
	defer cancel()
	if err := execute(ctx, database{DSN: db.DSN}, "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
		return fmt.Errorf("cannot drop database %s, drop it by hand: %w", db.Name, err)
	}
	return nil
}

func execute(ctx context.Context, db database, statement string) error {
	conn, err := db.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, statement)
	return err
}

// connect opens one connection, to the DSN's own database if db has no name.
func (db database) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		return nil, err
	}
	if db.Name != "" {
		config.Database = db.Name
	}
	return pgx.ConnectConfig(ctx, config)
}

// pool opens a pgx pool with all its connections.
func (db database) pool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := pgxpool.ParseConfig(db.DSN)
	if err != nil {
		return nil, err
	}
	config.ConnConfig.Database = db.Name
	config.MaxConns = poolSize
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, err
	}
	if err := warm(ctx, pool.Acquire, (*pgxpool.Conn).Release); err != nil {
		pool.Close()
		return nil, err
	}
	return pool, nil
}

// sql opens a database/sql pool with all its connections, and keeps them while they
// are idle, as a service under load does.
func (db database) sql(ctx context.Context) (*sql.DB, error) {
	config, err := pgx.ParseConfig(db.DSN)
	if err != nil {
		return nil, err
	}
	config.Database = db.Name
	pool := stdlib.OpenDB(*config)
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	if err := warm(ctx, pool.Conn, func(c *sql.Conn) { c.Close() }); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

// warm makes a pool connect as often as it may, so that no run measures that.
func warm[Conn any](ctx context.Context, take func(context.Context) (Conn, error), putBack func(Conn)) error {
	for range poolSize {
		conn, err := take(ctx)
		if err != nil {
			return err
		}
		defer putBack(conn)
	}
	return nil
}
