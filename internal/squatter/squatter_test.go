package squatter_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/pgtest"
)

// The squatter must catch unqualified names, or else tests with it prove nothing.
func TestSquatterCatchesWhatIsNotQualified(t *testing.T) {
	db, ctx := pgtest.New(t), t.Context()
	require.NoError(t, squatter.Settle(ctx, db.Pool()))
	inexact := map[string]string{
		`SELECT 'a'::varchar = 'b'::text`:                "operator of varchar and text",
		`SELECT 1::numeric * 2`:                          "operator of numeric and int4",
		`SELECT 'a'::varchar IN ('b'::text)`:             "operator of varchar and text",
		`SELECT nullif('a'::varchar, 'b'::text)`:         "operator of varchar and text",
		`SELECT * FROM unnest(ARRAY[1::bigint])`:         "function unnest(bigint[])",
		`SELECT jsonb_object_agg('a'::text, '1'::jsonb)`: "function jsonb_object_agg(text, jsonb)",
	}
	exact := map[string]string{
		`SELECT 1 = 1`:                                      "operator of int4 and int4",
		`SELECT '{}'::pg_catalog.jsonb || '{}'`:             "operator of jsonb and jsonb",
		`SELECT 'a'::text`:                                  "type text",
		`SELECT count(*) FROM pg_locks`:                     "view pg_locks",
		`SELECT current_setting('lock_timeout')`:            "function current_setting(text)",
		`SELECT '2'::pg_catalog.jsonb IS DISTINCT FROM '1'`: "operator of jsonb and jsonb",
	}
	for i, path := range squatter.Paths("public") {
		config := db.Pool().Config()
		config.MaxConns = 1
		config.ConnConfig.RuntimeParams["search_path"] = path
		pool, err := pgxpool.NewWithConfig(ctx, config)
		require.NoError(t, err)
		defer pool.Close()
		for sql, want := range exact {
			pool.Exec(ctx, sql)
			got, err := squatter.Caught(ctx, db.Pool())
			require.NoError(t, err)
			if i == 0 {
				assert.Empty(t, got, sql)
			} else {
				assert.Equal(t, want, got, sql)
			}
		}
		for sql, want := range inexact {
			pool.Exec(ctx, sql)
			got, err := squatter.Caught(ctx, db.Pool())
			require.NoError(t, err)
			assert.Equal(t, want, got, "%s: %s", path, sql)
		}
		_, err = pool.Exec(ctx, `SELECT OPERATOR(pg_catalog.-) 1, '{}'::pg_catalog.jsonb OPERATOR(pg_catalog.||) '{}'`)
		require.NoError(t, err)
		got, err := squatter.Caught(ctx, db.Pool())
		require.NoError(t, err)
		assert.Empty(t, got)
	}
}
