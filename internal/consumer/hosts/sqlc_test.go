package hosts

import (
	"context"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/consumer/hosts/sqlcdb"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// sqlcHost has queries that sqlc has generated, on a pool of pgx's.
type sqlcHost struct {
	pool    *pgxpool.Pool
	queries *sqlcdb.Queries
	store   *metadata.Postgres
}

func TestSqlc(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		pool := newPool(t, db.URL())
		store, err := metadata.NewPostgres(pool, users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), pool, nil)
		require.NoError(t, err)
		return sqlcHost{pool, sqlcdb.New(pool), store}, store, locker
	})
}

func (h sqlcHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	return pgx.BeginFunc(ctx, h.pool, func(tx pgx.Tx) error {
		if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
			return err
		}
		if err := h.queries.WithTx(tx).InsertUser(ctx, sqlcdb.InsertUserParams{ID: id, Email: email}); err != nil {
			return err
		}
		_, err := h.store.In(tx).Merge(ctx, id, meta)
		return err
	})
}

func (h sqlcHost) email(ctx context.Context, id string) (string, error) {
	return h.queries.Email(ctx, id)
}
