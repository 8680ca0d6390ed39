package pgdb_test

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgdb"
	"example.com/lockstore/pgtest"
)

func TestUnavailableTellsOutagesFromRefusals(t *testing.T) {
	for err, want := range map[error]bool{
		&pgconn.PgError{Code: "08006"}:                                   true,
		&pgconn.PgError{Code: "53300"}:                                   true,
		fmt.Errorf("wrapped: %w", &pgdb.Error{Code: "57P01"}):            true,
		&pgdb.Error{Code: "57P02"}:                                       true,
		&pgconn.PgError{Code: "57P03"}:                                   true,
		&pgdb.Error{Code: "57P05"}:                                       true,
		&net.OpError{Op: "read", Err: errors.New("reset")}:               true,
		&net.OpError{Op: "read", Err: os.ErrDeadlineExceeded}:            true,
		&net.DNSError{Err: "no such host", Name: "db", IsNotFound: true}: true,
		io.EOF:                     true,
		io.ErrUnexpectedEOF:        true,
		driver.ErrBadConn:          true,
		pgconn.ErrConnClosed:       true,
		&pgdb.Error{Code: "28P01"}: false,
		&pgdb.Error{Code: "3D000"}: false,
		&pgdb.Error{Code: "55P03"}: false,
		&pgdb.Error{Code: "57014"}: false,
		&pgdb.Error{Code: "53200"}: false,
		errors.New("closed pool"):  false,
		&pgconn.PgError{Code: "0"}: false,
		pgx.ErrNoRows:              false,
		context.Canceled:           false,
		context.DeadlineExceeded:   false,
	} {
		assert.Equal(t, want, pgdb.Unavailable(err), "%T %v", err, err)
	}
	assert.False(t, pgdb.Unavailable(nil))
}

func TestUnavailableKnowsTheDriversErrors(t *testing.T) {
	config, err := pgx.ParseConfig(pgtest.New(t).URL())
	require.NoError(t, err)
	for name, c := range map[string]struct {
		change func(*pgx.ConnConfig)
		want   bool
	}{
		"refused":     {func(c *pgx.ConnConfig) { c.Host, c.Port = "127.0.0.1", 1 }, true},
		"no socket":   {func(c *pgx.ConnConfig) { c.Host = "/nowhere" }, true},
		"timeout":     {func(c *pgx.ConnConfig) { c.ConnectTimeout = time.Nanosecond }, true},
		"no database": {func(c *pgx.ConnConfig) { c.Database = "nowhere" }, false},
		"no role":     {func(c *pgx.ConnConfig) { c.User = "nobody_knows" }, false},
	} {
		config := config.Copy()
		config.Fallbacks = nil
		c.change(config)
		pooled, err := pgxpool.ParseConfig("")
		require.NoError(t, err)
		pooled.ConnConfig = config
		pool, err := pgxpool.NewWithConfig(t.Context(), pooled)
		require.NoError(t, err)
		defer pool.Close()
		sqlDB := stdlib.OpenDB(*config)
		defer sqlDB.Close()
		for _, handle := range []any{pool, sqlDB} {
			db, err := pgdb.Open(handle)
			require.NoError(t, err)
			_, err = db.Exec(t.Context(), "select 1")
			assert.Equal(t, c.want, pgdb.Unavailable(err), "%s: %T: %v", name, handle, err)
		}
	}
}

func TestAnEndedConnectionIsUnavailable(t *testing.T) {
	both(t, func(t *testing.T, db pgdb.DB) {
		conn, err := db.Acquire(t.Context())
		require.NoError(t, err)
		defer conn.Release()
		_, err = conn.Exec(t.Context(), "select pg_terminate_backend(pg_backend_pid())")
		assert.True(t, pgdb.Unavailable(err), "%v", err)
		_, err = conn.Exec(t.Context(), "select 1")
		assert.True(t, pgdb.Unavailable(err), "%v", err)
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		_, err = db.Acquire(ended)
		assert.False(t, pgdb.Unavailable(err), "%v", err)
	})
}
