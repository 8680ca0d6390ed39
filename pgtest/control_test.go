package pgtest_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/pgtest"
)

// query runs a statement, which must succeed.
func query(t *testing.T, db *pgtest.DB, sql string, args ...any) {
	t.Helper()
	_, err := db.Pool().Exec(t.Context(), sql, args...)
	require.NoError(t, err, sql)
}

// value reads one value from a database.
func value[T any](t *testing.T, db *pgtest.DB, sql string, args ...any) (v T) {
	t.Helper()
	require.NoError(t, db.Pool().QueryRow(t.Context(), sql, args...).Scan(&v), sql)
	return v
}

func TestDedicatedServerKeepsWhatWasCommitted(t *testing.T) {
	db := pgtest.New(t, pgtest.Dedicated())
	srv := db.Server()
	query(t, db, "CREATE TABLE commits (n int)")
	for n, restart := range []func(context.Context) error{
		srv.Restart,
		func(ctx context.Context) error {
			require.NoError(t, srv.Stop(ctx))
			assert.Zero(t, srv.PID())
			return srv.Restart(ctx)
		},
		func(ctx context.Context) error {
			require.NoError(t, srv.Kill(ctx))
			assert.Zero(t, srv.PID())
			return srv.Restart(ctx)
		},
		func(ctx context.Context) error {
			require.NoError(t, srv.Pause(ctx))
			return srv.Restart(ctx)
		},
		func(ctx context.Context) error {
			require.NoError(t, srv.Pause(ctx))
			require.NoError(t, srv.Kill(ctx))
			return srv.Restart(ctx)
		},
	} {
		query(t, db, "INSERT INTO commits VALUES ($1)", n)
		before := srv.PID()
		require.NoError(t, restart(t.Context()))
		assert.NotEqual(t, before, srv.PID())
		db.Pool().Reset()
		require.Equal(t, n+1, value[int](t, db, "SELECT count(*) FROM commits"))
	}
}

func TestPausedServerAnswersNothingUntilResumed(t *testing.T) {
	db := pgtest.New(t, pgtest.Dedicated())
	conn, err := db.Pool().Acquire(t.Context())
	require.NoError(t, err)
	defer conn.Release()
	require.NoError(t, db.Server().Pause(t.Context()))
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(context.Background()) }()
	select {
	case <-answered:
		t.Fatal("a paused server answered")
	case <-time.After(50 * time.Millisecond): // long for a ping of 50 µs
	}
	require.NoError(t, db.Server().Resume())
	require.NoError(t, <-answered)
}

func TestSharedServerCannotBeStopped(t *testing.T) {
	srv := pgtest.New(t).Server()
	for _, change := range []func(context.Context) error{
		srv.Stop, srv.Restart, srv.Kill, srv.Pause,
		func(context.Context) error { return srv.Resume() },
	} {
		assert.ErrorIs(t, change(t.Context()), pgtest.ErrShared)
	}
}
