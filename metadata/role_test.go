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
	var role string // roles are the server's: this one's name is the database's
	require.NoError(t, admin.QueryRow(ctx, "SELECT 'worker_of_' || oid FROM pg_database WHERE datname = current_database()").Scan(&role))
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
	config, err := pgxpool.ParseConfig(db.URL())
	require.NoError(t, err)
	config.ConnConfig.RuntimeParams["role"] = role
	pool, err := pgxpool.NewWithConfig(ctx, config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// A host that connects as one role and works as another (SET ROLE) may not see
// when its own sessions began.
func TestHoldersOwnWritesGoThroughUnderAnotherRole(t *testing.T) {
	db, ctx := pgtest.New(t), t.Context()
	pool := asRole(t, db, "ALL ON SCHEMA public")
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(ctx))
	locker, err := lock.NewPostgres(ctx, pool, nil)
	require.NoError(t, err)
	defer locker.Close(context.Background())

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
	db, ctx := pgtest.New(t), t.Context()
	owner, err := metadata.NewPostgres(db.Pool(), nil)
	require.NoError(t, err)
	defer owner.Close()
	require.NoError(t, owner.Migrate(ctx))
	_, err = db.Pool().Exec(ctx, "REVOKE ALL ON SCHEMA public FROM PUBLIC; REVOKE EXECUTE ON ALL FUNCTIONS IN SCHEMA public FROM PUBLIC")
	require.NoError(t, err)
	pool := asRole(t, db, "USAGE ON SCHEMA public", "EXECUTE ON ALL FUNCTIONS IN SCHEMA public",
		"SELECT, INSERT, UPDATE, DELETE ON "+metadata.DefaultTable)
	store, err := metadata.NewPostgres(pool, nil)
	require.NoError(t, err)
	defer store.Close()
	locker, err := lock.NewPostgres(ctx, pool, nil)
	require.NoError(t, err)
	defer locker.Close(context.Background())

	_, err = store.Merge(ctx, "a", raw(`{"n":1}`))
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
	found := 0
	for _, err := range store.Find(ctx, raw(`{"n":1}`), nil) {
		require.NoError(t, err)
		found++
	}
	assert.Equal(t, 3, found)
	require.NoError(t, store.Delete(ctx, "b"))
	assert.NoError(t, store.Migrate(ctx), "creating objects is not among them, but all is there already")
}
