package hosts

import (
	"context"
	"encoding/json"
	"testing"

	"entgo.io/ent/dialect"
	entsql "entgo.io/ent/dialect/sql"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// entHost has ent's driver, to which a client that ent generates is a thin layer:
// ent.NewClient(ent.Driver(driver)).
type entHost struct {
	ent   *entsql.Driver
	store *metadata.Postgres
}

func TestEnt(t *testing.T) {
	run(t, func(t *testing.T, db *pgtest.DB) (host, *metadata.Postgres, *lock.Postgres) {
		driver, err := entsql.Open("pgx", db.URL())
		require.NoError(t, err)
		t.Cleanup(func() { driver.Close() })
		store, err := metadata.NewPostgres(driver.DB(), users)
		require.NoError(t, err)
		locker, err := lock.NewPostgres(t.Context(), driver.DB(), nil)
		require.NoError(t, err)
		return entHost{driver, store}, store, locker
	})
}

// signUp begins the transaction itself, because a client of ent does not expose the one that it
// begins, and has ent work in it.
func (h entHost) signUp(ctx context.Context, id, email string, meta json.RawMessage) error {
	tx, err := h.ent.DB().BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer tx.Rollback()
	ent := entsql.NewDriver(dialect.Postgres, entsql.Conn{ExecQuerier: tx})
	if err := lock.InTx(ctx, tx, lock.Name("email", email)); err != nil {
		return err
	}
	insert, args := entsql.Dialect(dialect.Postgres).Insert("users").Columns("id", "email").Values(id, email).Query()
	if err := ent.Exec(ctx, insert, args, nil); err != nil {
		return err
	}
	if _, err := h.store.In(tx).Merge(ctx, id, meta); err != nil {
		return err
	}
	return tx.Commit()
}

func (h entHost) email(ctx context.Context, id string) (string, error) {
	t := entsql.Table("users")
	query, args := entsql.Dialect(dialect.Postgres).Select("email").From(t).Where(entsql.EQ(t.C("id"), id)).Query()
	var rows entsql.Rows
	if err := h.ent.Query(ctx, query, args, &rows); err != nil {
		return "", err
	}
	defer rows.Close()
	return entsql.ScanString(rows)
}
