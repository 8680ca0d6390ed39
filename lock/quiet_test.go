package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// serverLog returns what the server logs of a database from now on.
func serverLog(t *testing.T, db *pgtest.DB) func() string {
	from := query[int64](t, db.Pool(), "SELECT size FROM pg_stat_file(current_setting('data_directory') || '/../log')")
	return func() string {
		return query[string](t, db.Pool(), `SELECT coalesce(string_agg(line, chr(10)), '')
			FROM string_to_table(pg_read_file(current_setting('data_directory') || '/../log', $1, 1 << 28), chr(10)) AS line
			WHERE position('] ' || current_database() || ': ' IN line) > 0`, from)
	}
}

// Normal operation leaves no line in the server's log: waiting for another process, in the
// server's queue and beyond several slices there, giving that up, trying, evicting, and
// closing.
func TestServersLogStaysSilent(t *testing.T) {
	db := pgtest.New(t)
	logged := serverLog(t, db)
	mine, err := lock.NewPostgres(t.Context(), db.Pool(), nil)
	require.NoError(t, err)
	other, err := lock.NewPostgres(t.Context(), db.SQLX(), &lock.PostgresOptions{Silence: 1500 * time.Millisecond}) // looks twice a second
	require.NoError(t, err)
	key := lock.Name("k")
	for _, acquire := range []func(context.Context, lock.Key) (*lock.Held, error){other.Lock, other.RLock} {
		held := take(t, mine, key)
		_, err = other.TryLock(t.Context(), key)
		assert.ErrorIs(t, err, lock.ErrBusy)
		brief, cancel := context.WithTimeout(t.Context(), 1750*time.Millisecond) // not just when a look ends
		_, err = acquire(brief, key)
		cancel()
		assert.ErrorIs(t, err, context.DeadlineExceeded)
		got := make(chan *lock.Held, 1)
		go func() {
			next, err := acquire(t.Context(), key)
			assert.NoError(t, err)
			got <- next
		}()
		awaitServerWaits(t, db, 1)
		assert.NoError(t, held.Unlock())
		assert.NoError(t, (<-got).Unlock())

		held = take(t, mine, key)
		assert.NoError(t, other.Evict(t.Context(), key, time.Hour))
		assert.ErrorIs(t, held.Unlock(), lock.ErrEvicted)
	}
	assert.Zero(t, other.Stats().Lost)
	require.NoError(t, mine.Close(t.Context()))
	require.NoError(t, other.Close(t.Context()))
	assert.Empty(t, logged())
}

// Many waiters that leave while they wait leave no lock behind, and no line.
func TestWaitersThatLeaveAreSilent(t *testing.T) {
	db := pgtest.New(t)
	logged := serverLog(t, db)
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	key := lock.Name("k")
	held := take(t, mine, key)
	for range 40 {
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan error)
		go func() {
			_, err := other.Lock(ctx, key)
			left <- err
		}()
		awaitServerWaits(t, db, 1)
		cancel()
		assert.ErrorIs(t, <-left, context.Canceled)
		awaitServerWaits(t, db, 0)
	}
	assert.NoError(t, held.Unlock())
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks))
	assert.Empty(t, logged())
}

// Without PL/pgSQL a process polls, and is as silent.
func TestKeysArePolledForWithoutPLpgSQL(t *testing.T) {
	db := pgtest.New(t)
	logged := serverLog(t, db)
	_, err := db.Pool().Exec(t.Context(), "DROP EXTENSION plpgsql")
	require.NoError(t, err)
	mine, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	held := take(t, mine, lock.Name("k"))
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	_, err = other.Lock(brief, lock.Name("k"))
	assert.ErrorIs(t, err, lock.ErrBusy)
	got := make(chan *lock.Held, 1)
	go func() { got <- take(t, other, lock.Name("k")) }()
	assert.NoError(t, held.Unlock())
	assert.NoError(t, (<-got).Unlock())
	assert.EqualValues(t, 1, other.Stats().Sessions)
	assert.Empty(t, logged())
}
