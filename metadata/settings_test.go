package metadata_test

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/settings"
	"example.com/lockstore/metadata"
	"example.com/lockstore/metadata/storetest"
	"example.com/lockstore/pgtest"
)

var everyMode = flag.Bool("every-mode", false, "TestPostgresConformsUnderAnySettings has all query modes in each world, not one drawn by chance")

// Under whatever a role or database has set for its sessions, a store does what it does
// without: see package settings.
func TestPostgresConformsUnderAnySettings(t *testing.T) {
	for _, world := range settings.Worlds() {
		modes := queryModes
		if !*everyMode {
			modes = []pgx.QueryExecMode{pick(rand.New(rand.NewPCG(rand.Uint64(), 0)), queryModes)}
		}
		t.Run(world.Name, func(t *testing.T) {
			db := pgtest.New(t)
			require.NoError(t, must(metadata.NewPostgres(db.Pool(), nil)).Migrate(t.Context()))
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
					pool := must(pgxpool.NewWithConfig(t.Context(), config))
					t.Cleanup(pool.Close)
					return metadata.NewPostgres(pool, o)
				}
				t.Run(fmt.Sprint(mode), func(t *testing.T) {
					store := must(open(&metadata.Options{MaxDocumentBytes: 1 << 20, MergeInGo: i == 4}))
					defer store.Close()
					require.NoError(t, store.Migrate(t.Context()))
					storetest.Run(t, func(t testing.TB) metadata.MetadataStore { return store })
					testTheRest(t, &database{db, open})
				})
			}
		})
	}
}
