package metadata_test

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// asRole is a pool whose sessions work as a role that has these grants only.
func asRole(t *testing.T, db *pgtest.DB, grants ...string) *pgxpool.Pool {
	t.Helper()
	admin, ctx := db.Pool(), t.Context()
	role := workerOf(t, db)
	_, err := admin.Exec(ctx, "CREATE ROLE "+role)
	require.NoError(t, err)
	t.Cleanup(func() {
		_, err := admin.Exec(context.Background(), "DROP OWNED BY "+role+"; DROP ROLE "+role)
		assert.NoError(t, err)
	})
	for _, grant := range grants {
		_, err := admin.Exec(ctx, "GRANT "+grant+" TO "+role)
		require.NoError(t, err)
	}
	config := db.Pool().Config()
	config.ConnConfig.RuntimeParams["role"] = role
	return newPool(t, config)
}

// workerOf is the role of asRole. Roles are the server's: its name is the database's own.
func workerOf(t *testing.T, db *pgtest.DB) (role string) {
	require.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT 'worker_of_' || oid FROM pg_database WHERE datname = current_database()").Scan(&role))
	return role
}

// A host that connects as one role and works as another (SET ROLE) may not see
// when its own sessions began.
func TestHoldersOwnWritesGoThroughUnderAnotherRole(t *testing.T) {
	db, ctx := pgtest.New(t), t.Context()
	pool := asRole(t, db, "ALL ON SCHEMA public")
	store, locker := onPool(db, pool).migrated(t, nil), newLocker(t, pool)

	held, err := locker.Lock(ctx, store.Key("a"))
	require.NoError(t, err)
	b, ok := held.Backend(held.Key())
	require.True(t, ok)
	require.Zero(t, b.Start, "the role may not see it")
	_, err = store.Merge(held.Context(), "a", raw(`{"n":1}`))
	assert.NoError(t, err)
	require.NoError(t, db.Terminate(b.PID))
	<-held.Context().Done()
	_, err = store.Merge(held.Context(), "a", raw(`{"n":2}`))
	assert.ErrorIs(t, err, lock.ErrLost)
}

// These are the privileges that the module's page names.
func TestLeastPrivilegesSuffice(t *testing.T) {
	d, ctx := overPgx(t), t.Context()
	d.migrated(t, withTokens(metadata.Options{}))
	d.exec(t, "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
	pool := asRole(t, d.DB, "USAGE ON SCHEMA public", "EXECUTE ON ALL FUNCTIONS IN SCHEMA public",
		"SELECT, INSERT, UPDATE, DELETE ON "+metadata.DefaultTable, "SELECT, INSERT, UPDATE, DELETE ON "+metadata.DefaultTokens)
	store, locker := onPool(d.DB, pool).store(t, withTokens(metadata.Options{})), newLocker(t, pool)

	_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
	require.NoError(t, err)
	_, err = store.Once("t").Merge(ctx, "a", raw(`{"n":1}`))
	require.NoError(t, err)
	require.NoError(t, lock.Do(ctx, locker, store.Key("a"), func(ctx context.Context) error {
		if _, err := lock.FromContext(ctx, store.Key("a")).Fence(ctx); err != nil {
			return err
		}
		_, err := store.Merge(ctx, "a", raw(`{"m":2}`))
		return err
	}))
	_, err = locker.Status(ctx, store.Key("a"))
	require.NoError(t, err)
	_, err = locker.Check(ctx)
	require.NoError(t, err)
	_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "b", Patch: raw(`{"n":1}`)}, {ID: "c", Patch: raw(`{"n":1}`)}})
	require.NoError(t, err)
	found, err := find(ctx, store, `{"n":1}`, nil)
	require.NoError(t, err)
	assert.Len(t, found, 3)
	require.NoError(t, store.Delete(ctx, "b"))
	assert.NoError(t, store.Migrate(ctx), "creating objects is not among them, but all is there already")
}
