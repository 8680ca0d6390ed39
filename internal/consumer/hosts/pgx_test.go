package hosts

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgbouncer"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// pgxHost has a pool of pgx's.
type pgxHost struct {
	pool  *pgxpool.Pool
	store *metadata.Postgres
}

func TestPgxpool(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		pool := newPool(t, db.URL())
		store, err := metadata.NewPostgres(pool, users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), pool, nil)
		require.NoError(t, err)
		return pgxHost{pool, store}, store, locker
	})
}

// A pool through PgBouncer in transaction mode, with statements that need not be prepared, as
// versions before 1.21 require; the locks have a direct address.
func TestPgBouncer(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		pool := newPool(t, pgbouncer.Start(t, db, pgbouncer.Transaction)+"&default_query_exec_mode=exec")
		store, err := metadata.NewPostgres(pool, users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), pool, &lock.PostgresOptions{Connect: lock.ConnectTo(db.URL())})
		require.NoError(t, err)
		return pgxHost{pool, store}, store, locker
	})
}

func newPool(t *testing.T, url string) *pgxpool.Pool {
	pool, err := pgxpool.New(t.Context(), url)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func (h pgxHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	return pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error {
		if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "INSERT INTO users (id, email) VALUES ($1, $2)", id, email); err != nil {
			return err
		}
		_, err := h.store.In(tx).Merge(ctx, id, meta)
		return err
	})
}

func (h pgxHost) email(ctx context.Context, id string) (email string, err error) {
	return email, h.pool.QueryRow(ctx, "SELECT email FROM users WHERE id = $1", id).Scan(&email)
}
