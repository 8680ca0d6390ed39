package lock_test

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"example.com/lockstore/backoff"
	"example.com/lockstore/lock"
	"example.com/lockstore/pgtest"
)

// A call that has ended leaves nothing behind, though there was no wait connection for it.
func TestNothingIsKeptOfCallsThatFoundTheKeyBusy(t *testing.T) {
	brief := func(t *testing.T, l *lock.Postgres) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
		defer cancel()
		_, err := l.Lock(ctx, lock.Name("k"))
		assert.ErrorIs(t, err, lock.ErrBusy)
	}
	impatient := &lock.PostgresOptions{WaitConns: -1, Backoff: backoff.Limit(backoff.Constant{Base: time.Microsecond}, 2)}
	for name, c := range map[string]struct {
		opts *lock.PostgresOptions
		held int // keys that were waited for in the server, and are held on its connections
	}{
		"no connections to wait on": {impatient, 0},
		"all are in use":            {nil, 2},
	} {
		t.Run(name, func(t *testing.T) {
			db := pgtest.New(t)
			other, locker := newPostgres(t, db.Pool(), nil), newPostgres(t, db.Pool(), c.opts)
			for i := range c.held {
				key := lock.Name("held", fmt.Sprint(i))
				first, got := take(t, other, key), make(chan *lock.Held)
				go func() { got <- take(t, locker, key) }()
				awaitServerWaits(t, db, 1)
				require.NoError(t, first.Unlock())
				held := <-got
				defer held.Unlock()
			}
			held := take(t, other, lock.Name("k"))
			defer held.Unlock()
			var group sync.WaitGroup
			for range 4 {
				group.Go(func() {
					for range 10 {
						brief(t, locker)
					}
				})
			}
			group.Wait()
			// An answer may still be on its way.
			assert.Eventually(t, func() bool { return locker.Stats().Keys == c.held }, patience, time.Millisecond, "keys")
			assert.Eventually(t, func() bool { return locker.Wanted() == 0 }, patience, time.Millisecond, "wanted")
		})
	}
}

// A holder that gave the key up when it was asked loses nothing else, even if the evicting
// session does not learn of it, and the next waiter there gets the key before long.
func TestUnheardAnswerToAnEvictionCostsNobodyElse(t *testing.T) {
	t.Parallel() // it mostly waits
	db := pgtest.New(t)
	holder := newPostgres(t, db.Pool(), &lock.PostgresOptions{HandOff: time.Minute})
	proxy := pgtest.NewProxy(t, db)
	evictor := newPostgres(t, through(t, proxy), nil)
	t.Cleanup(proxy.Restore)
	victim, innocent := take(t, holder, lock.Name("victim")), take(t, holder, lock.Name("innocent"))
	next := make(chan *lock.Held, 1)
	go func() { next <- take(t, holder, lock.Name("victim")) }()
	require.Eventually(t, func() bool { return holder.Stats().Waiters == 1 }, patience, time.Millisecond)

	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Second)
	defer cancel()
	evicted := make(chan error, 1)
	go func() { evicted <- evictor.Evict(ctx, lock.Name("victim"), 0) }()
	require.Eventually(t, func() bool { // or the victim was told before the request was seen here
		return victim.Context().Err() != nil || query[bool](t, db.Pool(), "SELECT EXISTS (SELECT FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'lockstore_evict %')")
	}, patience, time.Millisecond, "the request")
	proxy.Blackhole(pgtest.ToClient)
	await(t, victim.Context().Done(), "the victim to be told")
	assert.ErrorIs(t, context.Cause(victim.Context()), lock.ErrEvicted)
	second := <-next
	if err := <-evicted; err != nil { // unless it has heard of it just before
		assert.ErrorIs(t, err, context.DeadlineExceeded)
	}
	assert.ErrorIs(t, victim.Unlock(), lock.ErrEvicted)
	assert.NoError(t, second.Unlock(), "it came after the eviction")
	assert.NoError(t, innocent.Unlock(), "it has nothing to do with it")
	assert.Zero(t, holder.Stats().Lost)
	assert.EqualValues(t, 1, holder.Stats().Evicted)
}
