package pgtest_test

import (
	"context"
	"crypto/rand"
	"errors"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// leases returns n leases on the shared server, as n processes would have them.
func leases(t *testing.T, n int) []*pgtest.Server {
	t.Helper()
	all := make([]*pgtest.Server, n)
	for i := range all {
		s, err := pgtest.Start(t.Context())
		require.NoError(t, err)
		t.Cleanup(func() { assert.NoError(t, s.Close()) })
		all[i] = s
	}
	return all
}

// unique is a template's version that no other run of the tests has used.
func unique(t *testing.T) string { return t.Name() + rand.Text() }

func TestTemplateIsBuiltOnceForAllProcesses(t *testing.T) {
	var built atomic.Int32
	template := pgtest.Template(unique(t), func(ctx context.Context, pool *pgxpool.Pool) error {
		built.Add(1)
		_, err := pool.Exec(ctx, "CREATE TABLE made (n int); INSERT INTO made VALUES (1), (2)")
		return err
	})
	var wg sync.WaitGroup
	for _, s := range leases(t, 3) {
		for range 2 {
			wg.Go(func() {
				db, err := s.New(t.Context(), template)
				if !assert.NoError(t, err) {
					return
				}
				var n int
				assert.NoError(t, db.Pool().QueryRow(t.Context(), "SELECT count(*) FROM made").Scan(&n))
				assert.Equal(t, 2, n)
				_, err = db.Pool().Exec(t.Context(), "DROP TABLE made")
				assert.NoError(t, err, "copies are apart")
			})
		}
	}
	wg.Wait()
	assert.EqualValues(t, 1, built.Load())
}

func TestDatabasesMadeAheadAreCopiesOfTheirTemplate(t *testing.T) {
	s := leases(t, 1)[0]
	for _, word := range []string{"one", "two"} {
		template := pgtest.Template(unique(t), func(ctx context.Context, pool *pgxpool.Pool) error {
			_, err := pool.Exec(ctx, "CREATE TABLE made AS SELECT '"+word+"' AS word")
			return err
		})
		seen := map[string]bool{}
		for range 5 {
			db, err := s.New(t.Context(), template)
			require.NoError(t, err)
			assert.Equal(t, word, value[string](t, db, "SELECT word FROM made"))
			assert.False(t, seen[db.Name()], "given twice")
			seen[db.Name()] = true
			s.Settle()
		}
	}
	db, err := s.New(t.Context())
	require.NoError(t, err)
	assert.Zero(t, value[int](t, db, "SELECT count(*) FROM pg_class WHERE relname = 'made'"))
}

func TestTemplateIsSealed(t *testing.T) {
	db := pgtest.New(t, pgtest.Template(unique(t), func(context.Context, *pgxpool.Pool) error { return nil }))
	conn, err := pgx.Connect(t.Context(), db.Server().URL())
	require.NoError(t, err)
	defer conn.Close(t.Context())
	var sealed, all int
	require.NoError(t, conn.QueryRow(t.Context(), `SELECT count(*) FILTER (WHERE NOT datallowconn AND datistemplate), count(*)
		FROM pg_database WHERE datname LIKE 'pgtest\_template\_%'`).Scan(&sealed, &all))
	assert.NotZero(t, all)
	assert.Equal(t, all, sealed)
}

func TestTemplateThatFailsFailsTheTestAndIsBuiltAgain(t *testing.T) {
	version, broken := unique(t), errors.New("migration 7 is broken")
	s := leases(t, 1)[0]
	_, err := s.New(t.Context(), pgtest.Template(version, func(context.Context, *pgxpool.Pool) error { return broken }))
	require.ErrorIs(t, err, broken)
	assert.ErrorContains(t, err, version)
	_, err = s.New(t.Context(), pgtest.Template(version, func(context.Context, *pgxpool.Pool) error { return nil }))
	assert.NoError(t, err)
}
