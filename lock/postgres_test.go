package lock_test

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

// patience bounds what should happen at once, and allows for a slow machine.
const patience = 20 * time.Second

func newPostgres[D lock.DB](t testing.TB, db D, opts *lock.PostgresOptions) *lock.Postgres {
	t.Helper()
	locker, err := lock.NewPostgres(t.Context(), db, opts)
	require.NoError(t, err)
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		assert.NoError(t, locker.Close(ctx))
	})
	return locker
}

// newPool opens a pool that the test closes.
func newPool(t testing.TB, config *pgxpool.Config) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.NewWithConfig(t.Context(), config)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// query reads one value.
func query[T any](t testing.TB, pool *pgxpool.Pool, sql string, args ...any) (value T) {
	t.Helper()
	require.NoError(t, pool.QueryRow(t.Context(), sql, args...).Scan(&value))
	return value
}

const advisoryLocks = `SELECT count(*) FROM pg_locks
	WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

func take(t testing.TB, l lock.Locker, key lock.Key) *lock.Held {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	held, err := l.Lock(ctx, key)
	require.NoError(t, err)
	return held
}

func await(t testing.TB, done <-chan struct{}, what string) {
	t.Helper()
	select {
	case <-done:
	case <-time.After(patience):
		require.FailNow(t, "still waiting", what)
	}
}

func terminate(t testing.TB, pool *pgxpool.Pool, held *lock.Held) {
	t.Helper()
	backend, ok := held.Backend(held.Key())
	require.True(t, ok)
	require.True(t, query[bool](t, pool, "SELECT pg_terminate_backend($1)", backend.PID))
}

func TestPostgresConforms(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	t.Run("pgx", func(t *testing.T) {
		locktest.Run(t, func(t testing.TB) lock.Locker { return newPostgres(t, db.Pool(), nil) })
	})
	t.Run("sqlx", func(t *testing.T) {
		locktest.Run(t, func(t testing.TB) lock.Locker { return newPostgres(t, db.SQLX(), nil) })
	})
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks), "locks left")
}

func TestLockersExcludeEachOther(t *testing.T) {
	db := pgtest.New(t)
	key := lock.Name("counter")
	var group sync.WaitGroup
	var count int // guarded by key alone
	for range 3 {
		locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Millisecond})
		for range 8 {
			group.Go(func() {
				for range 10 {
					assert.NoError(t, lock.Do(t.Context(), locker, key, func(context.Context) error {
						count++
						return nil
					}))
				}
			})
		}
	}
	group.Wait()
	assert.Equal(t, 3*8*10, count)
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks), "locks left")
}

func TestHandWrittenLockExcludes(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	tx, err := db.Pool().Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "SELECT pg_advisory_xact_lock(42)")
	require.NoError(t, err)
	_, err = locker.TryLock(t.Context(), lock.ID(42))
	assert.ErrorIs(t, err, lock.ErrBusy)
	require.NoError(t, tx.Rollback(t.Context()))
	assert.NoError(t, take(t, locker, lock.ID(42)).Unlock())
}

func TestWaitersNeedNoConnection(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	const sessions = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()"
	before := query[int](t, db.Pool(), sessions)
	var group sync.WaitGroup
	for range 200 {
		ctx := locktest.Arriving(t.Context())
		group.Go(func() {
			held, err := locker.Lock(ctx, lock.Name("k"))
			if assert.NoError(t, err) {
				assert.NoError(t, held.Unlock())
			}
		})
		await(t, ctx.Arrived(), "waiter")
	}
	assert.LessOrEqual(t, query[int](t, db.Pool(), sessions), before)
	require.NoError(t, held.Unlock())
	group.Wait()
}

func TestTerminatedHolderIsTold(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	a, b := take(t, locker, lock.Name("a")), take(t, locker, lock.Name("b"))
	terminate(t, db.Pool(), a)
	for _, held := range []*lock.Held{a, b} {
		await(t, held.Context().Done(), "loss")
		assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrLost)
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
		_, err := held.Fence(t.Context())
		assert.ErrorIs(t, err, lock.ErrLost)
	}
	again := take(t, locker, lock.Name("a"))
	assert.ErrorIs(t, a.Unlock(), lock.ErrLost)
	assert.NoError(t, again.Context().Err(), "a late unlock must not touch the successor")
	assert.NoError(t, again.Unlock())
}

func TestFencesGrowAcrossACrash(t *testing.T) {
	db := pgtest.New(t, pgtest.Dedicated(), pgtest.Durable())
	locker := newPostgres(t, db.Pool(), nil)
	var last int64
	for range 5 {
		held := take(t, locker, lock.Name("k"))
		fence, err := held.Fence(t.Context())
		require.NoError(t, err)
		require.Greater(t, fence, last)
		last = fence
		require.NoError(t, held.Unlock())
	}
	require.NoError(t, db.Server().Kill(t.Context()))
	require.NoError(t, db.Server().Restart(t.Context()))
	held := take(t, locker, lock.Name("k"))
	fence, err := held.Fence(t.Context())
	require.NoError(t, err)
	assert.Greater(t, fence, last)
	assert.NoError(t, held.Unlock())
}

func TestWaitersSurviveTheSession(t *testing.T) {
	db := pgtest.New(t)
	other, locker := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	elsewhere, here := take(t, other, lock.Name("k")), take(t, locker, lock.Name("mark"))
	ctx := locktest.Arriving(t.Context())
	got := make(chan struct{})
	go func() {
		defer close(got)
		held, err := locker.Lock(ctx, lock.Name("k"))
		if assert.NoError(t, err) {
			assert.NoError(t, held.Unlock())
		}
	}()
	await(t, ctx.Arrived(), "waiter")
	terminate(t, db.Pool(), here)
	await(t, here.Context().Done(), "loss")
	require.NoError(t, elsewhere.Unlock())
	await(t, got, "the waiter whose session was terminated")
}

func TestLossHandsTheKeyToALocalWaiter(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	ctx := locktest.Arriving(t.Context())
	got := make(chan struct{})
	go func() {
		defer close(got)
		next, err := locker.Lock(ctx, lock.Name("k"))
		if assert.NoError(t, err) {
			assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrLost, "granted before the holder was told")
			assert.NoError(t, next.Unlock())
		}
	}()
	await(t, ctx.Arrived(), "waiter")
	terminate(t, db.Pool(), held)
	await(t, got, "the next holder")
}

func TestCancelledSessionHoldsOn(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	backend, _ := held.Backend(held.Key())
	require.True(t, query[bool](t, db.Pool(), "SELECT pg_cancel_backend($1)", backend.PID))
	_, err := held.Fence(t.Context()) // a round trip, after which the cancel has been dealt with
	require.NoError(t, err)
	assert.NoError(t, held.Context().Err())
	assert.NoError(t, held.Unlock())
}

func TestUnlockThatTheServerDeniesIsLoss(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	a, b := take(t, locker, lock.Name("a")), take(t, locker, lock.Name("b"))
	locker.Steal(a.Key())
	assert.ErrorIs(t, a.Unlock(), lock.ErrLost)
	await(t, b.Context().Done(), "the end of a session that cannot be trusted")
	assert.ErrorIs(t, context.Cause(b.Context()), lock.ErrLost)
}

func TestBackoffThatGivesUpIsBusy(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{
		Backoff: backoff.Limit(backoff.Constant{Base: time.Millisecond}, 3),
	})
	held := take(t, other, lock.Name("k"))
	_, err := locker.Lock(t.Context(), lock.Name("k"))
	var busy *lock.BusyError
	require.ErrorAs(t, err, &busy)
	assert.ErrorIs(t, err, lock.ErrBusy)
	assert.ErrorIs(t, err, backoff.ErrExhausted)
	assert.Equal(t, 3, busy.Attempts)
	assert.Positive(t, busy.Waited)
	assert.NoError(t, held.Unlock())
}

func TestKeysBeyondTheBudgetAreRefused(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{MaxKeys: 2})
	a, b := take(t, locker, lock.Name("a")), take(t, locker, lock.Name("b"))
	_, err := locker.Lock(t.Context(), lock.Name("c"))
	assert.ErrorIs(t, err, lock.ErrTooMany)
	require.NoError(t, a.Unlock())
	assert.NoError(t, take(t, locker, lock.Name("c")).Unlock())
	assert.NoError(t, b.Unlock())
}

func TestCloseTellsEverybody(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	held := take(t, locker, lock.Name("k"))
	backend, _ := held.Backend(held.Key())
	ctx := locktest.Arriving(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, err := locker.Lock(ctx, lock.Name("k"))
		assert.ErrorIs(t, err, lock.ErrClosed)
	}()
	await(t, ctx.Arrived(), "waiter")
	require.NoError(t, locker.Close(t.Context()))
	await(t, left, "waiter")
	await(t, held.Context().Done(), "holder")
	assert.ErrorIs(t, context.Cause(held.Context()), lock.ErrClosed)
	assert.ErrorIs(t, held.Unlock(), lock.ErrClosed)
	_, err := locker.TryLock(t.Context(), lock.Name("other"))
	assert.ErrorIs(t, err, lock.ErrClosed)
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks), "locks left")
	assert.Zero(t, query[int](t, db.Pool(), "SELECT count(*) FROM pg_stat_activity WHERE pid = $1", backend.PID), "session left")
	assert.NoError(t, locker.Close(t.Context()), "closing again")
}

func TestExhaustedPoolDoesNotStopLocks(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.MaxConns = 1
	pool := newPool(t, config)
	locker := newPostgres(t, pool, nil)
	a := take(t, locker, lock.Name("a"))
	b := take(t, locker, lock.Name("b"))
	conn, err := pool.Acquire(t.Context())
	require.NoError(t, err)
	terminate(t, db.Pool(), a)
	await(t, a.Context().Done(), "loss")
	again := take(t, locker, lock.Name("a")) // over a new connection, though the pool has none
	conn.Release()
	assert.Equal(t, 1, query[int](t, pool, "SELECT 1"))
	assert.NoError(t, again.Unlock())
	assert.ErrorIs(t, b.Unlock(), lock.ErrLost)
}

func TestRefusals(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	readOnly := newPool(t, config)
	_, err := lock.NewPostgres(t.Context(), readOnly, nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "read-only")

	_, err = lock.NewPostgres(t.Context(), (*pgxpool.Pool)(nil), nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	_, err = lock.NewPostgres(t.Context(), (*sql.DB)(nil), nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)

	foreign := sql.OpenDB(foreignDriver{})
	defer foreign.Close()
	_, err = lock.NewPostgres(t.Context(), foreign, nil)
	assert.ErrorIs(t, err, lock.ErrUnsupported)
	assert.ErrorContains(t, err, "pgx")

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = lock.NewPostgres(ended, db.Pool(), nil)
	assert.ErrorIs(t, err, context.Canceled)
}

// foreignDriver stands for a database/sql driver other than pgx's.
type foreignDriver struct{ driver.Conn }

func (d foreignDriver) Connect(context.Context) (driver.Conn, error) { return d, nil }
func (d foreignDriver) Driver() driver.Driver                        { return nil }
func (d foreignDriver) Close() error                                 { return nil }
func (d foreignDriver) ResetSession(context.Context) error           { return nil }

func TestInTx(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	key := lock.Name("k")
	for name, begin := range map[string]func(t *testing.T) (tx any, use func() error, commit func() error){
		"pgx": func(t *testing.T) (any, func() error, func() error) {
			tx, err := db.Pool().Begin(t.Context())
			require.NoError(t, err)
			return tx, func() error { _, err := tx.Exec(t.Context(), "SELECT 1"); return err },
				func() error { return tx.Commit(t.Context()) }
		},
		"sql": func(t *testing.T) (any, func() error, func() error) {
			tx, err := db.SQLX().DB.BeginTx(t.Context(), nil)
			require.NoError(t, err)
			return tx, func() error { _, err := tx.Exec("SELECT 1"); return err }, tx.Commit
		},
		"sqlx": func(t *testing.T) (any, func() error, func() error) {
			tx, err := db.SQLX().BeginTxx(t.Context(), nil)
			require.NoError(t, err)
			return tx, func() error { _, err := tx.Exec("SELECT 1"); return err }, tx.Commit
		},
	} {
		t.Run(name, func(t *testing.T) {
			held := take(t, locker, key)
			tx, use, commit := begin(t)
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
			defer cancel()
			err := lock.InTx(ctx, tx, key)
			var busy *lock.BusyError
			require.ErrorAs(t, err, &busy)
			assert.ErrorIs(t, err, context.DeadlineExceeded)
			assert.Positive(t, busy.Attempts)
			require.NoError(t, use(), "the transaction is usable after a busy key")

			require.NoError(t, held.Unlock())
			require.NoError(t, lock.InTx(t.Context(), tx, key))
			_, err = locker.TryLock(t.Context(), key)
			assert.ErrorIs(t, err, lock.ErrBusy)
			require.NoError(t, commit())
			assert.NoError(t, take(t, locker, key).Unlock())
		})
	}
	assert.ErrorIs(t, lock.InTx(t.Context(), nil, key), lock.ErrUnsupported)
	assert.ErrorIs(t, lock.InTx(t.Context(), db.Pool(), key), lock.ErrUnsupported)
	assert.ErrorIs(t, lock.InTx(t.Context(), nil, lock.Key{}), lock.ErrInvalidKey)
}

func TestUnreachableServerIsUnavailable(t *testing.T) {
	db := pgtest.New(t)
	config := db.Pool().Config()
	var refuse error
	var mu sync.Mutex
	config.BeforeConnect = func(context.Context, *pgx.ConnConfig) error {
		mu.Lock()
		defer mu.Unlock()
		return refuse
	}
	pool := newPool(t, config)
	locker := newPostgres(t, pool, nil)
	held := take(t, locker, lock.Name("k"))
	mu.Lock()
	refuse = errors.New("no way in")
	mu.Unlock()
	terminate(t, db.Pool(), held)
	await(t, held.Context().Done(), "loss")

	_, err := locker.TryLock(t.Context(), lock.Name("k"))
	assert.ErrorIs(t, err, lock.ErrUnavailable)
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = locker.Lock(ctx, lock.Name("k"))
	assert.ErrorIs(t, err, lock.ErrUnavailable)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.NotErrorIs(t, err, lock.ErrBusy)

	mu.Lock()
	refuse = nil
	mu.Unlock()
	assert.NoError(t, take(t, locker, lock.Name("k")).Unlock())
}

// LockAll waits on while there is no connection, and does not count as held what it had of the
// keys before.
func TestLockAllSurvivesTheSession(t *testing.T) {
	db := pgtest.New(t)
	proxy := pgtest.NewProxy(t, db)
	locker, other := newPostgres(t, through(t, proxy), nil), newPostgres(t, db.Pool(), nil)
	first, second := lock.Name("a"), lock.Name("b")
	if first.Int64() > second.Int64() {
		first, second = second, first
	}
	held, err := other.Lock(t.Context(), second)
	require.NoError(t, err)
	type result struct {
		held *lock.Held
		err  error
	}
	got := make(chan result)
	lockAll := func() {
		held, err := locker.LockAll(t.Context(), first, second)
		got <- result{held, err}
	}
	go lockAll()
	hasFirst := func() bool {
		status, err := other.Status(t.Context(), first)
		return err == nil && len(status.Holders) == 1
	}
	require.Eventually(t, hasFirst, patience, time.Millisecond)
	proxy.Cut()
	require.Eventually(t, func() bool { return !hasFirst() }, patience, time.Millisecond)
	proxy.Restore()
	require.Eventually(t, func() bool { return locker.Stats().Waiters > 0 && locker.Stats().Sessions > 1 }, patience, time.Millisecond)
	require.NoError(t, held.Unlock())
	r := <-got
	require.NoError(t, r.err)
	assert.NoError(t, r.held.Context().Err())
	assert.True(t, hasFirst())
	require.NoError(t, r.held.Unlock())

	proxy.Cut()
	require.Eventually(t, func() bool {
		_, err := locker.TryLock(t.Context(), first)
		return errors.Is(err, lock.ErrUnavailable)
	}, patience, time.Millisecond)
	go lockAll()
	require.Eventually(t, func() bool { return locker.Stats().Waiters > 0 }, patience, time.Millisecond)
	proxy.Restore()
	r = <-got
	require.NoError(t, r.err)
	require.NoError(t, r.held.Unlock())
}

// A hold is found whichever Locker of the database has granted it, but not one of another
// database. A lost one does not count.
func TestWaitingForOneselfIsToldByEveryLockerOfTheDatabase(t *testing.T) {
	db, elsewhere := pgtest.New(t), pgtest.New(t)
	one, other, far := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil), newPostgres(t, elsewhere.Pool(), nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	key := lock.Name("k")
	for name, hold := range map[string]func(context.Context, lock.Key) (*lock.Held, error){"alone": one.Lock, "shared": one.RLock} {
		held, err := hold(ctx, key)
		require.NoError(t, err)
		_, err = other.Lock(held.Context(), key)
		assert.ErrorIs(t, err, lock.ErrHeld, name)
		again, err := other.RLock(held.Context(), key)
		if held.Shared() {
			require.NoError(t, err)
			require.NoError(t, again.Unlock())
		} else {
			assert.ErrorIs(t, err, lock.ErrHeld)
		}
		for _, l := range []lock.Locker{far, lock.NewMemory()} {
			other, err := l.Lock(held.Context(), key)
			require.NoError(t, err, "the hold is of another database")
			require.NoError(t, other.Unlock())
		}
		terminate(t, db.Pool(), held)
		<-held.Context().Done()
		again, err = other.Lock(context.WithoutCancel(held.Context()), key)
		require.NoError(t, err, "the hold is lost")
		require.NoError(t, again.Unlock())
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	}
}
