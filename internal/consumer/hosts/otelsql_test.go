package hosts

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"

	"github.com/XSAM/otelsql"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// sqlHost has a *sql.DB, here one that is traced.
type sqlHost struct {
	db    *sql.DB
	store *metadata.Postgres
}

// otelsql shows the connection that it traces.
func TestOtelsqlOverPgx(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		return newSQLHost(t, "pgx", db.URL(), nil)
	})
}

func TestOtelsqlOverLibPq(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		return newSQLHost(t, "postgres", db.URL(), &lock.PostgresOptions{Connect: lock.ConnectTo(db.URL())})
	})
}

func newSQLHost(t *testing.T, driver, url string, opts *lock.PostgresOptions) (host, *metadata.Postgres, *lock.Postgres) {
	db, err := otelsql.Open(driver, url)
	require.NoError(t, err)
	t.Cleanup(func() { db.Close() })
	store, err := metadata.NewPostgres(db, users)
	require.NoError(t, err)
	locker, err := lock.NewPostgres(t.Context(), db, opts)
	require.NoError(t, err)
	return sqlHost{db, store}, store, locker
}

func (h sqlHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	tx, err := h.db.BeginTx(ctx, nil)
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

func (h sqlHost) email(ctx context.Context, id string) (email string, err error) {
	return email, h.db.QueryRowContext(ctx, "SELECT email FROM users WHERE id = $1", id).Scan(&email)
}
