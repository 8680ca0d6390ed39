package pgdb_test

import (
	"context"
	"net"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

// commits are the ways to write and commit.
var commits = map[string]func(ctx context.Context, c pgdb.Conn, sql string) error{
	"QueryRow": func(ctx context.Context, c pgdb.Conn, sql string) error {
		return c.QueryRow(ctx, []any{new(int64)}, sql)
	},
	"Write": func(ctx context.Context, c pgdb.Conn, sql string) error {
		return c.Write(ctx, func(row pgdb.Row) error { return row.Scan(new(int64)) }, sql)
	},
	"CommitRow": func(ctx context.Context, c pgdb.Conn, sql string) error {
		tx, err := c.Begin(ctx)
		if err != nil {
			return err
		}
		err = tx.CommitRow(ctx, []any{new(int64)}, sql)
		_ = tx.Rollback(ctx)
		return err
	},
	"Commit": func(ctx context.Context, c pgdb.Conn, sql string) error {
		tx, err := c.Begin(ctx)
		if err != nil {
			return err
		}
		if err = tx.QueryRow(ctx, []any{new(int64)}, sql); err != nil {
			_ = tx.Rollback(ctx)
			return err
		}
		return tx.Commit(ctx)
	},
}

func TestQuestionIsAskedBehindACommit(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		ctx := t.Context()
		_, err := db.Exec(ctx, "DROP TABLE IF EXISTS written; CREATE TABLE written (n bigint)")
		require.NoError(t, err)
		n := 0
		for way, commit := range commits {
			for question, want := range map[string]any{
				"SELECT count(*) = 1 AND pg_current_xact_id_if_assigned() IS NULL FROM written": true,
				"SELECT false":   false,
				"SELECT 1/0 = 1": nil, // which fails
			} {
				_, err := db.Exec(ctx, "TRUNCATE written")
				require.NoError(t, err)
				conn, err := db.Acquire(ctx)
				require.NoError(t, err)
				var told []any
				conn.AskAlong(question, func(yes bool) { told = append(told, yes) })
				require.NoError(t, commit(ctx, conn, "INSERT INTO written VALUES (1) RETURNING n"), "%s, %s", way, question)
				require.NoError(t, commit(ctx, conn, "UPDATE written SET n = n RETURNING n"), "it is of use still")
				conn.Release()
				if want == nil {
					assert.Empty(t, told, "%s, %s", way, question)
				} else {
					assert.Equal(t, []any{want}, told, "%s, %s", way, question)
				}
				require.NoError(t, db.QueryRow(ctx, []any{&n}, "SELECT count(*) FROM written"))
				assert.Equal(t, 1, n, "%s, %s", way, question)
			}
			conn, err := db.Acquire(ctx)
			require.NoError(t, err)
			conn.AskAlong("SELECT true", func(bool) {})
			assert.Equal(t, "22012", pgdb.Code(commit(ctx, conn, "INSERT INTO written VALUES (1/(SELECT 0)) RETURNING n")), way)
			assert.NoError(t, commit(ctx, conn, "INSERT INTO written VALUES (2) RETURNING n"), "%s: nothing is left of what failed", way)
			conn.Release()
		}
	})
}

// flights counts the round trips.
type flights struct {
	net.Conn
	n *atomic.Int64
}

func (f flights) Write(b []byte) (int, error) {
	f.n.Add(1)
	return f.Conn.Write(b)
}

func TestQuestionTakesNoRoundTrip(t *testing.T) {
	config, n := pgtest.New(t).Pool().Config(), new(atomic.Int64)
	dial := config.ConnConfig.DialFunc
	config.ConnConfig.DialFunc = func(ctx context.Context, network, address string) (net.Conn, error) {
		conn, err := dial(ctx, network, address)
		return flights{conn, n}, err
	}
	config.MaxConns = 1
	for _, mode := range []pgx.QueryExecMode{pgx.QueryExecModeCacheStatement, pgx.QueryExecModeCacheDescribe, pgx.QueryExecModeSimpleProtocol} {
		config.ConnConfig.DefaultQueryExecMode = mode
		pool, err := pgxpool.NewWithConfig(t.Context(), config)
		require.NoError(t, err)
		defer pool.Close()
		db, err := pgdb.Open(pool)
		require.NoError(t, err)
		for way, commit := range commits {
			sent := func(asks bool) int64 {
				conn, err := db.Acquire(t.Context())
				require.NoError(t, err)
				defer conn.Release()
				asked := false
				if asks {
					conn.AskAlong("SELECT true", func(bool) { asked = true })
				}
				before := n.Load()
				require.NoError(t, commit(t.Context(), conn, "SELECT 1::bigint"))
				assert.Equal(t, asks, asked)
				return n.Load() - before
			}
			sent(true) // and prepared
			sent(false)
			assert.Equal(t, sent(false), sent(true), "%v, %s", mode, way)
		}
	}
}
