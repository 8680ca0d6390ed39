package faults_test

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
)

var key = lock.Name("k")

// Session-level advisory locks are re-entrant, and any caller can get any connection of a pool:
// still there may be only one holder.
func Test01ReentrantReuse(t *testing.T) {
	w := newWorld(t)
	pool := w.pool("", 2)
	var inside atomic.Int64 // holders
	var group sync.WaitGroup
	for range 2 {
		locker := w.locker(pool, &lock.PostgresOptions{HandOff: time.Millisecond})
		for range 8 {
			group.Go(func() {
				for range 10 {
					held := w.lock(locker, key)
					assert.EqualValues(t, 1, inside.Add(1))
					assert.NoError(t, pool.Ping(w.ctx)) // long enough to meet another
					inside.Add(-1)
					assert.NoError(t, held.Unlock())
				}
			})
		}
	}
	group.Wait()
}

// The server answers an unlock with false: the lock was not held. The locker then does not
// trust the session with any other lock, either.
func Test02UnlockDenied(t *testing.T) {
	w := newWorld(t)
	w.exec(`CREATE OR REPLACE FUNCTION pg_catalog.pg_advisory_unlock(bigint) RETURNS bool
		LANGUAGE sql AS 'SELECT $1 IS NULL'`)
	locker := w.locker(nil, nil)
	held, other := w.lock(locker, key), w.lock(locker, lock.Name("other"))
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	w.lost(other)
	assert.ErrorIs(t, other.Unlock(), lock.ErrLost)
	w.soon(func() bool { return len(w.db.Locks(t)) == 0 }, "its locks to be free")
}

func Test03DoubleUnlock(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	held := w.lock(locker, key)
	require.NoError(t, held.Unlock())
	successor := w.lock(locker, key)
	assert.NoError(t, held.Unlock())
	assert.NoError(t, successor.Context().Err())
	assert.Len(t, w.db.Locks(t), 1)
	assert.NoError(t, successor.Unlock())
}

func Test04LateUnlock(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	held := w.lock(locker, key)
	require.NoError(t, w.db.Terminate(pidOf(held)))
	w.lost(held)
	successor := w.lock(locker, key)
	assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	assert.NoError(t, successor.Context().Err())
	assert.Len(t, w.db.Locks(t), 1)
	assert.NoError(t, successor.Unlock())
}

func Test05UnlockWithCancelledContext(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	ctx, cancel := context.WithCancel(w.ctx)
	held, err := locker.Lock(ctx, key)
	require.NoError(t, err)
	cancel()
	assert.NoError(t, held.Context().Err(), "a hold does not end with the context that got it")
	assert.NoError(t, held.Unlock())
	assert.Empty(t, w.db.Locks(t))
}

func Test06CancelWhileWaiting(t *testing.T) {
	w := newWorld(t)
	other, locker := w.locker(nil, nil), w.locker(nil, nil)
	held := w.lock(other, key)
	ctx, cancel := context.WithTimeout(w.ctx, 20*time.Millisecond)
	defer cancel()
	_, err := locker.Lock(ctx, key)
	assert.ErrorIs(t, err, context.DeadlineExceeded)
	assert.ErrorIs(t, err, lock.ErrBusy)
	status, err := locker.Status(w.ctx, key)
	require.NoError(t, err)
	assert.Zero(t, status.WaitersHere)

	// A waiter in the server's queue leaves it, too, long before its slice of a second is over.
	fastest := patience
	for range 5 {
		ctx, cancel := context.WithCancel(w.ctx)
		left := make(chan error)
		go func() {
			_, err := locker.Lock(ctx, key)
			left <- err
		}()
		w.soon(func() bool { return w.queued() != 0 }, "the waiter to be queued")
		cancel()
		assert.ErrorIs(t, <-left, context.Canceled)
		began := time.Now()
		w.soon(func() bool { return w.queued() == 0 }, "the server's queue to be left")
		fastest = min(fastest, time.Since(began))
	}
	assert.Less(t, fastest, atOnce)
	assert.NoError(t, held.Unlock())
}

// The caller's context ends at every moment before the grant.
func Test07CancelAtTheGrant(t *testing.T) {
	w := newWorld(t)
	a, b := w.locker(nil, &lock.PostgresOptions{HandOff: time.Millisecond}), w.locker(nil, &lock.PostgresOptions{HandOff: time.Millisecond})
	var group sync.WaitGroup
	for worker, locker := range []*lock.Postgres{a, a, b, b} {
		group.Go(func() {
			for i := range 2500 {
				ctx, cancel := context.WithTimeout(w.ctx, time.Duration((i*7+worker*13)%250)*time.Microsecond)
				held, err := locker.Lock(ctx, key)
				if err == nil {
					err = held.Unlock()
				}
				assert.True(t, err == nil || errors.Is(err, context.DeadlineExceeded), "%v", err)
				cancel()
			}
		})
	}
	group.Wait()
	w.unlocked(a, key)
	w.unlocked(b, key)
	assert.Empty(t, w.db.Locks(t))
}

// Test08 and Test09: lock_timeout or pg_cancel_backend ends the statement of a waiter in the
// server's queue about when the lock is granted.
func Test08LockTimeoutRace(t *testing.T) {
	queuedRace(t, func(w *world, slice time.Duration, i int) {
		time.Sleep(slice - 5*time.Millisecond + time.Duration(i)*time.Millisecond) // covers the moment at which the slice ends
	})
}

func Test09CancelRace(t *testing.T) {
	queuedRace(t, func(w *world, _ time.Duration, i int) {
		go func() { _, _ = w.db.Pool().Exec(w.ctx, "SELECT pg_cancel_backend($1)", w.queued()) }()
		time.Sleep(time.Duration(i*100) * time.Microsecond) // covers the moment at which it arrives
	})
}

func queuedRace(t *testing.T, delay func(w *world, slice time.Duration, i int)) {
	w := newWorld(t)
	other := w.locker(nil, impatient())
	for i := range 10 {
		locker := w.locker(nil, impatient()) // waits at the server in slices of a third of silence
		held := w.lock(other, key)
		got := w.waiter(locker, key)
		w.soon(func() bool { return w.queued() != 0 }, "the waiter to be queued")
		delay(w, silence/3, i)
		assert.NoError(t, held.Unlock())
		w.await(got, "the queued waiter")
		w.soon(func() bool { return len(w.db.Locks(t)) == 0 }, "the lock to be given back")
	}
}

func Test10CancelIdleHolder(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	held := w.lock(locker, key)
	for range 20 {
		require.True(t, one[bool](w, "SELECT pg_cancel_backend($1)", pidOf(held)))
		_, err := held.Fence(w.ctx)
		require.NoError(t, err)
	}
	assert.NoError(t, held.Context().Err())
	assert.Len(t, w.db.Locks(t), 1)
	assert.NoError(t, held.Unlock())
}

func Test11CancelWaiter(t *testing.T) {
	w := newWorld(t)
	other, locker := w.locker(nil, nil), w.locker(nil, impatient())
	held := w.lock(other, key)
	got := w.waiter(locker, key)
	for range 5 {
		w.soon(func() bool {
			pid := w.queued()
			return pid != 0 && one[bool](w, "SELECT pg_cancel_backend($1)", pid)
		}, "the waiter to be queued")
	}
	assert.NoError(t, held.Unlock())
	w.await(got, "the cancelled waiter")
}

func Test12TerminateHolder(t *testing.T) {
	w := newWorld(t)
	locker := w.locker(nil, nil)
	fastest := patience
	for range 20 {
		held := w.lock(locker, key)
		require.NoError(t, w.db.Terminate(pidOf(held)))
		gone := time.Now()
		fastest = min(fastest, w.lost(held).Sub(gone))
		assert.ErrorIs(t, held.Unlock(), lock.ErrLost)
	}
	assert.Less(t, fastest, atOnce)
	w.unlocked(locker, key)
}

func Test13TerminateWaiter(t *testing.T) {
	w := newWorld(t)
	other, locker := w.locker(nil, nil), w.locker(nil, impatient())
	held := w.lock(other, key)
	got := w.waiter(locker, key)
	for range 3 {
		w.soon(func() bool {
			pid := w.queued()
			return pid != 0 && w.db.Terminate(pid) == nil
		}, "the waiter to be queued")
	}
	assert.NoError(t, held.Unlock())
	w.await(got, "the terminated waiter")
}
