package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/lock"
	"example.com/lockstore/lock/locktest"
	"example.com/lockstore/pgtest"
)

// waiters has so many calls wait in a locker, in the order of their arrival, and returns
// what ends them.
func waiters(t *testing.T, l *lock.Postgres, key lock.Key, n int) (leave func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan struct{}, n)
	for range n {
		waiter := locktest.Arriving(ctx)
		go func() {
			if held, err := l.Lock(waiter, key); err == nil {
				assert.NoError(t, held.Unlock())
			}
			left <- struct{}{}
		}()
		await(t, waiter.Arrived(), "waiter")
	}
	return func() {
		cancel()
		for range n {
			<-left
		}
	}
}

func TestStatusTellsWhoWaitsInAllProcesses(t *testing.T) {
	db := pgtest.New(t)
	holder, other, third, mine := newPostgres(t, db.Pool(), nil), newPostgres(t, db.SQLX(), nil), newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), nil)
	key := lock.Namespace("shop").Name("cart", "7")
	held := take(t, holder, key)
	for _, l := range []*lock.Postgres{holder, other, third} {
		defer waiters(t, l, key, 10)()
	}
	for i := range 3 {
		start := time.Now()
		status, err := mine.Status(t.Context(), key)
		require.NoError(t, err)
		t.Log(time.Since(start), i)
		assert.Equal(t, 30, status.Waiters, "%s", status)
		t.Log(status)
	}
	assert.NoError(t, held.Unlock())
}
