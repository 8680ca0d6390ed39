package storetest_test

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/settings"
	"example.com/lockstore/lock"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"
)

var everyMode = flag.Bool("every-mode", false, "run the suite in all query modes under any settings, and both ways of merging behind a pooler, not in one of each that is drawn")

// Under whatever a role or database has set for its sessions, a store does what it does
// without: see package settings.
func TestPostgresConformsUnderAnySettings(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, world := range settings.Worlds() {
		modes := settings.QueryModes
		if !*everyMode {
			modes = modes[rand.IntN(len(modes)):][:1]
		}
		t.Run(world.Name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			tokens := metadata.Table{Tokens: metadata.DefaultTokens}
			owner, err := metadata.NewPostgres(db.Pool(), &metadata.Options{Table: tokens})
			require.NoError(t, err)
			defer owner.Close()
			require.NoError(t, owner.Migrate(t.Context()))
			require.NoError(t, world.Set(t.Context(), db.Pool()))
			for i, mode := range modes {
				config := db.Pool().Config()
				config.ConnConfig.DefaultQueryExecMode = mode
				open := func(o *metadata.Options) (*metadata.Postgres, error) {
					if (i+len(world.Name))%2 == 0 {
						handle := stdlib.OpenDB(*config.ConnConfig)
						t.Cleanup(func() { handle.Close() })
						return metadata.NewPostgres(handle, o)
					}
					pool, err := pgxpool.NewWithConfig(t.Context(), config)
					require.NoError(t, err)
					t.Cleanup(pool.Close)
					return metadata.NewPostgres(pool, o)
				}
				t.Run(fmt.Sprint(mode), func(t *testing.T) {
					store, err := open(&metadata.Options{MaxDocumentBytes: 1 << 20, MergeInGo: i == 4, Table: tokens})
					require.NoError(t, err)
					defer store.Close()
					require.NoError(t, store.Migrate(t.Context()))
					storetest.Run(t, func(t testing.TB) metadata.MetadataStore { return store })
					testTheRest(t, db, open)
				})
			}
		})
	}
}

// testTheRest uses every statement that the conformance suite does not.
func testTheRest(t *testing.T, db *pgtest.DB, open opener) {
	ctx := t.Context()
	store, err := open(nil)
	require.NoError(t, err)
	defer store.Close()
	require.NoError(t, store.Migrate(ctx))
	locker, err := lock.NewPostgres(ctx, db.Pool(), nil)
	require.NoError(t, err)
	defer locker.Close(context.Background())
	results, err := store.MergeMany(ctx, []metadata.Patch{{ID: "r1", Patch: json.RawMessage(`{"n":1}`)}, {ID: "r2", Patch: json.RawMessage(`{"n":2}`)}})
	require.NoError(t, err)
	require.Len(t, results, 2)
	_, err = store.MergeMany(ctx, []metadata.Patch{{ID: "r1", Patch: json.RawMessage(`{"m":{"a":1}}`)}, {ID: "r2", Patch: json.RawMessage(`{"m":null}`)}})
	require.NoError(t, err)
	docs, err := store.GetMany(ctx, "r1", "r2", "r3")
	require.NoError(t, err)
	require.Len(t, docs, 2)
	n := 0
	for _, err := range store.Find(ctx, json.RawMessage(`{"n":1}`), &metadata.FindOptions{After: "r0", PageSize: 1}) {
		require.NoError(t, err)
		n++
	}
	require.Equal(t, 1, n)
	_, err = store.IfVersion(docs["r1"].Version).Replace(ctx, "r1", json.RawMessage(`{}`))
	require.NoError(t, err)
	held, err := locker.Lock(ctx, store.Key("r1"))
	require.NoError(t, err)
	doc, err := store.Merge(held.Context(), "r1", json.RawMessage(`{"held":1}`))
	require.NoError(t, err)
	require.Equal(t, `{"held": 1}`, string(doc.Metadata))
	require.NoError(t, store.Delete(held.Context(), "r1"))
	require.NoError(t, held.Unlock())
	require.NoError(t, store.Delete(ctx, "r2"))
}
