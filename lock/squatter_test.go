package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// squattersSQL makes a schema with something for every name that a statement could
// look up: functions of the same name and arguments as PostgreSQL's own, and of others
// that may fit better; operators between all usual types; views and types. Each has a
// sequence, which tells that it ran even where its transaction was rolled back.
const squattersSQL = `
CREATE SCHEMA squatter;
CREATE FUNCTION squatter.set_trap(trap text, arguments text, result text) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
	EXECUTE format('CREATE SEQUENCE IF NOT EXISTS squatter.%I', 'ran: ' || trap);
	EXECUTE format('CREATE FUNCTION squatter.%I (%s) RETURNS %s LANGUAGE plpgsql AS $f$ BEGIN PERFORM pg_catalog.nextval(%L); RETURN NULL; END $f$',
		trap, arguments, result, format('squatter.%I', 'ran: ' || trap));
EXCEPTION WHEN OTHERS THEN NULL; -- not all signatures are for everybody
END $$;
DO $$
DECLARE
	types text[] := '{boolean, smallint, integer, bigint, numeric, oid, text, varchar, name, timestamptz, inet}';
	f record; o record;
BEGIN
	FOR f IN SELECT p.proname, pg_get_function_identity_arguments(p.oid) AS arguments, pg_get_function_result(p.oid) AS result
		FROM pg_proc p WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.prokind = 'f' AND p.pronargs < 4
			AND p.proname ~ '^pg_(advisory|try|stat_get|backend|current|cancel|terminate|is_|has_|logical|lock|show)|^(version|unnest|host|chr|starts_with|numeric_mul|extract|date_part|array_|current_|set_config|to_|format)'
	LOOP
		PERFORM squatter.set_trap(f.proname, f.arguments, f.result);
	END LOOP;
	FOR f IN SELECT DISTINCT p.proname, t AS argument
		FROM pg_proc p, unnest(types || ARRAY['bigint[]', 'text[]', 'name[]']) t
		WHERE p.pronamespace = 'pg_catalog'::regnamespace AND p.proname ~ '^pg_(advisory|try_advisory|stat_get_activity|cancel|terminate)|^(unnest|host|starts_with|set_config|current_setting)$'
	LOOP
		PERFORM squatter.set_trap(f.proname, f.argument, 'boolean');
		PERFORM squatter.set_trap(f.proname, f.argument || ', ' || f.argument, 'boolean');
		PERFORM squatter.set_trap(f.proname, f.argument || ', ' || f.argument || ', boolean', 'boolean');
	END LOOP;
	FOR f IN SELECT l, r FROM unnest(types) l, unnest(types) r LOOP
		PERFORM squatter.set_trap('operator', f.l || ', ' || f.r, 'boolean');
		FOR o IN SELECT unnest('{=,<>,<,>,<=,>=,+,-,*,/,||,<<,>>,&,|,#,~~}'::text[]) AS name LOOP
			EXECUTE format('CREATE OPERATOR squatter.%s (LEFTARG = %s, RIGHTARG = %s, FUNCTION = squatter.operator)', o.name, f.l, f.r);
		END LOOP;
	END LOOP;
	FOR f IN SELECT unnest('{pg_locks, pg_stat_activity, pg_settings, pg_roles, pg_database}'::text[]) AS relname LOOP
		PERFORM squatter.set_trap('view ' || f.relname, '', 'boolean');
		EXECUTE format('CREATE VIEW squatter.%I AS SELECT v.* FROM pg_catalog.%I v WHERE squatter.%I()', f.relname, f.relname, 'view ' || f.relname);
	END LOOP;
	FOR f IN SELECT unnest('{text, oid, name, bool, int2, int4, int8, regclass}'::text[]) AS type LOOP
		PERFORM squatter.set_trap('type ' || f.type, '', 'boolean');
		EXECUTE format('CREATE DOMAIN squatter.%I AS pg_catalog.%I CHECK (squatter.%I())', f.type, f.type, 'type ' || f.type);
	END LOOP;
END $$`

// squattersRan are those that did.
func squattersRan(t *testing.T, pool *pgxpool.Pool) (ran []string) {
	t.Helper()
	return query[[]string](t, pool, "SELECT coalesce(array_agg(sequencename::text), '{}') FROM pg_sequences WHERE schemaname = 'squatter' AND last_value IS NOT NULL")
}

func TestSquattersOfTheSearchPathDoNotRun(t *testing.T) {
	for name, path := range map[string]string{
		"behind pg_catalog": "squatter, public", "before pg_catalog": "squatter, pg_catalog",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			_, err := db.Pool().Exec(t.Context(), squattersSQL)
			require.NoError(t, err)
			config := db.Pool().Config()
			config.ConnConfig.RuntimeParams["search_path"] = path
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			_, _ = pool.Exec(t.Context(), "SELECT 1::numeric * 1")
			require.NotEmpty(t, squattersRan(t, db.Pool()), "what they are to be seen by")
			_, err = db.Pool().Exec(t.Context(), "SELECT setval(format('squatter.%I', sequencename)::regclass, 1, false) FROM pg_sequences WHERE schemaname = 'squatter' AND last_value IS NOT NULL")
			require.NoError(t, err)

			opts := &lock.PostgresOptions{DescribeBusy: true}
			useEverything(t, newPostgres(t, pool, opts), newPostgres(t, stdlib.OpenDBFromPool(pool), opts), pool)
			assert.Empty(t, squattersRan(t, db.Pool()))
		})
	}
}

// useEverything has lockers send every statement they have.
func useEverything(t *testing.T, mine, other *lock.Postgres, pool *pgxpool.Pool) {
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	space := lock.Namespace("shop")
	a, b := space.Name("a"), space.Name("b")
	for _, l := range []*lock.Postgres{mine, other} {
		all, err := l.LockAll(ctx, a, b, space.Name("c"))
		require.NoError(t, err)
		_, err = all.Fence(ctx)
		assert.NoError(t, err)
		assert.NoError(t, all.Unlock())
		shared, err := l.RLock(ctx, a)
		require.NoError(t, err)
		assert.NoError(t, shared.Unlock())
		_, err = l.Check(ctx)
		assert.NoError(t, err)
	}

	held, err := mine.TryLock(ctx, a)
	require.NoError(t, err)
	_, err = other.TryLock(ctx, a)
	var busy *lock.BusyError
	require.ErrorAs(t, err, &busy)
	require.NotNil(t, busy.Status, "who holds the key")
	list, err := other.List(ctx, space)
	require.NoError(t, err)
	require.Len(t, list, 1)
	status, err := mine.Status(ctx, a)
	require.NoError(t, err)
	require.Len(t, status.Holders, 1)
	assert.True(t, status.Holders[0].InThisLocker)

	waited := make(chan *lock.Held, 1)
	go func() { waited <- take(t, other, a) }()
	require.Eventually(t, func() bool {
		status, err := mine.Status(ctx, a)
		return err == nil && status.Waiters == 1
	}, patience, time.Millisecond, "a waiter in the server's queue")
	require.NoError(t, other.Evict(ctx, a, time.Hour), "a holder who can be asked")
	assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
	assert.NoError(t, (<-waited).Unlock())

	tx, err := pool.Begin(ctx)
	require.NoError(t, err)
	defer tx.Rollback(context.WithoutCancel(ctx))
	require.NoError(t, lock.InTx(ctx, tx, b))
	require.NoError(t, mine.Evict(ctx, b, 0), "a holder who cannot")
	_, err = tx.Exec(ctx, "SELECT")
	assert.Error(t, err, "its session has ended")
}
