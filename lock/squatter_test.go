package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/squatter"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// Nothing that a locker sends uses what another role has put into the search path.
func TestSquatterInTheSearchPathRunsNothing(t *testing.T) {
	t.Parallel() // it mostly waits
	for _, path := range squatter.Paths("public") {
		t.Run(path, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			require.NoError(t, squatter.Settle(t.Context(), db.Pool()))
			config := db.Pool().Config()
			config.ConnConfig.RuntimeParams["search_path"] = path
			pool := newPool(t, config)
			opts := &lock.PostgresOptions{DescribeBusy: true}
			useEverything(t, newPostgres(t, pool, opts), newPostgres(t, stdlib.OpenDBFromPool(pool), opts), pool)
			what, err := squatter.Caught(t.Context(), db.Pool())
			require.NoError(t, err)
			assert.Empty(t, what)
		})
	}
}

// useEverything makes lockers send every statement they have.
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
