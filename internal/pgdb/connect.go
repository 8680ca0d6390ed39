package pgdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jmoiron/sqlx"
)

// Connector returns a function that connects like a host's pool, with the same
// configuration, but outside the pool. The function fails with [ErrUnsupported] if a
// database/sql driver does not expose pgx's connections. db must be one that [Open] accepts.
func Connector(db any) func(context.Context) (*pgx.Conn, error) {
	switch db := db.(type) {
	case *sqlx.DB:
		return Connector(db.DB)
	case *sql.DB:
		return func(ctx context.Context) (*pgx.Conn, error) {
			config, err := configOf(ctx, db)
			if err != nil {
				return nil, err
			}
			return Connect(ctx, config)
		}
	}
	return func(ctx context.Context) (*pgx.Conn, error) { return ConnectLike(ctx, db.(*pgxpool.Pool)) }
}

// configOf returns the configuration of a pool's connections.
func configOf(ctx context.Context, db *sql.DB) (config *pgx.ConnConfig, err error) {
	conn, err := db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	err = conn.Raw(func(c any) error {
		native := Unwrap(c)
		if native == nil {
			return fmt.Errorf("%w: the connections (%s) of database/sql driver %s show none of pgx's", ErrUnsupported, TypeName(c), TypeName(db.Driver()))
		}
		config = native.Config()
		return nil
	})
	return config, err
}

// ConnectLike connects like a pool, including its hooks.
func ConnectLike(ctx context.Context, pool *pgxpool.Pool) (*pgx.Conn, error) {
	config := pool.Config()
	if config.BeforeConnect != nil {
		if err := config.BeforeConnect(ctx, config.ConnConfig); err != nil {
			return nil, err
		}
	}
	conn, err := Connect(ctx, config.ConnConfig)
	if err != nil {
		return nil, err
	}
	if config.AfterConnect != nil {
		if err := config.AfterConnect(ctx, conn); err != nil {
			return nil, errors.Join(err, conn.Close(ctx))
		}
	}
	return conn, nil
}
