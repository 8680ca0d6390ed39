//go:build unix

package lock_test

import (
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/internal/pgbouncer"
	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

func poolVia(t *testing.T, db *pgtest.DB, mode pgbouncer.Mode) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), pgbouncer.Start(t, db, mode))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

func TestTransactionPoolerIsRefused(t *testing.T) {
	db := pgtest.New(t)
	pool := poolVia(t, db, pgbouncer.Transaction)
	_, err := lock.NewPostgres(t.Context(), pool, nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "pooler")
	assert.ErrorContains(t, err, "SessionPooler", "the error says what to do")

	// A lock of a transaction needs no session.
	tx, err := pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, lock.InTx(t.Context(), tx, lock.Name("k")))
	var keys []int64
	for _, l := range db.Locks(t) {
		keys = append(keys, l.Key)
	}
	assert.ElementsMatch(t, []int64{lock.Name("k").Int64(), lock.Name("k").Guard(), lock.Name("k").SharedGuard()}, keys)
	require.NoError(t, tx.Commit(t.Context()))
	assert.Empty(t, db.Locks(t), "nothing is stranded")
}

func TestSessionPoolerWorksWhenAccepted(t *testing.T) {
	db := pgtest.New(t)
	pool := poolVia(t, db, pgbouncer.Session)
	_, err := lock.NewPostgres(t.Context(), pool, nil)
	require.ErrorIs(t, err, lock.ErrUnsupported, "not by default")

	locker := newPostgres(t, pool, &lock.PostgresOptions{SessionPooler: true})
	locktest.Run(t, func(testing.TB) lock.Locker { return locker })
	held := take(t, locker, lock.Name("k"))
	backend, _ := held.Backend(held.Key())
	require.NoError(t, db.Terminate(backend.PID), "the process id is the server's, not the pooler's")
	await(t, held.Context().Done(), "loss")
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
}

// A pool that leads through a pooler is good for queries; the locks need a direct connection.
func TestConnectPastATransactionPooler(t *testing.T) {
	db := pgtest.New(t)
	pool := poolVia(t, db, pgbouncer.Transaction)
	locker := newPostgres(t, pool, &lock.PostgresOptions{Connect: lock.ConnectTo(db.URL())})
	locktest.Run(t, func(testing.TB) lock.Locker { return locker })

	held := take(t, locker, lock.Name("k"))
	status, err := locker.Status(t.Context(), lock.Name("k"))
	require.NoError(t, err)
	require.Len(t, status.Holders, 1)
	assert.True(t, status.Holders[0].InThisLocker)
	require.NoError(t, locker.Evict(t.Context(), lock.Name("k"), patience))
	await(t, held.Context().Done(), "loss")
	assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
}
