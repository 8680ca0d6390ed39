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

// poolSize is the number of connections of a strategy in each process.
const poolSize = 8

// usersTable is the application's own table, without anything of lockstore.
const usersTable = `CREATE TABLE users (
	id       text  PRIMARY KEY,
	metadata jsonb NOT NULL DEFAULT '{}'
)`

// A database is the database that the writers write to.
type database struct {
	DSN  string
	Name string // replaces the database's name in DSN, unless empty
}

// createDatabase creates a database with the users table. All locks in it are of this
// program. drop removes everything that was created.
func createDatabase(ctx context.Context, dsn string) (db database, drop func() error, err error) {
	if dsn == "" {
		db, drop, err = startDatabase(ctx)
	} else {
		db, drop, err = createDatabaseOn(ctx, dsn)
	}
	if err != nil {
		return db, nil, err
	}
	if err := execute(ctx, db, usersTable); err != nil {
		return db, nil, errors.Join(err, drop())
	}
	return db, drop, nil
}

// startDatabase starts a server with PostgreSQL's own defaults, so that acknowledged commits
// are on disk.
func startDatabase(ctx context.Context) (database, func() error, error) {
	server, err := pgtest.Start(ctx, pgtest.Durable())
	if err != nil {
		return database{}, nil, err
	}
	db, err := server.New(ctx)
	if err != nil {
		return database{}, nil, errors.Join(err, server.Close())
	}
	return database{DSN: db.URL()}, server.Close, nil
}

func createDatabaseOn(ctx context.Context, dsn string) (database, func() error, error) {
	host, db := database{DSN: dsn}, database{DSN: dsn, Name: "hotuser_" + strings.ToLower(rand.Text()[:8])}
	if err := execute(ctx, host, "CREATE DATABASE "+db.Name); err != nil {
		return db, nil, fmt.Errorf("cannot create a database, check that -dsn reaches a server and that its role has CREATEDB: %w", err)
	}
	return db, func() error {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		if err := execute(ctx, host, "DROP DATABASE "+db.Name+" WITH (FORCE)"); err != nil {
			return fmt.Errorf("cannot drop database %s, drop it by hand: %w", db.Name, err)
		}
		return nil
	}, nil
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

// connect opens one connection.
func (db database) connect(ctx context.Context) (*pgx.Conn, error) {
	config, err := db.config()
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, config.ConnConfig)
}

// pool opens a pgx pool and all its connections.
func (db database) pool(ctx context.Context) (*pgxpool.Pool, error) {
	config, err := db.config()
	if err != nil {
		return nil, err
	}
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

// sql opens a database/sql pool and all its connections. The pool keeps idle connections, as
// that of a service under load does.
func (db database) sql(ctx context.Context) (*sql.DB, error) {
	config, err := db.config()
	if err != nil {
		return nil, err
	}
	pool := stdlib.OpenDB(*config.ConnConfig)
	pool.SetMaxOpenConns(poolSize)
	pool.SetMaxIdleConns(poolSize)
	if err := warm(ctx, pool.Conn, func(c *sql.Conn) { c.Close() }); err != nil {
		return nil, errors.Join(err, pool.Close())
	}
	return pool, nil
}

func (db database) config() (*pgxpool.Config, error) {
	config, err := pgxpool.ParseConfig(db.DSN)
	if err == nil && db.Name != "" {
		config.ConnConfig.Database = db.Name
	}
	return config, err
}

// warm opens all connections of a pool, so that no run measures that.
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
