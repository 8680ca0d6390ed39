package lock_test

import (
	"context"
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// keysOfAllKinds returns keys such as hosts use.
var keysOfAllKinds = []lock.Key{
	lock.ID(0), lock.ID(1), lock.ID(42), lock.ID(-1), lock.ID(math.MinInt64), lock.ID(math.MaxInt64),
	lock.ID(7<<32 | 7), lock.ID(0x6c6f636b << 32), lock.Name("user", "42"), lock.Namespace("shop").Name("cart"),
}

// The server's locks of two numbers are a separate space from those of one, and no lock here
// meets them: a holder of the pairs that a key could be mistaken for is in no one's way.
func TestLocksOfTwoNumbersAreAnotherSpace(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	locker, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil)
	stranger, err := pgx.Connect(t.Context(), db.URL())
	require.NoError(t, err)
	defer stranger.Close(context.Background())
	held := take(t, locker, lock.Name("the session's flag"))
	session, _ := held.Backend(held.Key())
	pairs := []int64{0x6c6f636b<<32 | int64(session.PID)}
	for _, key := range keysOfAllKinds {
		pairs = append(pairs, key.Int64(), key.Guard())
	}
	for _, n := range pairs {
		_, err := stranger.Exec(t.Context(), "SELECT pg_advisory_lock($1, $2)", int32(n>>32), int32(n))
		require.NoError(t, err)
	}
	for _, key := range keysOfAllKinds {
		status, err := locker.Status(t.Context(), key)
		require.NoError(t, err)
		assert.Empty(t, status.Holders, key)
		assert.NoError(t, locker.Evict(t.Context(), key, time.Millisecond), key)
		for _, acquire := range []func(context.Context, lock.Key) (*lock.Held, error){locker.TryLock, locker.TryRLock} {
			held, err := acquire(t.Context(), key)
			if assert.NoError(t, err, key) {
				assert.NoError(t, held.Unlock())
			}
		}
		assert.NoError(t, pgx.BeginFunc(t.Context(), db.Pool(), func(tx pgx.Tx) error { return lock.InTx(t.Context(), tx, key) }), key)
		held := take(t, locker, key)
		assert.NoError(t, other.Evict(t.Context(), key, time.Hour), key)
		assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted, key)
	}
	list, err := locker.List(t.Context(), "shop")
	require.NoError(t, err)
	assert.Empty(t, list)
	assert.NoError(t, held.Unlock())
	assert.NoError(t, stranger.Ping(t.Context()))
}

// A session that writes under a lock is listed beside its holder, whatever namespace the
// guard's number falls into. A key that others use is not taken for a guard.
func TestGuardsAreNoKeys(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	key := lock.Namespace("shop").Name("cart")
	held := take(t, locker, key)
	writer, err := pgx.Connect(t.Context(), db.URL())
	require.NoError(t, err)
	defer writer.Close(context.Background())
	_, err = writer.Exec(t.Context(), "SELECT pg_advisory_lock($1), pg_advisory_lock($2), pg_advisory_lock_shared($3)",
		key.Guard(), lock.ID(42).Int64(), lock.Namespace("shop").Name("other").Guard())
	require.NoError(t, err)
	list, err := locker.List(t.Context(), "shop")
	require.NoError(t, err)
	if assert.Len(t, list, 1) {
		assert.Equal(t, key, list[0].Key)
		if assert.Len(t, list[0].Holders, 2) {
			assert.True(t, list[0].Holders[0].InThisLocker)
			assert.False(t, list[0].Holders[0].Writing)
			assert.Equal(t, writer.PgConn().PID(), list[0].Holders[1].PID)
			assert.True(t, list[0].Holders[1].Writing)
		}
	}
	status, err := locker.Status(t.Context(), lock.ID(42))
	require.NoError(t, err)
	if assert.Len(t, status.Holders, 1) {
		assert.False(t, status.Holders[0].Writing)
	}
	assert.NoError(t, held.Unlock())
}

// The guards that Go computes are those that the server tries.
func TestGuardIsTheServers(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	guards := make(map[int64]lock.Key)
	for _, key := range keysOfAllKinds {
		for take, guard := range map[string]int64{"pg_advisory_xact_lock": key.Guard(), "pg_advisory_xact_lock_shared": key.SharedGuard()} {
			assert.NotContains(t, guards, guard, key)
			guards[guard] = key
			writer, err := db.Pool().Begin(t.Context())
			require.NoError(t, err)
			_, err = writer.Exec(t.Context(), "SELECT "+take+"($1)", guard)
			require.NoError(t, err)
			_, err = locker.TryLock(t.Context(), key)
			assert.ErrorIs(t, err, lock.ErrBusy, fmt.Sprint(key))
			require.NoError(t, writer.Commit(t.Context()))
		}
	}
}

// A write under a lock has the key's guard until it is committed. The next holder of the key,
// however it gets it, gets it after that, and has no lock before.
func TestKeyIsGrantedAfterItsGuard(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Millisecond})
	key := lock.Name("k")
	unlocked := func(held *lock.Held, err error) error {
		if err != nil {
			return err
		}
		return held.Unlock()
	}
	ways := map[string]func(context.Context) error{
		"Lock":    func(ctx context.Context) error { return unlocked(locker.Lock(ctx, key)) },
		"RLock":   func(ctx context.Context) error { return unlocked(locker.RLock(ctx, key)) },
		"LockAll": func(ctx context.Context) error { return unlocked(locker.LockAll(ctx, key, lock.Name("other"))) },
		"InTx": func(ctx context.Context) error {
			return pgx.BeginFunc(ctx, db.Pool(), func(tx pgx.Tx) error { return lock.InTx(ctx, tx, key) })
		},
	}
	for name, way := range ways {
		t.Run(name, func(t *testing.T) {
			writer, err := db.Pool().Begin(t.Context())
			require.NoError(t, err)
			defer writer.Rollback(context.Background())
			_, err = writer.Exec(t.Context(), "SELECT pg_advisory_xact_lock($1)", key.Guard())
			require.NoError(t, err)
			pid := writer.Conn().PgConn().PID()

			brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond) // waiting at the server is tried, too
			defer cancel()
			assert.ErrorIs(t, way(brief), lock.ErrBusy)
			status, err := locker.Status(t.Context(), key)
			require.NoError(t, err)
			if assert.Len(t, status.Holders, 1) {
				assert.Equal(t, pid, status.Holders[0].PID)
				assert.True(t, status.Holders[0].Writing)
			}

			got := make(chan error)
			go func() { got <- way(t.Context()) }()
			require.NoError(t, writer.Commit(t.Context()))
			assert.NoError(t, <-got)
		})
	}
}
