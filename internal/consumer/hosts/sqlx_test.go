package hosts

import (
	"context"
	"encoding/json"
	"testing"

	_ "github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	_ "github.com/lib/pq"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// sqlxHost has a database of sqlx's.
type sqlxHost struct {
	db    *sqlx.DB
	store *metadata.Postgres
}

func TestSqlxOnPgx(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		return newSqlxHost(t, "pgx", db.URL(), nil)
	})
}

// lib/pq shows no connection that locks could use: they are told where to connect to.
func TestSqlxOnLibPq(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		return newSqlxHost(t, "postgres", db.URL(), &lock.PostgresOptions{Connect: lock.ConnectTo(db.URL())})
	})
}

func newSqlxHost(t *testing.T, driver, url string, opts *lock.PostgresOptions) (host, *metadata.Postgres, *lock.Postgres) {
	db, err := sqlx.Open(driver, url)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	store, err := metadata.NewPostgres(db, users)
	require.NoError(t, err)
	locker, err := lock.NewPostgres(t.Context(), db, opts)
	require.NoError(t, err)
	return sqlxHost{db, store}, store, locker
}

func (h sqlxHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	tx, err := h.db.BeginTxx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "INSERT INTO users (id, email) VALUES ($1, $2)", id, email); err != nil {
		return err
	}
	if _, err := h.store.In(tx).Merge(ctx, id, meta); err != nil {
		return err
	}
	return tx.Commit()
}

func (h sqlxHost) email(ctx context.Context, id string) (email string, err error) {
	return email, h.db.GetContext(ctx, &email, "SELECT email FROM users WHERE id = $1", id)
}
