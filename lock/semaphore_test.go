package lock_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

func TestThousandPermitsTakeOneConnection(t *testing.T) {
	db := pgtest.New(t)
	locker := newPostgres(t, db.Pool(), nil)
	sem, err := lock.NewSemaphore(locker, lock.Name("sem"), 1000)
	require.NoError(t, err)
	var held []*lock.Held
	for range 1000 {
		h, err := sem.Acquire(t.Context())
		require.NoError(t, err)
		held = append(held, h)
	}
	_, err = sem.TryAcquire(t.Context())
	assert.ErrorIs(t, err, lock.ErrBusy)
	assert.EqualValues(t, 1, locker.Stats().Sessions)
	assert.Equal(t, 1000, query[int](t, db.Pool(), advisoryLocks))
	for _, h := range held {
		require.NoError(t, h.Unlock())
	}
	assert.Zero(t, query[int](t, db.Pool(), advisoryLocks))
	_, err = lock.NewSemaphore(locker, lock.Name("sem"), 1001)
	assert.ErrorIs(t, err, lock.ErrTooMany, "more than PostgresOptions.MaxKeys")
}

// Processes share the permits of one name, which go round between them. A process that has
// ended has none.
func TestPermitsAreOfAllProcesses(t *testing.T) {
	db := pgtest.New(t)
	const permits = 2
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	var sems []*lock.Semaphore
	var lockers []*lock.Postgres
	for range 3 {
		l := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Millisecond})
		sem, err := lock.NewSemaphore(l, lock.Namespace("app").Name("sem"), permits)
		require.NoError(t, err)
		sems, lockers = append(sems, sem), append(lockers, l)
	}
	var inside atomic.Int64
	served := make(chan int, 100)
	working, stop := context.WithCancel(ctx)
	var groups []chan struct{}
	for p, sem := range sems {
		for range 4 {
			over := make(chan struct{})
			groups = append(groups, over)
			go func() {
				defer close(over)
				for {
					h, err := sem.Acquire(working)
					if err != nil {
						assert.ErrorIs(t, err, context.Canceled)
						return
					}
					assert.LessOrEqual(t, inside.Add(1), int64(permits))
					select {
					case served <- p:
					case <-working.Done():
					}
					inside.Add(-1)
					assert.NoError(t, h.Unlock())
				}
			}()
		}
	}
	seen := map[int]int{}
	for seen[0] < 20 || seen[1] < 20 || seen[2] < 20 {
		select {
		case p := <-served:
			seen[p]++
		case <-ctx.Done():
			require.FailNow(t, "not all are served", seen)
		}
	}
	stop()
	for _, over := range groups {
		<-over
	}

	first, err := sems[0].Acquire(ctx)
	require.NoError(t, err)
	second, err := sems[1].Acquire(ctx)
	require.NoError(t, err)
	list, err := lockers[2].List(ctx, "app")
	require.NoError(t, err)
	assert.Len(t, list, permits, "each is seen")
	got := make(chan *lock.Held, 2)
	wait := func() {
		h, err := sems[2].Acquire(ctx)
		assert.NoError(t, err)
		got <- h
	}
	go wait()
	terminate(t, db.Pool(), first)
	third := <-got
	assert.Equal(t, first.Key(), third.Key())
	<-first.Context().Done()
	assert.ErrorIs(t, context.Cause(first.Context()), lock.ErrLost)

	go wait()
	require.NoError(t, lockers[0].Evict(ctx, second.Key(), patience))
	assert.ErrorIs(t, context.Cause(second.Context()), lock.ErrEvicted)
	fourth := <-got
	for _, h := range []*lock.Held{third, fourth} {
		assert.NoError(t, h.Unlock())
	}
}
