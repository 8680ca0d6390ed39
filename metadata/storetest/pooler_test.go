//go:build unix

package storetest_test

import (
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgbouncer"
	"example.com/lockstore/metadata"
	"example.com/lockstore/pgtest"
)

func TestPostgresConformsBehindATransactionPooler(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	url := pgbouncer.Start(t, db, pgbouncer.Transaction)
	for name, mode := range map[string]pgx.QueryExecMode{
		"exec": pgx.QueryExecModeExec, "simple protocol": pgx.QueryExecModeSimpleProtocol, "cached descriptions": pgx.QueryExecModeCacheDescribe,
	} {
		pool, err := pgxpool.ParseConfig(url)
		require.NoError(t, err)
		pool.ConnConfig.DefaultQueryExecMode = mode
		native, err := pgxpool.NewWithConfig(t.Context(), pool)
		require.NoError(t, err)
		t.Cleanup(native.Close)
		viaSQLX := sqlx.NewDb(stdlib.OpenDB(*pool.ConnConfig), "pgx")
		t.Cleanup(func() { viaSQLX.Close() })
		for driver, open := range map[string]opener{
			"pgx":  func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(native, o) },
			"sqlx": func(o *metadata.Options) (*metadata.Postgres, error) { return metadata.NewPostgres(viaSQLX, o) },
		} {
			kinds := []bool{false, true}
			if !*everyMode {
				kinds = kinds[rand.IntN(2):][:1]
			}
			for _, inGo := range kinds {
				t.Run(fmt.Sprintf("%s/%s/merge in Go %t", name, driver, inGo), func(t *testing.T) { conforms(t, open, inGo) })
			}
			t.Run(name+"/"+driver+"/the rest", func(t *testing.T) { testTheRest(t, db, open) })
		}
	}
	require.Empty(t, db.Locks(t), "nothing is stranded")
}
