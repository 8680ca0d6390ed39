package metadata_test

import (
	"sync"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

// throughProxy opens a store whose connections, 8 at most, go through a bad network.
func throughProxy(t *testing.T, proxy *pgtest.Proxy, driver string, opts *metadata.Options) (store *metadata.Postgres) {
	config, err := pgxpool.ParseConfig(proxy.URL())
	require.NoError(t, err)
	if config.MaxConns = 8; driver == "pgx" {
		store, err = metadata.NewPostgres(newPool(t, config), opts)
	} else {
		db := stdlib.OpenDB(*config.ConnConfig)
		db.SetMaxOpenConns(8)
		db.SetMaxIdleConns(8)
		store, err = openedSQL(t, db, opts)
	}
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return store
}

// unheard makes a write of document a, whose commit is made, and told to nobody: the
// connections are closed. What precedes it on its connection (a pool asks one that was
// idle for a second whether it lives) is heard.
func unheard(t *testing.T, db *pgtest.DB, proxy *pgtest.Proxy, write func()) {
	t.Helper()
	d, ctx := &database{DB: db}, t.Context()
	host, err := d.Pool().Begin(ctx)
	require.NoError(t, err)
	defer host.Rollback(ctx)
	var before int64
	const row = "SELECT version FROM lockstore_metadata WHERE id = 'a'"
	require.NoError(t, host.QueryRow(ctx, row+" FOR UPDATE").Scan(&before))
	go write()
	waitForRow(t, d)
	proxy.Discard(pgtest.ToClient)
	require.NoError(t, host.Rollback(ctx))
	waitFor(t, d, "SELECT version = $1 FROM lockstore_metadata WHERE id = 'a'", before+1)
	proxy.Cut()
}

func TestLostReplyIsAnUnknownOutcome(t *testing.T) {
	for _, driver := range []string{"pgx", "sql"} {
		t.Run(driver, func(t *testing.T) {
			ctx, db := t.Context(), pgtest.New(t)
			proxy := pgtest.NewProxy(t, db)
			store := throughProxy(t, proxy, driver, nil)
			require.NoError(t, store.Migrate(ctx))
			for range 2 { // the second finds the row, and has the statement prepared
				_, err := store.Merge(ctx, "a", raw(`{"n":%d}`, len(t.Name())))
				require.NoError(t, err)
			}
			_, err := store.Merge(ctx, "a", raw(`{"n":0}`))
			require.NoError(t, err)
			before, err := store.Get(ctx, "a")
			require.NoError(t, err)

			failed := make(chan error)
			unheard(t, db, proxy, func() {
				_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
				failed <- err
			})
			assert.ErrorIs(t, <-failed, metadata.ErrUnknownOutcome)
			proxy.Restore()
			after, err := store.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, before.Version+1, after.Version, "Get tells")
			assert.Equal(t, int64(1), store.Stats().Unknown)
		})
	}
}

func TestLostBeforeTheCommitIsNotApplied(t *testing.T) {
	for _, driver := range []string{"pgx", "sql"} {
		t.Run(driver, func(t *testing.T) {
			ctx, db := t.Context(), pgtest.New(t)
			proxy := pgtest.NewProxy(t, db)
			store := throughProxy(t, proxy, driver, &metadata.Options{MergeInGo: true})
			require.NoError(t, store.Migrate(ctx))
			before, err := store.Merge(ctx, "a", raw(`{"n":0}`))
			require.NoError(t, err)
			host, err := db.Pool().Begin(ctx)
			require.NoError(t, err)
			defer host.Rollback(ctx)
			_, err = host.Exec(ctx, "SELECT FROM lockstore_metadata FOR UPDATE")
			require.NoError(t, err)
			failed := make(chan error)
			go func() {
				_, err := store.Merge(ctx, "a", raw(`{"n":1}`))
				failed <- err
			}()
			waitForRow(t, &database{DB: db})
			proxy.Reset()
			err = <-failed
			assert.Error(t, err)
			assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
			require.NoError(t, host.Rollback(ctx))
			after, err := store.Get(ctx, "a")
			require.NoError(t, err)
			assert.Equal(t, before, after)
		})
	}
}

func TestBrokenConnectionIsAnError(t *testing.T) {
	for _, driver := range []string{"pgx", "sql"} {
		for _, inGo := range []bool{false, true} {
			ctx, db := t.Context(), pgtest.New(t)
			proxy := pgtest.NewProxy(t, db)
			store := throughProxy(t, proxy, driver, &metadata.Options{MergeInGo: inGo})
			require.NoError(t, store.Migrate(ctx))
			_, err := store.Merge(ctx, "a", raw(`{"n":0}`))
			require.NoError(t, err)
			proxy.Cut()
			_, err = store.Merge(ctx, "a", raw(`{"n":1}`))
			assert.Error(t, err)
			_, err = store.Merge(ctx, "a", raw(`{"n":1}`))
			assert.Error(t, err, "it cannot connect")
			assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
			proxy.Restore()
			_, err = store.Merge(ctx, "a", raw(`{"n":2}`))
			assert.NoError(t, err)
		}
	}
}

func TestTerminatedWriterIsNotApplied(t *testing.T) {
	eachDriver(t, func(t *testing.T, d *database) {
		b := newBlocked(t, d, nil)
		first := b.merge(t.Context(), true, "first")
		waitFor(t, d, `WITH writer AS MATERIALIZED (SELECT pid FROM pg_stat_activity
			WHERE datname = current_database() AND wait_event_type = 'Lock')
			SELECT EXISTS (SELECT FROM writer WHERE pg_terminate_backend(pid))`)
		assert.Error(t, <-first)
		b.unblock()
		assert.Equal(t, `{"zero": 0}`, string(b.document().Metadata))
		_, err := b.store.Merge(t.Context(), "a", raw(`{"next":1}`))
		assert.NoError(t, err)
	})
}

func TestPreparedStatementsGone(t *testing.T) {
	db := pgtest.New(t)
	pool := poolOfOne(t, db)
	store := onPool(db, pool).migrated(t, nil)
	for i := range 5 {
		_, err := store.Merge(t.Context(), "a", raw(`{"n":%d}`, i))
		require.NoError(t, err)
	}
	_, err := pool.Exec(t.Context(), "DISCARD ALL")
	require.NoError(t, err)
	_, err = store.Merge(t.Context(), "a", raw(`{"n":"again"}`))
	assert.NotErrorIs(t, err, metadata.ErrUnknownOutcome)
	_, err = store.Merge(t.Context(), "a", raw(`{"n":"again"}`))
	assert.NoError(t, err)
}

// poolOfOne is a pool of a single connection.
func poolOfOne(t *testing.T, db *pgtest.DB) *pgxpool.Pool {
	config := db.Pool().Config()
	config.MaxConns = 1
	return newPool(t, config)
}

// A host's transactions are serializable unless they say otherwise.
func TestStricterIsolationByDefault(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.ConnConfig.RuntimeParams["default_transaction_isolation"] = "serializable"
	d := onPool(db, newPool(t, config))
	store := d.migrated(t, nil)
	var wg sync.WaitGroup
	const writers, rounds = 8, 10
	for w := range writers {
		other := d.store(t, nil) // as another process would
		wg.Go(func() {
			for r := range rounds {
				_, err := other.Merge(t.Context(), "a", raw(`{"w-%d-%d":1}`, w, r))
				assert.NoError(t, err)
				_, err = other.MergeMany(t.Context(), []metadata.Patch{{ID: "a", Patch: raw(`{"m-%d-%d":1}`, w, r)}, {ID: "b", Patch: raw(`{"m-%d-%d":1}`, w, r)}})
				assert.NoError(t, err)
			}
		})
	}
	wg.Wait()
	docs, err := store.GetMany(t.Context(), "a", "b")
	require.NoError(t, err)
	assert.Equal(t, int64(2*writers*rounds), docs["a"].Version)
	assert.Equal(t, int64(writers*rounds), docs["b"].Version)
}
