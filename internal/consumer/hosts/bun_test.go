package hosts

import (
	"context"
	"database/sql"
	"encoding/json"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"github.com/uptrace/bun"
	"github.com/uptrace/bun/dialect/pgdialect"
	"github.com/uptrace/bun/driver/pgdriver"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// bunHost has bun, over the driver that comes with it.
type bunHost struct {
	db    *bun.DB
	store *metadata.Postgres
}

type bunUser struct {
	bun.BaseModel `bun:"table:users"`

	ID    string `bun:",pk"`
	Email string
}

func TestBun(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		pool := sql.OpenDB(pgdriver.NewConnector(bunAddress(t, db)...))
		store, err := metadata.NewPostgres(pool, users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), pool, &lock.PostgresOptions{Connect: lock.ConnectTo(db.URL())})
		require.NoError(t, err)
		orm := bun.NewDB(pool, pgdialect.New())
		t.Cleanup(func() { orm.Close() })
		return bunHost{orm, store}, store, locker
	})
}

// bunAddress returns options in place of the URL, which names a Unix socket: the driver accepts
// no such URL.
func bunAddress(t *testing.T, db *pgtest.DB) []pgdriver.Option {
	c, err := pgx.ParseConfig(db.URL())
	require.NoError(t, err)
	network, address := pgconn.NetworkAddress(c.Host, c.Port)
	return []pgdriver.Option{
		pgdriver.WithNetwork(network), pgdriver.WithAddr(address), pgdriver.WithInsecure(true),
		pgdriver.WithUser(c.User), pgdriver.WithPassword(c.Password), pgdriver.WithDatabase(c.Database),
	}
}

func (h bunHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	return h.db.RunInTx(ctx, nil, func(ctx context.Context, tx bun.Tx) error {
		if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
			return err
		}
		if _, err := tx.NewInsert().Model(&bunUser{ID: id, Email: email}).Exec(ctx); err != nil {
			return err
		}
		_, err := h.store.In(tx).Merge(ctx, id, meta)
		return err
	})
}

func (h bunHost) email(ctx context.Context, id string) (string, error) {
	user := bunUser{ID: id}
	err := h.db.NewSelect().Model(&user).WherePK().Scan(ctx)
	return user.Email, err
}
