package pgdb_test

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

// connections is the size of the pools in the tests below.
const connections = 8

// eachPool runs a test over pools of that size, by socket and by network. end ends the
// sessions on the server, and returns when the client can notice.
func eachPool(t *testing.T, test func(t *testing.T, db pgdb.DB, end func())) {
	for _, ending := range []string{"terminated", "closed", "reset"} {
		for _, driver := range []string{"pgx", "sql"} {
			t.Run(ending+" "+driver, func(t *testing.T) {
				host := pgtest.New(t)
				_, err := host.Pool().Exec(t.Context(), "CREATE TABLE made (n int)")
				require.NoError(t, err)
				url, end := host.URL(), func() { terminate(t, host) }
				if ending != "terminated" {
					proxy := pgtest.NewProxy(t, host)
					url, end = proxy.URL(), proxy.Reset
					if ending == "closed" {
						end = func() { proxy.Cut(); proxy.Restore() }
					}
				}
				config, err := pgxpool.ParseConfig(url)
				require.NoError(t, err)
				config.MaxConns = connections
				config.ConnConfig.RuntimeParams["application_name"] = "stale"
				pool, err := pgxpool.NewWithConfig(t.Context(), config)
				require.NoError(t, err)
				t.Cleanup(pool.Close)
				var handle any = pool
				if driver == "sql" {
					opened := stdlib.OpenDB(*config.ConnConfig)
					t.Cleanup(func() { opened.Close() })
					opened.SetMaxOpenConns(connections)
					opened.SetMaxIdleConns(connections)
					handle = opened
				}
				db, err := pgdb.Open(handle)
				require.NoError(t, err)
				test(t, db, end)
			})
		}
	}
}

// fill makes a pool open and use all of its connections.
func fill(t *testing.T, db pgdb.DB, size int) {
	conns := make([]pgdb.Conn, size)
	for i := range conns {
		var err error
		conns[i], err = db.Acquire(t.Context())
		require.NoError(t, err)
		_, err = conns[i].Exec(t.Context(), "SELECT 1")
		require.NoError(t, err)
	}
	for _, c := range conns {
		c.Release()
	}
}

// A statement that every server refuses, because its hold is over, is not tried on as many new
// connections as the pool may have.
func TestFewConnectionsAreMadeForWhatNoServerDoes(t *testing.T) {
	host := pgtest.New(t)
	config := host.Pool().Config()
	config.MaxConns = 50
	var made atomic.Int64
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error { made.Add(1); return nil }
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	defer pool.Close()
	db, err := pgdb.Open(pool)
	require.NoError(t, err)
	err = db.QueryRow(t.Context(), []any{pgdb.Here{}}, "SELECT false")
	assert.ErrorIs(t, err, pgdb.ErrElsewhere)
	assert.LessOrEqual(t, made.Load(), int64(6))
}

// terminate ends the sessions on the server, and returns when they are gone.
func terminate(t *testing.T, host *pgtest.DB) {
	_, err := host.Pool().Exec(t.Context(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'stale'")
	require.NoError(t, err)
	for left := 1; left > 0; {
		require.NoError(t, host.Pool().QueryRow(t.Context(), "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'stale'").Scan(&left))
	}
}

const insert = "INSERT INTO made VALUES ($1::text::int) RETURNING n"

// If a statement cannot be sent because the server has ended the idle connections of the pool,
// it is executed once, on another connection, by each method, even if all are stale.
func TestStaleConnectionsFailNothing(t *testing.T) {
	eachPool(t, func(t *testing.T, db pgdb.DB, end func()) {
		ways := map[string]func(context.Context, string) error{
			"pool":       func(ctx context.Context, n string) error { return db.QueryRow(ctx, []any{new(int)}, insert, n) },
			"pool, Exec": func(ctx context.Context, n string) error { _, err := db.Exec(ctx, insert, n); return err },
			"connection": func(ctx context.Context, n string) error {
				c, err := db.Acquire(ctx)
				if err != nil {
					return err
				}
				defer c.Release()
				return c.Query(ctx, func(r pgdb.Row) error { return r.Scan(new(int)) }, insert, n)
			},
			"transaction": func(ctx context.Context, n string) error {
				c, err := db.Acquire(ctx)
				if err != nil {
					return err
				}
				defer c.Release()
				tx, err := c.Begin(ctx)
				if err != nil {
					return err
				}
				defer tx.Rollback(ctx)
				if err := tx.QueryRow(ctx, []any{new(int)}, "SELECT 1"); err != nil {
					return err
				}
				return tx.CommitRow(ctx, []any{new(int)}, insert, n)
			},
		}
		n := 0
		for name, way := range ways {
			fill(t, db, connections)
			end()
			var wg sync.WaitGroup
			errs := make([]error, 3*connections)
			for i := range errs {
				n++
				id := fmt.Sprint(n)
				wg.Go(func() { errs[i] = way(t.Context(), id) })
			}
			wg.Wait()
			for _, err := range errs {
				assert.NoError(t, err, name)
			}
		}
		var made, distinct int
		require.NoError(t, db.QueryRow(t.Context(), []any{&made, &distinct}, "SELECT count(*), count(DISTINCT n) FROM made"))
		assert.Equal(t, n, distinct)
		assert.Equal(t, n, made, "once")
	})
}

// A statement that was sent is not sent again: its outcome is unknown.
func TestWhatWasSentIsNotSentAgain(t *testing.T) {
	host := pgtest.New(t)
	_, err := host.Pool().Exec(t.Context(), "CREATE TABLE made (n int)")
	require.NoError(t, err)
	for _, mode := range []string{"cache_statement", "exec", "simple_protocol"} {
		t.Run(mode, func(t *testing.T) {
			proxy := pgtest.NewProxy(t, host)
			pool, err := pgxpool.New(t.Context(), proxy.URL()+"&default_query_exec_mode="+mode)
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			db, err := pgdb.Open(pool)
			require.NoError(t, err)
			require.NoError(t, db.QueryRow(t.Context(), []any{new(int)}, insert, "0"), "so that it is prepared")
			conn, err := db.Acquire(t.Context())
			require.NoError(t, err)
			defer conn.Release()
			proxy.Discard(pgtest.ToClient)
			var sent sync.WaitGroup
			sent.Go(func() {
				err := conn.QueryRow(t.Context(), []any{new(int)}, insert, "1")
				assert.True(t, pgdb.Uncertain(err), "%v", err)
			})
			for made := 0; made < 2; {
				require.NoError(t, host.Pool().QueryRow(t.Context(), "SELECT count(*) FROM made").Scan(&made))
			}
			proxy.Cut()
			proxy.Restore()
			sent.Wait()
			var made int
			require.NoError(t, host.Pool().QueryRow(t.Context(), "WITH gone AS (DELETE FROM made RETURNING 1) SELECT count(*) FROM gone").Scan(&made))
			assert.Equal(t, 2, made)
		})
	}
}

// Nothing waits for a server that is gone, or asks for a connection for longer than the
// caller's context.
func TestStaleConnectionsOfAServerThatIsGone(t *testing.T) {
	host := pgtest.New(t)
	proxy := pgtest.NewProxy(t, host)
	pool, err := pgxpool.New(t.Context(), proxy.URL())
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	db, err := pgdb.Open(pool)
	require.NoError(t, err)
	for name, fail := range map[string]func(){"refuses": proxy.Cut, "hangs": func() { proxy.Cut(); proxy.Restore(); proxy.Blackhole(pgtest.ToClient) }} {
		_, err = db.Exec(t.Context(), "SELECT 1")
		require.NoError(t, err)
		ctx, cancel := context.WithCancel(t.Context())
		conn, err := db.Acquire(ctx)
		require.NoError(t, err)
		fail()
		if name == "hangs" {
			cancel()
		}
		_, err = conn.Exec(context.WithoutCancel(ctx), "SELECT 1")
		require.Error(t, err, name)
		assert.False(t, pgdb.Uncertain(err), "%v", err)
		_, err = conn.Exec(t.Context(), "SELECT 1")
		require.Error(t, err, "there is none")
		conn.Release()
		cancel()
		proxy.Restore()
	}
}
