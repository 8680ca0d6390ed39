package lock_test

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// A leader that loses the lock learns it, and others lead; it competes again.
func TestNextLeaderLeadsWhenOneIsLost(t *testing.T) {
	db := pgtest.New(t)
	key := lock.Name("leader")
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	type term struct {
		who, number int64
		ctx         context.Context
	}
	terms := make(chan term)
	ended := make(chan error, 2)
	for who := range int64(2) {
		l := newPostgres(t, db.Pool(), nil)
		go func() {
			ended <- lock.Lead(ctx, l, key, backoff.Constant{}, func(ctx context.Context, number int64) error {
				terms <- term{who, number, ctx}
				<-ctx.Done()
				return ctx.Err()
			})
		}()
	}
	observer := newPostgres(t, db.Pool(), nil)
	last := <-terms
	for range 4 {
		require.Eventually(t, func() bool { // the other waits
			status, err := observer.Status(ctx, key)
			return err == nil && len(status.Holders) == 1 && status.Waiters == 1 && query[int](t, db.Pool(), "SELECT count(*)"+fromServerWaits) == 1
		}, patience, time.Millisecond)
		terminate(t, db.Pool(), lock.FromContext(last.ctx, key))
		next := <-terms
		assert.NotEqual(t, last.who, next.who)
		assert.Greater(t, next.number, last.number)
		<-last.ctx.Done()
		assert.ErrorIs(t, context.Cause(last.ctx), lock.ErrLost)
		last = next
	}
	cancel()
	for range 2 {
		assert.ErrorIs(t, <-ended, context.Canceled)
	}
}
