package lock_test

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// A caller waits for a key as long as its policy says, from its own call on, whatever was
// first in the wait queue before it and however that left.
func TestEachWaiterHasItsOwnPatience(t *testing.T) {
	const total = 3 * time.Second
	policy := backoff.Within(backoff.Constant{Base: 10 * time.Millisecond}, total)
	for name, c := range map[string]struct {
		waitConns int
		after     time.Duration // the first comes the second
		leaves    time.Duration // is the first one's time; 0: until it gives up
	}{
		"polling, the first gives up early on":        {-1, total / 16, 0},
		"polling, the first one's context ends":       {-1, total / 2, total * 5 / 8},
		"at the server, the first gives up early on":  {1, total / 16, 0},
		"at the server, the first one's context ends": {1, total / 2, total * 5 / 8},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := pgtest.New(t)
			other := newPostgres(t, db.Pool(), nil)
			locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{
				Backoff: policy, WaitConns: c.waitConns,
				Silence: total * 3 / 8, // a third of it is how long a statement waits
			})
			held := take(t, other, lock.Name("k"))
			ctx, cancel := t.Context(), context.CancelFunc(func() {})
			if c.leaves > 0 {
				ctx, cancel = context.WithTimeout(ctx, c.leaves)
			}
			defer cancel()

			type outcome struct {
				err    error
				waited time.Duration
			}
			wait := func(ctx context.Context) <-chan outcome {
				done, begun := make(chan outcome, 1), time.Now()
				go func() {
					_, err := locker.Lock(ctx, lock.Name("k"))
					done <- outcome{err, time.Since(begun)}
				}()
				return done
			}
			first := wait(ctx)
			time.Sleep(c.after)
			second := wait(t.Context())
			a, b := <-first, <-second

			assert.ErrorIs(t, a.err, lock.ErrBusy)
			if c.leaves == 0 {
				assert.ErrorIs(t, a.err, backoff.ErrExhausted)
				assert.GreaterOrEqual(t, a.waited, total)
			}
			var busy *lock.BusyError
			require.ErrorAs(t, b.err, &busy)
			assert.ErrorIs(t, busy, backoff.ErrExhausted)
			assert.GreaterOrEqual(t, b.waited, total, "the second has time of its own")
			assert.Less(t, b.waited, total*13/8, "and no more")
			assert.LessOrEqual(t, busy.Waited, b.waited)
			assert.NoError(t, held.Unlock())
			assert.NoError(t, take(t, locker, lock.Name("k")).Unlock(), "who gave up is not in the way")
		})
	}
}

// The server's answers for the first waiter do not count for those behind it.
func TestAttemptsAreThoseOfTheCaller(t *testing.T) {
	db := pgtest.New(t)
	other := newPostgres(t, db.Pool(), nil)
	locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{WaitConns: -1, Backoff: backoff.Constant{Base: time.Millisecond}})
	held := take(t, other, lock.Name("k"))
	defer held.Unlock()
	operations := func(n int64) func() bool {
		before := locker.Stats().Operations
		return func() bool { return locker.Stats().Operations >= before+n }
	}
	wait := func(ctx context.Context) <-chan error {
		done := make(chan error, 1)
		go func() {
			_, err := locker.Lock(ctx, lock.Name("k"))
			done <- err
		}()
		return done
	}
	attempts := func(err error) int {
		var busy *lock.BusyError
		require.ErrorAs(t, err, &busy)
		return busy.Attempts
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	first := wait(ctx)
	require.Eventually(t, operations(20), patience, time.Millisecond)
	later, cancelToo := context.WithCancel(t.Context())
	defer cancelToo()
	before := locker.Stats().Operations
	second := wait(later)
	require.Eventually(t, func() bool { return locker.Stats().Waiters == 2 }, patience, time.Millisecond)
	require.Eventually(t, operations(5), patience, time.Millisecond)
	cancel()
	assert.GreaterOrEqual(t, attempts(<-first), 20)
	require.Eventually(t, operations(5), patience, time.Millisecond)
	cancelToo()
	assert.LessOrEqual(t, int64(attempts(<-second)), locker.Stats().Operations-before+1)
}

// Waiters behind others give up when their own policy does, too, whatever operation they wait
// in.
func TestEveryoneInLineGivesUpWhenItsPolicyDoes(t *testing.T) {
	const attempts, pause = 5, 100 * time.Millisecond
	policy := backoff.Limit(backoff.Constant{Base: pause, Jitter: backoff.NoJitter}, attempts)
	for name, waitConns := range map[string]int{"polling": -1, "at the server": 1} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			key := lock.Name("k")
			held := take(t, newPostgres(t, db.Pool(), nil), key)
			defer held.Unlock()
			locker := newPostgres(t, db.Pool(), &lock.PostgresOptions{Backoff: policy, WaitConns: waitConns})
			var group sync.WaitGroup
			for range 8 {
				for _, wait := range []func(context.Context) error{
					func(ctx context.Context) error { _, err := locker.Lock(ctx, key); return err },
					func(ctx context.Context) error { _, err := locker.RLock(ctx, key); return err },
					func(ctx context.Context) error { _, err := locker.LockAll(ctx, lock.Name("a"), key); return err },
					func(ctx context.Context) error {
						return lock.Do(ctx, locker, key, func(context.Context) error { return nil })
					},
				} {
					group.Go(func() {
						begun := time.Now()
						var busy *lock.BusyError
						if err := wait(t.Context()); assert.ErrorAs(t, err, &busy) {
							assert.ErrorIs(t, err, backoff.ErrExhausted)
							assert.GreaterOrEqual(t, busy.Attempts, attempts)
							assert.LessOrEqual(t, busy.Attempts, attempts+1)
							assert.Less(t, time.Since(begun), 10*attempts*pause, "not one after the other: there are 32")
						}
					})
				}
			}
			group.Wait()
		})
	}
}
