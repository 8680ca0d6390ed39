package lock_test

import (
	"context"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// fromServerWaits lists the waiters in the server's own queues for this test's keys.
const fromServerWaits = ` FROM pg_locks WHERE locktype = 'advisory' AND NOT granted
	AND database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// awaitServerWaits waits until that many waiters are in the server's own queues.
func awaitServerWaits(t testing.TB, db *pgtest.DB, n int) {
	t.Helper()
	require.Eventually(t, func() bool { return query[int](t, db.Pool(), "SELECT count(*)"+fromServerWaits) == n }, patience, time.Millisecond)
}

// Each Locker stands for a process: Lockers know of each other only through the server.
func TestBusyProcessesTakeTurns(t *testing.T) {
	db := pgtest.New(t)
	key := lock.Name("hot")
	const enough = 3 // turns that each must get while the others never pause
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	var group sync.WaitGroup
	var inside atomic.Int64
	var satisfied sync.WaitGroup
	for range 3 {
		locker := newPostgres(t, db.Pool(), nil)
		var turns atomic.Int64
		satisfied.Add(1)
		var last atomic.Int64 // grants by the server, at the last look
		for range 4 {
			group.Go(func() {
				for ctx.Err() == nil {
					held, err := locker.Lock(ctx, key)
					if err != nil {
						assert.ErrorIs(t, err, context.Canceled)
						return
					}
					assert.EqualValues(t, 1, inside.Add(1))
					if stats := locker.Stats(); stats.Acquired-stats.HandedOff != last.Swap(stats.Acquired-stats.HandedOff) {
						if turns.Add(1) == enough {
							satisfied.Done()
						}
					}
					inside.Add(-1)
					assert.NoError(t, held.Unlock())
				}
			})
		}
	}
	done := make(chan struct{})
	go func() { satisfied.Wait(); close(done) }()
	await(t, done, "every process to get its turns")
	stop()
	group.Wait()
}

// Overlapping shared holders of one process do not keep the key forever from an exclusive
// waiter in another, and share it again when that one has left.
func TestSharersDoNotStarveAnotherProcess(t *testing.T) {
	db := pgtest.New(t)
	sharing, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	key := lock.Name("k")
	ctx, stop := context.WithCancel(t.Context())
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for ctx.Err() == nil {
				held, err := sharing.RLock(ctx, key)
				if err != nil {
					assert.ErrorIs(t, err, context.Canceled)
					return
				}
				time.Sleep(2 * time.Millisecond)
				assert.NoError(t, held.Unlock())
			}
		})
	}
	require.Eventually(t, func() bool { return sharing.Stats().Acquired > 50 }, patience, time.Millisecond)
	assert.NoError(t, take(t, other, key).Unlock())
	before := sharing.Stats().Acquired
	require.Eventually(t, func() bool { return sharing.Stats().Acquired > before+50 }, patience, time.Millisecond)
	stop()
	group.Wait()

	a, err := sharing.RLock(t.Context(), key)
	require.NoError(t, err)
	time.Sleep(60 * time.Millisecond) // more than a period
	brief, cancel := context.WithCancel(t.Context())
	left := make(chan struct{})
	go func() {
		defer close(left)
		_, err := other.Lock(brief, key)
		assert.ErrorIs(t, err, lock.ErrBusy)
	}()
	awaitServerWaits(t, db, 1)
	_, err = sharing.TryRLock(t.Context(), key)
	assert.ErrorIs(t, err, lock.ErrBusy)
	shared := make(chan struct{})
	go func() {
		defer close(shared)
		b, err := sharing.RLock(t.Context(), key)
		if assert.NoError(t, err) {
			assert.NoError(t, b.Unlock())
		}
	}()
	require.Eventually(t, func() bool { return sharing.Stats().Waiters == 1 }, patience, time.Millisecond)
	cancel()
	await(t, left, "who wanted it alone")
	await(t, shared, "the sharer, for whom a may be waiting")
	assert.NoError(t, a.Unlock())
}

// The waiters of one process do not get the key one after the other while another process
// waits for it.
func TestATurnIsShortWhereOthersWait(t *testing.T) {
	db := pgtest.New(t)
	key := lock.Name("k")
	first, crowded, other := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Hour}), newPostgres(t, db.Pool(), nil)
	held := take(t, first, key)
	var group sync.WaitGroup
	var grants, before atomic.Int64
	wait := func(l *lock.Postgres, granted func()) {
		group.Go(func() {
			held, err := l.Lock(t.Context(), key)
			if assert.NoError(t, err) {
				granted()
				assert.NoError(t, held.Unlock())
			}
		})
	}
	const line = 100
	for range line {
		wait(crowded, func() { grants.Add(1) })
	}
	awaitServerWaits(t, db, 1)
	wait(other, func() { before.Store(grants.Load()) })
	awaitServerWaits(t, db, 2)
	assert.Eventually(t, func() bool { return crowded.Stats().Waiters == line }, patience, time.Millisecond)
	assert.NoError(t, held.Unlock())
	group.Wait()
	assert.EqualValues(t, line, grants.Load())
	assert.LessOrEqual(t, before.Load(), int64(21), "the first of a period, and 20 hand-offs")
}

// The server grants the key to a waiter on a wait connection as soon as the holder unlocks,
// however rarely its policy polls.
func TestServerWaitNeedsNoPolling(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{
		HandOff: time.Millisecond,
		Backoff: seldom{},
	})
	held := take(t, other, lock.Name("k"))
	got := make(chan struct{})
	go func() {
		defer close(got)
		held, err := locker.Lock(t.Context(), lock.Name("k"))
		if assert.NoError(t, err) {
			fence, err := held.Fence(t.Context())
			assert.NoError(t, err)
			assert.Positive(t, fence)
			assert.NoError(t, held.Unlock())
		}
	}()
	awaitServerWaits(t, db, 1)
	assert.NoError(t, held.Unlock())
	await(t, got, "the waiter at the server")
	assert.NoError(t, take(t, other, lock.Name("k")).Unlock())
}

// seldom polls a few times quickly, and then not within this test's patience.
type seldom struct{}

func (seldom) Delay(attempt int, _ time.Duration) (time.Duration, bool) {
	if attempt < 20 {
		return 5 * time.Millisecond, true
	}
	return time.Hour, true
}

func TestServerWaitSurvivesItsConnection(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Millisecond})
	held := take(t, other, lock.Name("k"))
	got := make(chan struct{})
	go func() {
		defer close(got)
		held, err := locker.Lock(t.Context(), lock.Name("k"))
		if assert.NoError(t, err) {
			assert.NoError(t, held.Unlock())
		}
	}()
	const terminated = "SELECT count(pg_terminate_backend(pid))" + fromServerWaits
	const cancelled = "SELECT count(pg_cancel_backend(pid))" + fromServerWaits
	for _, harm := range []string{cancelled, terminated, cancelled} {
		assert.Eventually(t, func() bool { return query[int](t, db.Pool(), harm) == 1 }, patience, time.Millisecond)
	}
	assert.NoError(t, held.Unlock())
	await(t, got, "the waiter at the server")
}

func TestAbandonedServerWaitLeavesNothing(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Millisecond, Silence: 300 * time.Millisecond})
	for range 5 {
		held := take(t, other, lock.Name("k"))
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			held, err := locker.Lock(ctx, lock.Name("k"))
			if err == nil {
				err = held.Unlock()
			}
			assert.True(t, err == nil || ctx.Err() != nil, "%v", err)
		}()
		awaitServerWaits(t, db, 1)
		go cancel()
		assert.NoError(t, held.Unlock())
		await(t, left, "the cancelled waiter")
		assert.Eventually(t, func() bool { return query[int](t, db.Pool(), advisoryLocks) == 0 }, patience, time.Millisecond)
		cancel()
	}
}
