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

// Connector returns a function that connects as a host's pool does, to the same server by
// the same configuration, without a place in the pool. The function fails with
// [ErrUnsupported] where the connections of a database/sql driver show none of pgx's. db is
// one that [Open] accepts.
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

// configOf is the configuration of a pool's connections.
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

// ConnectLike connects as a pool does, by its hooks.
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
