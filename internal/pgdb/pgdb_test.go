package pgdb_test

import (
	"cmp"
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/jmoiron/sqlx"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/hidden"
	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

// both runs a test over pgx, over database/sql, and over two drivers around pgx's: one that
// exposes pgx's connection, and one that does not.
func both(t *testing.T, test func(t *testing.T, db pgdb.DB)) {
	db := pgtest.New(t)
	config := *db.Pool().Config().ConnConfig
	shown := sql.OpenDB(around{stdlib.GetConnector(config), func(c *stdlib.Conn) driver.Conn { return raw{c} }})
	t.Cleanup(func() { shown.Close() })
	for name, handle := range map[string]any{
		"pgx": db.Pool(), "sqlx": db.SQLX(), "sql": db.SQLX().DB, "around pgx's": shown, "hides pgx's": hidden.Open(t, db),
	} {
		t.Run(name, func(t *testing.T) {
			opened, err := pgdb.Open(handle)
			require.NoError(t, err)
			test(t, opened)
		})
	}
}

// around is a driver that wraps pgx's.
type around struct {
	driver.Connector
	wrap func(*stdlib.Conn) driver.Conn
}

func (a around) Connect(ctx context.Context) (driver.Conn, error) {
	c, err := a.Connector.Connect(ctx)
	if err != nil {
		return nil, err
	}
	return a.wrap(c.(*stdlib.Conn)), nil
}

func (a around) Driver() driver.Driver { return foreign{} }

type foreign struct{}

func (foreign) Open(string) (driver.Conn, error)             { return nil, errors.New("foreign") }
func (foreign) Connect(context.Context) (driver.Conn, error) { return nil, errors.New("foreign") }
func (foreign) Driver() driver.Driver                        { return foreign{} }

func TestOpenRefusesWhatItCannotUse(t *testing.T) {
	for name, handle := range map[string]any{
		"nothing":    nil,
		"nil pool":   (*pgxpool.Pool)(nil),
		"nil sql":    (*sql.DB)(nil),
		"nil sqlx":   (*sqlx.DB)(nil),
		"empty sqlx": &sqlx.DB{},
		"text":       "postgres://",
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pgdb.Open(handle)
			require.ErrorIs(t, err, pgdb.ErrUnsupported)
		})
	}
}

func TestPoolsThatPrepareConnectionsForCallersAreSeen(t *testing.T) {
	db := pgtest.New(t)
	for name, c := range map[string]struct {
		set  func(*pgxpool.Config)
		want bool
	}{
		"no hook": {func(*pgxpool.Config) {}, false},
		"PrepareConn": {func(c *pgxpool.Config) {
			c.PrepareConn = func(context.Context, *pgx.Conn) (bool, error) { return true, nil }
		}, true},
		"BeforeAcquire": {func(c *pgxpool.Config) {
			c.BeforeAcquire = func(context.Context, *pgx.Conn) bool { return true } //lint:ignore SA1019 hosts have it
		}, true},
		"hooks for all": {func(c *pgxpool.Config) {
			c.AfterConnect = func(context.Context, *pgx.Conn) error { return nil }
			c.AfterRelease = func(*pgx.Conn) bool { return true }
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			config := db.Pool().Config()
			c.set(config)
			pool, err := pgxpool.NewWithConfig(t.Context(), config)
			require.NoError(t, err)
			defer pool.Close()
			opened, err := pgdb.Open(pool)
			require.NoError(t, err)
			assert.Equal(t, c.want, opened.PreparesForCaller())
		})
	}
}

func TestPoolIsFull(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.MaxConns = 1
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	db.SQLX().SetMaxOpenConns(1)
	for name, handle := range map[string]any{"pgx": pool, "sqlx": db.SQLX()} {
		t.Run(name, func(t *testing.T) {
			opened, err := pgdb.Open(handle)
			require.NoError(t, err)
			assert.False(t, opened.Full())
			conn, err := opened.Acquire(t.Context())
			require.NoError(t, err)
			assert.True(t, opened.Full())
			conn.Release()
			assert.Eventually(t, func() bool { return !opened.Full() }, 10*time.Second, time.Millisecond)
		})
	}
}

func TestTxRefusesWhatItCannotUse(t *testing.T) {
	for name, tx := range map[string]any{
		"nothing":    nil,
		"nil sql":    (*sql.Tx)(nil),
		"nil sqlx":   (*sqlx.Tx)(nil),
		"empty sqlx": &sqlx.Tx{},
		"nil pgx":    pgx.Tx((*pgxpool.Tx)(nil)),
		"nil in bun": embeddingTx{},
		"a pool":     &pgxpool.Pool{},
		"a database": &sql.DB{},
		"a session":  &sql.Conn{},
		"nil ent":    (*sendingTx)(nil),
	} {
		t.Run(name, func(t *testing.T) {
			_, err := pgdb.Tx(tx)
			require.ErrorIs(t, err, pgdb.ErrUnsupported)
		})
	}
}

// Tx is a type of another library, whose package is named like database/sql.
type Tx struct{}

// Transactions like those of other libraries.
type (
	embeddingTx struct { // bun's
		*sql.Tx
	}
	InterfaceTx struct{ DriverTx } // ent's driver's, and gorm's prepared
	DriverTx    interface{ Commit() error }
	sendingTx   struct{ inner *sql.Tx } // ent's
)

func (embeddingTx) ExecContext(context.Context, string, ...any) (sql.Result, error) {
	return nil, errors.New("not for SQL with places of its own")
}

func (t *sendingTx) ExecContext(ctx context.Context, text string, args ...any) (sql.Result, error) {
	return t.inner.ExecContext(ctx, text, args...)
}
func (t *sendingTx) QueryContext(ctx context.Context, text string, args ...any) (*sql.Rows, error) {
	return t.inner.QueryContext(ctx, text, args...)
}
func (t *sendingTx) Commit() error   { return t.inner.Commit() }
func (t *sendingTx) Rollback() error { return t.inner.Rollback() }

// The error names the type that was given, with its package.
func TestRefusalsNameWhatWasGiven(t *testing.T) {
	db, err := pgdb.Open(sql.OpenDB(foreign{}))
	require.NoError(t, err)
	_, err = db.Exec(t.Context(), "SELECT 1")
	assert.ErrorContains(t, err, "driver example.com/lockstore/internal/pgdb_test.foreign cannot connect")
	assert.True(t, pgdb.Unavailable(err), "as over pgx, which says so of all that no server has answered")
	_, err = pgdb.Tx(&Tx{})
	assert.ErrorContains(t, err, "unsupported database handle: *example.com/lockstore/internal/pgdb_test.Tx; want")
	_, err = pgdb.Open(&Tx{})
	assert.ErrorContains(t, err, "unsupported database handle: *example.com/lockstore/internal/pgdb_test.Tx; want")
}

func TestTxRunsInTheHostsTransaction(t *testing.T) {
	ctx, db := t.Context(), pgtest.New(t)
	native, err := db.Pool().Begin(ctx)
	require.NoError(t, err)
	defer native.Rollback(ctx)
	viaSQL, err := db.SQLX().DB.Begin()
	require.NoError(t, err)
	defer viaSQL.Rollback()
	viaSQLX, err := db.SQLX().Beginx()
	require.NoError(t, err)
	defer viaSQLX.Rollback()

	begin := func() *sql.Tx {
		tx, err := db.SQLX().DB.Begin()
		require.NoError(t, err)
		t.Cleanup(func() { tx.Rollback() })
		return tx
	}
	for name, tx := range map[string]any{
		"pgx": native, "sql": viaSQL, "sqlx": viaSQLX,
		"embedded": embeddingTx{Tx: begin()}, "embedded, by pointer": &embeddingTx{Tx: begin()},
		"in an interface": &InterfaceTx{DriverTx: begin()}, "sends": &sendingTx{begin()},
	} {
		q, err := pgdb.Tx(tx)
		require.NoError(t, err, name)
		_, err = q.Exec(ctx, "create temp table once_only (n int) on commit drop")
		require.NoError(t, err, name)
	}
}

func TestTransactionCommitsWithItsLastRow(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		_, err := db.Exec(ctx, "create table if not exists counted (n int)")
		require.NoError(t, err)
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)

		var before, after int
		require.NoError(t, tx.QueryRow(ctx, []any{&before}, "select count(*) from counted"))
		require.NoError(t, tx.CommitRow(ctx, []any{&after}, "insert into counted values (1) returning $1::text::int", "7"))
		require.NoError(t, tx.Rollback(ctx), "after Commit it does nothing")
		assert.Equal(t, 7, after)
		require.NoError(t, db.QueryRow(ctx, []any{&after}, "select count(*) from counted"))
		assert.Equal(t, before+1, after)
	})
}

func TestTransactionCommitsWithoutARow(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		var first, second string
		require.ErrorIs(t, tx.CommitRow(ctx, []any{&first}, "select 1 where false"), pgdb.ErrNoRows)
		require.NoError(t, conn.QueryRow(ctx, []any{&first}, "select pg_current_xact_id()::text"))
		require.NoError(t, conn.QueryRow(ctx, []any{&second}, "select pg_current_xact_id()::text"))
		assert.NotEqual(t, first, second, "no transaction is left open")
	})
}

func TestFailedTransactionLeavesTheConnectionUsable(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		for _, fail := range []func(pgdb.Transaction) error{
			func(tx pgdb.Transaction) error { return tx.QueryRow(ctx, []any{new(int)}, "select 1/0") },
			func(tx pgdb.Transaction) error { return tx.CommitRow(ctx, []any{new(int)}, "select 1/0") },
			func(tx pgdb.Transaction) error { _, err := tx.Exec(ctx, "select 1/0"); return err },
			func(tx pgdb.Transaction) error {
				return tx.Query(ctx, func(pgdb.Row) error { return nil }, "select 1/0")
			},
		} {
			tx, err := conn.Begin(ctx)
			require.NoError(t, err)
			err = fail(tx)
			assert.Equal(t, "22012", pgdb.Code(err))
			assert.False(t, pgdb.Uncertain(err))
			require.NoError(t, tx.Rollback(ctx))
			require.NoError(t, conn.QueryRow(ctx, []any{new(int)}, "select 1"))
		}
	})
}

func TestCommitDoesNotHideARollback(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		tx, err := conn.Begin(ctx)
		require.NoError(t, err)
		require.Error(t, tx.QueryRow(ctx, []any{new(int)}, "select 1/0"))
		err = tx.Commit(ctx)
		require.Error(t, err)
		assert.False(t, pgdb.Uncertain(err))
	})
}

func TestQueryReadsEveryRow(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		var got []string
		require.NoError(t, db.Query(t.Context(), func(r pgdb.Row) error {
			var s string
			err := r.Scan(&s)
			got = append(got, s)
			return err
		}, "select unnest($1::text[])", []string{"a", "b"}))
		assert.Equal(t, []string{"a", "b"}, got)

		stop := errors.New("enough")
		assert.Equal(t, stop, db.Query(t.Context(), func(pgdb.Row) error { return stop }, "select generate_series(1, 1000)"))
	})
}

func TestPipelineSendsArrays(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		defer conn.Release()
		pipe := conn.Pipeline()
		if strings.HasSuffix(t.Name(), "hides_pgx's") {
			require.Nil(t, pipe)
			return
		}
		require.NotNil(t, pipe)
		const joined = "select array_to_string($1::text[], ';') || array_to_string($2::bigint[] || array_length($3::boolean[], 1)::bigint, ';')"
		for range 2 {
			receive, err := pipe.Send(ctx, joined, []string{`a"b`, `c\d`, "{,}"}, []int64{-1, 2}, []bool{true, false, true})
			require.NoError(t, err)
			var got string
			_, err = receive(ctx, []any{&got})
			require.NoError(t, err)
			assert.Equal(t, `a"b;c\d;{,}-1;2;3`, got)
		}
	})
}

// panicking is a tracer that panics.
type panicking struct{ pgx.QueryTracer }

func (panicking) TraceQueryStart(context.Context, *pgx.Conn, pgx.TraceQueryStartData) context.Context {
	panic("the host's")
}

// If a host's code panics within a statement, Release does not wait for the statement.
func TestReleaseAfterAPanic(t *testing.T) {
	config := pgtest.New(t).Pool().Config().ConnConfig
	config.Tracer = panicking{}
	handle := stdlib.OpenDB(*config)
	t.Cleanup(func() { handle.Close() })
	db, err := pgdb.Open(handle)
	require.NoError(t, err)
	for name, call := range map[string]func(pgdb.Conn) error{
		"Exec":     func(c pgdb.Conn) error { _, err := c.Exec(t.Context(), "select 1"); return err },
		"QueryRow": func(c pgdb.Conn) error { return c.QueryRow(t.Context(), []any{new(int)}, "select 1") },
		"Query": func(c pgdb.Conn) error {
			return c.Query(t.Context(), func(pgdb.Row) error { return nil }, "select 1")
		},
	} {
		conn, err := db.Acquire(t.Context())
		require.NoError(t, err)
		require.PanicsWithValue(t, "the host's", func() { _ = call(conn) }, name)
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err)
		_ = tx.Rollback(t.Context()) // as callers of Begin do
		released := make(chan struct{})
		go func() { conn.Release(); close(released) }()
		select {
		case <-released:
		case <-time.After(10 * time.Second):
			require.Fail(t, "Release waits", name)
		}
	}
}

// answering is a connection of another driver than pgx, which can fail.
type answering struct {
	*stdlib.Conn
	fail func(query string, before bool) error
}

func (a answering) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if err := a.fail(query, true); err != nil {
		return nil, err
	}
	result, err := a.Conn.ExecContext(ctx, query, args)
	return result, cmp.Or(a.fail(query, false), err)
}

func (a answering) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if err := a.fail(query, true); err != nil {
		return nil, err
	}
	return a.Conn.QueryContext(ctx, query, args)
}

// failing opens a pool whose driver fails as a test says.
func failing(t *testing.T, host *pgtest.DB, fail func(query string, before bool) error) (pgdb.DB, *sql.DB) {
	handle := sql.OpenDB(around{stdlib.GetConnector(*host.Pool().Config().ConnConfig), func(c *stdlib.Conn) driver.Conn { return answering{c, fail} }})
	t.Cleanup(func() { handle.Close() })
	db, err := pgdb.Open(handle)
	require.NoError(t, err)
	return db, handle
}

// A driver that loses an answer returns driver.ErrBadConn, which database/sql takes to mean
// that nothing was sent.
func TestWhatADriverMayHaveSentIsSentOnce(t *testing.T) {
	sent := 0
	db, _ := failing(t, pgtest.New(t), func(query string, before bool) error {
		if query != "SELECT pg_catalog.pg_sleep(0)" || before {
			return nil
		}
		sent++
		return driver.ErrBadConn
	})
	_, err := db.Exec(t.Context(), "SELECT pg_catalog.pg_sleep(0)")
	assert.ErrorIs(t, err, driver.ErrBadConn)
	assert.True(t, pgdb.Uncertain(err))
	assert.True(t, pgdb.Unavailable(err))
	assert.Equal(t, 1, sent)
}

// A transaction that fails before COMMIT is sent has not committed. If COMMIT fails, the
// outcome is unknown.
func TestNothingIsMadeBeforeCommit(t *testing.T) {
	var broken string
	var before bool
	host := pgtest.New(t)
	db, handle := failing(t, host, func(query string, b bool) error {
		if query == broken && b == before {
			return driver.ErrBadConn
		}
		return nil
	})
	_, err := host.Pool().Exec(t.Context(), "CREATE TABLE made (n int)")
	require.NoError(t, err)
	for name, c := range map[string]struct {
		broken    string
		before    bool
		uncertain bool
		made      int
	}{
		"statement":    {insert, true, false, 0},
		"commit":       {"commit", true, true, 0},
		"its answer":   {"commit", false, true, 1},
		"nothing does": {"", false, false, 1},
	} {
		broken, before = c.broken, c.before
		conn, err := db.Acquire(t.Context())
		require.NoError(t, err, name)
		tx, err := conn.Begin(t.Context())
		require.NoError(t, err, name)
		err = tx.CommitRow(t.Context(), []any{new(int)}, insert, "1")
		assert.Equal(t, c.broken == "", err == nil, name)
		assert.Equal(t, c.uncertain, pgdb.Uncertain(err), name)
		assert.NoError(t, tx.Rollback(t.Context()), name)
		conn.Release()
		var made int
		require.NoError(t, host.Pool().QueryRow(t.Context(), "WITH gone AS (DELETE FROM made RETURNING 1) SELECT count(*) FROM gone").Scan(&made))
		assert.Equal(t, c.made, made, name)
	}

	broken = "rollback"
	conn, err := db.Acquire(t.Context())
	require.NoError(t, err)
	_, err = conn.Begin(t.Context())
	require.NoError(t, err)
	open := handle.Stats().OpenConnections
	conn.Release()
	assert.Equal(t, open-1, handle.Stats().OpenConnections, "one that is left in a transaction is closed")
}

// If a driver panics in a statement, Release does not wait for the statement.
func TestReleaseAfterAPanicOfADriver(t *testing.T) {
	db, _ := failing(t, pgtest.New(t), func(query string, _ bool) error {
		if query == "SELECT 1" {
			panic("the host's")
		}
		return nil
	})
	conn, err := db.Acquire(t.Context())
	require.NoError(t, err)
	require.PanicsWithValue(t, "the host's", func() { _ = conn.QueryRow(t.Context(), []any{new(int)}, "SELECT 1") })
	conn.Release()
	require.NoError(t, db.QueryRow(t.Context(), []any{new(int)}, "SELECT 2"))
}

// slowly is a slow destination, like a large row on a busy machine.
type slowly struct{}

func (slowly) Scan(any) error {
	time.Sleep(300 * time.Millisecond)
	return nil
}

// A statement whose context ends while its row is read, before it has committed, fails.
// (Servers from 17 on send large rows at once.)
func TestRowIsNoCommit(t *testing.T) {
	host := pgtest.New(t)
	_, err := host.Pool().Exec(t.Context(), `CREATE TABLE docs (id int, body text); INSERT INTO docs VALUES (1, '');
		CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN PERFORM pg_sleep(10); RETURN NULL; END $$;
		CREATE CONSTRAINT TRIGGER slow AFTER UPDATE ON docs DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION slow()`)
	require.NoError(t, err)
	for name, handle := range map[string]any{"pgx": host.Pool(), "sqlx": host.SQLX()} {
		t.Run(name, func(t *testing.T) {
			db, err := pgdb.Open(handle)
			require.NoError(t, err)
			conn, err := db.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			for name, q := range map[string]pgdb.Querier{"connection": conn, "pool": db} {
				ctx, cancel := context.WithTimeout(t.Context(), 150*time.Millisecond)
				defer cancel()
				err = q.QueryRow(ctx, []any{slowly{}}, "UPDATE docs SET body = repeat($1::text, 100000) WHERE id = 1 RETURNING body", "x")
				require.Error(t, err, name)
			}
		})
	}
}

// database/sql does not reset a connection before its first use. It may have been opened for
// another caller, or for none.
func TestConnectionIsResetForItsFirstCaller(t *testing.T) {
	type caller struct{}
	var callers []any
	db := stdlib.OpenDB(*pgtest.New(t).Pool().Config().ConnConfig, stdlib.OptionResetSession(func(ctx context.Context, _ *pgx.Conn) error {
		callers = append(callers, ctx.Value(caller{}))
		if len(callers) == 1 {
			return driver.ErrBadConn
		}
		return nil
	}))
	defer db.Close()
	opened, err := pgdb.Open(db)
	require.NoError(t, err)
	for _, name := range []string{"first", "second"} {
		c, err := opened.Acquire(context.WithValue(t.Context(), caller{}, name))
		require.NoError(t, err)
		c.Release()
	}
	assert.Equal(t, []any{"first", "first", "second"}, callers, "a bad connection is passed over")
	assert.Equal(t, 1, db.Stats().OpenConnections)
}
