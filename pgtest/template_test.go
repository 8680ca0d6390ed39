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

// unique returns a version for a template that no other run of the tests has used.
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

func TestDatabaseIsMadeWhileTemplate1IsInUse(t *testing.T) {
	s := pgtest.New(t, pgtest.Dedicated()).Server()
	cfg, err := pgx.ParseConfig(s.URL())
	require.NoError(t, err)
	cfg.Database = "template1"
	conn, err := pgx.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	defer conn.Close(context.Background())
	for _, opts := range [][]pgtest.Option{nil, nil, {fiftyTables}} {
		_, err := s.New(t.Context(), opts...)
		require.NoError(t, err)
		s.Settle() // creates the next one ahead
	}
}

func TestCopiesHaveWhatTheTemplateSaysOfTheDatabase(t *testing.T) {
	const of = `SELECT (SELECT array_agg(CASE WHEN setrole = 0 THEN 'all' ELSE setrole::regrole::text END || ': ' || item ORDER BY setrole, item)
		FROM pg_db_role_setting, unnest(setconfig) AS item WHERE setdatabase = d.oid),
		datdba::regrole::text, datacl::text, datconnlimit, shobj_description(oid, 'pg_database') FROM pg_database d WHERE datname = `
	type facts struct {
		Settings   []string
		Owner      string
		Privileges *string
		Limit      int
		Comment    *string
	}
	read := func(conn interface {
		Query(context.Context, string, ...any) (pgx.Rows, error)
	}, name string) facts {
		rows, err := conn.Query(t.Context(), of+name)
		require.NoError(t, err)
		found, err := pgx.CollectExactlyOneRow(rows, pgx.RowToStructByPos[facts])
		require.NoError(t, err)
		return found
	}
	statements := []string{
		`SET search_path = app, "B c", '$user', 'x"y, z', pg_temp`,
		`SET temp_tablespaces = ''`,
		`SET session_preload_libraries = '/a directory whose name is longer than the sixty-three bytes of a name/x'`,
		`SET local_preload_libraries = ''`,
		`SET my.path = 'c:\new=''1'', "two"'`,
		`SET "DateStyle" = 'German, DMY'`,
		`SET timezone = 'Europe/Paris'`,
		`SET default_transaction_read_only = on`,
		`SET statement_timeout = '1ms'`,
		`OWNER TO "An Owner"`,
		`CONNECTION LIMIT 7`,
	}
	var want facts
	build := func(ctx context.Context, pool *pgxpool.Pool) error {
		db := pool.Config().ConnConfig.Database
		sql := `CREATE ROLE "An Owner"; CREATE ROLE reader; ALTER ROLE reader IN DATABASE ` + db + ` SET search_path = "Its own";
			ALTER ROLE reader IN DATABASE ` + db + ` SET work_mem = '1MB'; COMMENT ON DATABASE ` + db + ` IS 'it''s\';`
		for _, statement := range statements {
			sql += "ALTER DATABASE " + db + " " + statement + ";"
		}
		sql += "REVOKE ALL ON DATABASE " + db + " FROM PUBLIC; GRANT CONNECT, TEMP ON DATABASE " + db + " TO reader WITH GRANT OPTION"
		_, err := pool.Exec(ctx, sql)
		want = read(pool, "'"+db+"'")
		return err
	}
	s := pgtest.New(t, pgtest.Dedicated()).Server()
	admin, err := pgx.Connect(t.Context(), s.URL())
	require.NoError(t, err)
	defer admin.Close(t.Context())
	for range 3 { // in different ways
		db, err := s.New(t.Context(), pgtest.Template("v1", build))
		require.NoError(t, err)
		assert.Equal(t, want, read(admin, "'"+db.Name()+"'"))
		s.Settle()
	}
	assert.Len(t, want.Settings, len(statements)-2+2)

	plain, err := s.New(t.Context(), pgtest.Template("v2", func(context.Context, *pgxpool.Pool) error { return nil }))
	require.NoError(t, err)
	assert.Equal(t, facts{Owner: "postgres", Limit: -1}, read(admin, "'"+plain.Name()+"'"))
}

func TestTemplatesNeedNoSuperuser(t *testing.T) {
	host := pgtest.New(t, pgtest.Dedicated())
	query(t, host, "CREATE ROLE app CREATEDB LOGIN PASSWORD 'sesame'")
	cfg, err := pgx.ParseConfig(host.URL())
	require.NoError(t, err)
	t.Setenv("PGTEST_DSN", "host="+cfg.Host+" user=app password=sesame dbname=postgres")
	s := leases(t, 1)[0]
	db, err := s.New(t.Context(), pgtest.Template("v1", func(ctx context.Context, pool *pgxpool.Pool) error {
		db := pool.Config().ConnConfig.Database
		_, err := pool.Exec(ctx, "CREATE SCHEMA app; CREATE TABLE app.here (); ALTER DATABASE "+db+" SET search_path = app; REVOKE ALL ON DATABASE "+db+" FROM PUBLIC")
		return err
	}))
	require.NoError(t, err)
	query(t, db, "TABLE here")
	assert.Equal(t, "{app=CTc/app}", value[string](t, db, "SELECT datacl FROM pg_database WHERE datname = current_database()"))
}
